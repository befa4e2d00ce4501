import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { removeManifest } from '../registry/manifest-rows.js';
import { reviewBlobs, reviveLinks } from '../registry/reviews.js';
import { formatOf } from '../weights/format.js';
import { type Artifact, type ArtifactPlace, getArtifact } from './artifacts.js';
import { attachFile } from './attach.js';
import { writeAudit } from './audit.js';
import { conflict, digestField, faultsOf, invalid, invalidField } from './failures.js';
import { nameOf, type NewArtifact, noBlob, placeOf } from './new-artifact.js';
import { holdRelease } from './release-changes.js';
import type { Release } from './releases.js';
import type { FollowedModel } from './release-rows.js';
import type { Caller } from './rights.js';

/** What can be changed, and what a file is, which can't; absent: not said. */
export interface ArtifactInput {
  readonly name?: string;
  readonly path?: string | null;
  readonly media_type?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly digest?: string;
  readonly size_bytes?: number;
}

const OCTETS = 'application/octet-stream';

/**
 * Adds a file to a release: to a draft as one of its files, to a published one as a referrer of its manifest, for which the
 * empty config has to be in the repository.
 * @throws 'Invalid' for a digest that is not there, 'Conflict' for a path that is taken
 */
export async function createArtifact(transaction: Queries, caller: Caller, input: NewArtifact): Promise<Artifact> {
  const { id } = await placeOf(transaction, caller, input);
  const { release, model } = await holdRelease(transaction, caller, id, 'push');
  const file = { ...nameOf(input), digest: digestField(input.digest), mediaType: input.media_type ?? OCTETS };
  const size = await holdBlob(transaction, model, file.digest);
  const made =
    release.status === 'draft'
      ? await addToDraft(transaction, caller, release, model, { ...file, size })
      : await attachFile(transaction, caller, release, model, { ...file, size, artifactType: input.artifact_type });
  if (input.metadata !== undefined)
    await transaction.query('update artifacts set metadata = $2 where id = $1', [made, JSON.stringify(input.metadata)]);
  const { artifact } = await getArtifact(transaction, caller.rights, made);
  await audit(transaction, caller, 'artifact.create', artifact, release.image_repository, { after: artifact });
  return artifact;
}

/** Holds a blob in the repository until the transaction ends; revives one that is condemned. @returns its size in bytes. @throws 'Invalid' */
async function holdBlob(transaction: Queries, model: FollowedModel, digest: Digest): Promise<number> {
  const [row] = await transaction.query<{ size: number; condemned: boolean }>(
    `select b.size, l.condemned_at is not null as condemned from repository_blobs l join blobs b on b.digest = l.digest
      where l.repository = $1 and l.digest = $2 and b.quarantined_at is null for key share of l`,
    [model.repository_id, digest],
  );
  if (!row) throw noBlob();
  if (row.condemned) await reviveLinks(transaction, model.repository_id, [digest]);
  return row.size;
}

interface File {
  readonly name: string;
  readonly path: string;
  readonly digest: Digest;
  readonly mediaType: string;
  /** In bytes. */
  readonly size: number;
}

async function addToDraft(
  transaction: Queries,
  caller: Caller,
  release: Release,
  model: FollowedModel,
  file: File,
): Promise<string> {
  await checkPath(transaction, release.id, file.path);
  const [row] = await transaction.query<{ id: string }>(
    `insert into artifacts (release_id, name, kind, position, media_type, digest, size_bytes, path, checksum, format, repository, blob, created_by)
     values ($1, $2, 'layer', (select coalesce(max(position) + 1, 0) from artifacts where release_id = $1), $3, $4, $5, $6, $4, $7, $8, $4, $9) returning id`,
    [
      release.id,
      file.name,
      file.mediaType,
      file.digest,
      file.size,
      file.path,
      formatOf(file.mediaType, file.path) ?? null,
      model.repository_id,
      caller.actor.key,
    ],
  );
  await touchDraft(transaction, release.id);
  if (!row) throw new Error('the artifact was not stored');
  return row.id;
}

/** Files of a draft lie beside each other. @throws 'Conflict' if another than `except` has the path, or lies above or below it */
async function checkPath(transaction: Queries, release: string, path: string, except?: string): Promise<void> {
  const taken = await transaction.query<{ id: string; path: string }>(
    `select id, path from artifacts where release_id = $1 and blob is not null and ($3::uuid is null or id <> $3)
        and (path = $2 or starts_with(path, $2 || '/') or starts_with($2, path || '/'))`,
    [release, path, except ?? null],
  );
  if (taken.length === 0) return;
  throw conflict(
    'Another file of this draft has this path, or lies above or below it',
    taken.map((file) => ({ type: 'artifact', id: file.id, path: file.path })),
  );
}

/** A draft is as large as its files. */
async function touchDraft(transaction: Queries, release: string): Promise<void> {
  await transaction.query(
    `update releases set updated_at = now(),
            size_bytes = (select coalesce(sum(size_bytes), 0) from artifacts where release_id = $1 and blob is not null)
      where id = $1 and status = 'draft'`,
    [release],
  );
}

/** Changes an artifact. Digest and size are fixed, path and media type of what is published as well. @throws 'Conflict' */
export async function changeArtifact(
  transaction: Queries,
  caller: Caller,
  id: string,
  input: ArtifactInput,
  how: 'replace' | 'merge',
): Promise<Artifact> {
  const { before, place } = await hold(transaction, caller, id, 'push');
  const said: ArtifactInput = how === 'merge' ? input : { metadata: {}, ...input };
  const { name = before.name, media_type = before.media_type, metadata = before.metadata } = said;
  const path = said.path === undefined ? before.path : said.path;
  const draft = place.release_status === 'draft';
  const moves = draft && path !== before.path;
  const faults = await faultsOf(
    () => caller.expect(before),
    () => moves && checkName(path),
  );
  if (faults.length > 0) throw invalid(...faults);
  const { digest = before.digest, size_bytes = before.size_bytes } = said;
  if (digest !== before.digest || size_bytes !== before.size_bytes)
    throw conflict('Digest and size of a file are fixed: add another one', [
      { type: 'artifact', id, digest: before.digest },
    ]);
  if (!draft && (path !== before.path || media_type !== before.media_type))
    throw conflict('Path and media type of what is published are fixed', [{ type: 'release', id: before.release_id }]);
  if (moves && path !== null) await checkPath(transaction, before.release_id, path, id);
  await transaction.query(
    `update artifacts set name = $2, path = $3, media_type = $4, metadata = $5, format = case when $6 then $7 else format end,
            updated_at = now() where id = $1`,
    [id, name, path, media_type, JSON.stringify(metadata), draft, formatOf(media_type, path ?? name) ?? null],
  );
  const { artifact } = await getArtifact(transaction, caller.rights, id);
  await audit(transaction, caller, 'artifact.update', artifact, place.repository, { before, after: artifact });
  return artifact;
}

/** @throws 'Invalid' for a path that no file of a draft can have */
function checkName(path: string | null): void {
  if (path === null) throw invalidField('path', 'a file of a draft has a path');
  nameOf({ path });
}

/** Takes a file out of a draft, or what attaches it to a release away. @throws 'Conflict' for a layer of what is published */
export async function removeArtifact(transaction: Queries, caller: Caller, id: string): Promise<void> {
  const { before, place } = await hold(transaction, caller, id, 'delete');
  caller.expect(before);
  if (place.manifest !== null) await detach(transaction, caller, before, place.repository, place.manifest);
  else if (place.release_status === 'draft') {
    const [gone] = await transaction.query<{ repository: number | null }>(
      'delete from artifacts where id = $1 returning repository',
      [id],
    );
    if (gone?.repository) await reviewBlobs(transaction, gone.repository, [before.digest]);
    await touchDraft(transaction, before.release_id);
  } else
    throw conflict('A file of a published release is part of its manifest', [
      { type: 'release', id: before.release_id },
    ]);
  await audit(transaction, caller, 'artifact.delete', before, place.repository, { before });
}

async function detach(
  transaction: Queries,
  caller: Caller,
  artifact: Artifact,
  repository: RepositoryName,
  manifest: Digest,
): Promise<void> {
  const others = await transaction.query<{ id: string; name: string }>(
    'select id, name from artifacts where release_id = $1 and manifest = $2 and id <> $3',
    [artifact.release_id, manifest, artifact.id],
  );
  if (others.length > 0)
    throw conflict(
      'It was attached together with others',
      others.map(({ id, name }) => ({ type: 'artifact', id, name })),
    );
  const removed = await removeManifest(transaction, repository, manifest, caller.actor);
  await caller.record(transaction, { kind: 'manifest-removed', repository, digest: manifest, ...removed });
  await transaction.query(
    'delete from artifacts where manifest = $1 and release_id in (select id from releases where model_id = (select model_id from releases where id = $2))',
    [manifest, artifact.release_id],
  );
}

/** An artifact with its release held, so that it is not published meanwhile. */
async function hold(
  transaction: Queries,
  caller: Caller,
  id: string,
  right: 'push' | 'delete',
): Promise<{ before: Artifact; place: ArtifactPlace }> {
  const seen = await getArtifact(transaction, caller.rights, id);
  caller.rights.require(right, seen.place.repository);
  await holdRelease(transaction, caller, seen.artifact.release_id, right);
  const { artifact, place } = await getArtifact(transaction, caller.rights, id);
  return { before: artifact, place };
}

async function audit(
  transaction: Queries,
  caller: Caller,
  action: string,
  artifact: Artifact,
  repository: RepositoryName,
  details: Readonly<Record<string, unknown>>,
): Promise<void> {
  await writeAudit(transaction, caller.actor, {
    action,
    resourceType: 'artifact',
    resourceId: artifact.id,
    repository,
    details,
  });
}
