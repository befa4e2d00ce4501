import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import { type Manifest, parseManifest } from '../oci/manifest.js';
import { type Facts, factsOf, filesOf, isModelLike, type ModelFile, wantsConfig } from '../weights/packaging.js';
import type { TagMeaning } from '../weights/tag.js';

/** What a manifest comes to as a release. Sizes in bytes. */
export interface ReleaseContent {
  readonly digest: Digest;
  /** At most 255 characters. */
  readonly mediaType: string;
  /** At most 255 characters. */
  readonly artifactType: string | null;
  /** Everything that the manifest names, each digest once. */
  readonly size: number;
  readonly files: readonly ModelFile[];
  /** What is known under a tag, which says something, too. Null: the config has to be read first, which a job does. */
  facts(tag: TagMeaning): Facts | null;
  readonly subject: Digest | null;
}

/** What the columns hold; no push fails for the rest. */
const LONGEST_TYPE = 255;

/** What was pushed has passed the limits of its day; those of today must not make it unreadable. */
const STORED = { maxBytes: Number.MAX_SAFE_INTEGER, maxDepth: 1000, maxDescriptors: Number.MAX_SAFE_INTEGER };

/** What a manifest that is being pushed comes to; `config`, if it was read. */
export async function contentOf(
  transaction: Queries,
  repository: number,
  digest: Digest,
  manifest: Manifest,
  config: unknown,
): Promise<ReleaseContent> {
  const children = manifest.kind === 'index' ? await childrenOf(transaction, repository, manifest) : [];
  const parts = manifest.kind === 'index' ? children : [manifest];
  const sizes = new Map<string, number>();
  for (const part of [manifest, ...children])
    for (const { kind, digest: named, size } of part.references) if (kind !== 'subject') sizes.set(named, size);
  // What an index lists need not be there, so its sizes may be anything.
  let size = 0;
  for (const value of sizes.values()) size = Math.min(size + value, Number.MAX_SAFE_INTEGER);
  const unread = config === undefined && wantsConfig(manifest);
  return {
    digest,
    mediaType: manifest.mediaType.slice(0, LONGEST_TYPE),
    artifactType: manifest.artifactType?.slice(0, LONGEST_TYPE) ?? null,
    size,
    files: parts.flatMap((part) => filesOf(part, part === manifest ? config : undefined)),
    facts: (tag) => (unread ? null : factsOf(manifest, config, tag)),
    subject: manifest.subject ?? null,
  };
}

/** What a stored manifest comes to. @returns undefined if it is not there. */
export async function storedContent(
  transaction: Queries,
  repository: number,
  digest: Digest,
): Promise<(ReleaseContent & { readonly modelLike: boolean }) | undefined> {
  const manifest = await readManifest(transaction, repository, digest);
  if (!manifest) return undefined;
  return {
    ...(await contentOf(transaction, repository, digest, manifest, undefined)),
    modelLike: isModelLike(manifest),
  };
}

/** A manifest of a repository, parsed. */
export async function readManifest(
  queries: Queries,
  repository: number,
  digest: Digest,
): Promise<Manifest | undefined> {
  const [row] = await queries.query<{ payload: Buffer; media_type: string }>(
    'select payload, media_type from manifests where repository = $1 and digest = $2',
    [repository, digest],
  );
  return row && parseManifest(row.payload, row.media_type, STORED);
}

/** The images that an index lists, as far as they are there. */
async function childrenOf(transaction: Queries, repository: number, index: Manifest): Promise<Manifest[]> {
  const digests = [...new Set(index.manifests.map((child) => child.digest))];
  const rows = await transaction.query<{ digest: string; payload: Buffer; media_type: string }>(
    'select digest, payload, media_type from manifests where repository = $1 and digest = any($2::text[])',
    [repository, digests],
  );
  const found = new Map(rows.map((row) => [row.digest, parseManifest(row.payload, row.media_type, STORED)]));
  return digests.flatMap((digest) => {
    const child = found.get(digest);
    return child?.kind === 'image' ? [child] : [];
  });
}
