import type { Queries } from '../database/connect.js';
import { isFailure } from '../errors.js';
import { type Digest, digestOf } from '../oci/digest.js';
import { parseManifest } from '../oci/manifest.js';
import { buildManifest, EMPTY_CONFIG, EMPTY_CONFIG_BYTES } from '../oci/manifest-builder.js';
import { OCI_IMAGE_MANIFEST } from '../oci/media-types.js';
import type { RepositoryName } from '../oci/name.js';
import { putManifest } from '../registry/manifest-rows.js';
import type { Registry } from '../registry/registry.js';
import { attach, holdReleasesOf } from './artifact-rows.js';
import { conflict } from './failures.js';
import type { FollowedModel } from './release-rows.js';
import type { Release } from './releases.js';
import type { Caller } from './rights.js';

/** What a manifest that attaches a file is, where neither the caller nor the file says. */
const ATTACHMENT = 'application/vnd.weighhouse.attachment.v1';
const OCTETS = 'application/octet-stream';
const TITLE = 'org.opencontainers.image.title';
/** What we build is small. */
const BUILT = { maxBytes: 1024 * 1024, maxDepth: 16, maxDescriptors: 16 };

export interface AttachedFile {
  readonly name: string;
  readonly path: string;
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  readonly mediaType: string;
  readonly artifactType: string | undefined;
}

/** Puts small bytes into a repository as a blob, unless they are there; before the transaction that needs them. */
export async function putBytes(
  { blobs, uploads }: Pick<Registry, 'blobs' | 'uploads'>,
  caller: Caller,
  repository: RepositoryName,
  bytes: Uint8Array,
): Promise<Digest> {
  const digest = digestOf('sha256', bytes);
  try {
    await blobs.get(repository, digest);
  } catch (error) {
    if (!isFailure(error, 'BlobUnknown')) throw error;
    const body = {
      from: undefined,
      length: bytes.length,
      async *read() {
        yield bytes;
      },
    };
    await uploads.store(repository, body, digest, caller.actor);
  }
  return digest;
}

/** The empty config, which every manifest of `attachFile` names. */
export async function putEmptyConfig(
  registry: Pick<Registry, 'blobs' | 'uploads'>,
  caller: Caller,
  repository: RepositoryName,
): Promise<void> {
  await putBytes(registry, caller, repository, EMPTY_CONFIG_BYTES);
}

/**
 * Attaches a file to a published release: a manifest whose subject is the release's, as `oras attach` makes it. The same file
 * again is the same manifest, and the artifact that is there. @returns the artifact's id
 */
export async function attachFile(
  transaction: Queries,
  caller: Caller,
  release: Release,
  model: FollowedModel,
  file: AttachedFile,
): Promise<string> {
  const repository = release.image_repository;
  const [subject] = await transaction.query<{ digest: Digest; media_type: string; size: number }>(
    'select digest, media_type, size from manifests where repository = $1 and digest = $2 for key share',
    [model.repository_id, release.digest],
  );
  if (!subject) throw conflict('The manifest of this release is gone', [{ type: 'release', id: release.id }]);
  const payload = buildManifest({
    artifactType: file.artifactType ?? (file.mediaType === OCTETS ? ATTACHMENT : file.mediaType),
    config: EMPTY_CONFIG,
    layers: [{ mediaType: file.mediaType, digest: file.digest, size: file.size, annotations: { [TITLE]: file.path } }],
    subject: { mediaType: subject.media_type, digest: subject.digest, size: subject.size },
  });
  const digest = digestOf('sha256', payload);
  const manifest = parseManifest(payload, OCI_IMAGE_MANIFEST, BUILT);
  await putManifest(transaction, { repository, digest, payload, manifest, tags: [] }, caller.actor);
  await caller.record(transaction, {
    kind: 'manifest-pushed',
    repository,
    digest,
    size: payload.length,
    manifest,
    tags: [],
    moved: [],
  });
  const named = await holdReleasesOf(transaction, model, subject.digest);
  await attach(transaction, named, digest, manifest, caller.actor);
  const [row] = await transaction.query<{ id: string }>(
    'select id from artifacts where release_id = $1 and manifest = $2',
    [release.id, digest],
  );
  if (!row) throw new Error('the attached artifact was not stored');
  return row.id;
}
