import type { Queries } from '../database/connect.js';
import { type Digest, digestOf } from '../oci/digest.js';
import { parseManifest } from '../oci/manifest.js';
import { OCI_IMAGE_MANIFEST } from '../oci/media-types.js';
import type { Tag } from '../oci/name.js';
import { putManifest } from '../registry/manifest-rows.js';
import type { Registry } from '../registry/registry.js';
import { buildModelPack, type ModelPack } from '../weights/modelpack.js';
import { putBytes } from './attach.js';
import { conflict } from './failures.js';
import { contentOf } from './release-content.js';
import { audit, holdRelease } from './release-changes.js';
import { setNewestRelease } from './release-rows.js';
import { getRelease, type Release } from './releases.js';
import type { Caller } from './rights.js';

/** What we build has a descriptor a file. */
const BUILT = { maxBytes: Number.MAX_SAFE_INTEGER, maxDepth: 64, maxDescriptors: Number.MAX_SAFE_INTEGER };

/** A draft as it is to be published: the files that it had then, and the manifest of them. */
export interface Prepared {
  readonly files: string;
  readonly pack: ModelPack;
}

/**
 * Builds a draft's manifest and makes its config durable, before the transaction that publishes it.
 * @throws 'Conflict' if it is no draft, or has no files
 */
export async function preparePublication(
  queries: Queries,
  registry: Pick<Registry, 'blobs' | 'uploads'>,
  caller: Caller,
  id: string,
): Promise<Prepared> {
  const release = await getRelease(queries, caller.rights, id);
  caller.rights.require('push', release.image_repository);
  checkDraft(release);
  const files = await draftFiles(queries, id);
  if (files.length === 0) throw conflict("A draft without files can't be published", [{ type: 'release', id }]);
  const pack = buildModelPack(files, await factsOf(queries, release));
  await putBytes(registry, caller, release.image_repository, pack.config);
  return { files: JSON.stringify(files), pack };
}

function checkDraft(release: Release): void {
  if (release.status !== 'draft')
    throw conflict('Only a draft can be published', [
      { type: 'release', id: release.id, tag: release.tag, status: release.status },
    ]);
}

async function draftFiles(queries: Queries, release: string) {
  return await queries.query<{ path: string; digest: Digest; size: number; mediaType: string }>(
    `select path, digest, size_bytes as size, media_type as "mediaType" from artifacts
      where release_id = $1 and blob is not null order by position, id`,
    [release],
  );
}

async function factsOf(queries: Queries, release: Release) {
  const [model] = await queries.query<{ parameter_count: number | null }>(
    'select parameter_count from models where id = $1',
    [release.model_id],
  );
  return {
    name: release.image_name,
    ...(release.version === '' ? {} : { version: release.version }),
    ...(release.quantization === null ? {} : { quantization: release.quantization }),
    ...(model?.parameter_count ? { parameters: model.parameter_count } : {}),
    created: release.created_at,
  };
}

/**
 * Publishes a draft: its manifest, its tag and the release in one transaction.
 * @returns undefined if its files changed since it was prepared: prepare it again.
 */
export async function publishRelease(
  transaction: Queries,
  caller: Caller,
  id: string,
  { files, pack }: Prepared,
): Promise<Release | undefined> {
  const { release: before, model } = await holdRelease(transaction, caller, id, 'push');
  caller.expect(before);
  checkDraft(before);
  if (JSON.stringify(await draftFiles(transaction, id)) !== files) return undefined;
  const repository = before.image_repository;
  const payload = pack.manifest;
  const digest = digestOf('sha256', payload);
  const manifest = parseManifest(payload, OCI_IMAGE_MANIFEST, BUILT);
  const tags = [before.tag as Tag];
  const moved = await putManifest(transaction, { repository, digest, payload, manifest, tags }, caller.actor);
  await caller.record(transaction, {
    kind: 'manifest-pushed',
    repository,
    digest,
    size: payload.length,
    manifest,
    tags,
    moved,
  });
  const config: unknown = JSON.parse(Buffer.from(pack.config).toString('utf8'));
  const content = await contentOf(transaction, model.repository_id, digest, manifest, config);
  await setNewestRelease(transaction, model, before, content, caller.actor);
  const release = await getRelease(transaction, caller.rights, id);
  await audit(transaction, caller, 'release.publish', { before, after: release }, release);
  return release;
}
