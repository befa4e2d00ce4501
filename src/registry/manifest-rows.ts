import { brokenConstraint, type Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import { attachedTags } from '../oci/attached-tags.js';
import type { Digest } from '../oci/digest.js';
import type { Manifest } from '../oci/manifest.js';
import type { Reference, RepositoryName, Tag } from '../oci/name.js';
import { orphanReferrers } from './attached.js';
import type { Actor, MovedTag } from './changes.js';
import { outlast } from './remembered.js';
import { ensureRepository } from './repositories.js';
import { holdManifests, reviveLinks } from './reviews.js';
import { setTagsParts } from './tag-rows.js';

/** What a PUT of a manifest brings. */
export interface ManifestPush {
  readonly repository: RepositoryName;
  /** Of exactly `payload`, in the algorithm in which it is to be found. */
  readonly digest: Digest;
  readonly payload: Uint8Array;
  readonly manifest: Manifest;
  readonly tags: readonly Tag[];
}

/** What was removed with a manifest. */
export interface RemovedManifest {
  /** In bytes. */
  readonly size: number;
  readonly mediaType: string;
  readonly tags: readonly Tag[];
}

/**
 * Stores a manifest and sets its tags; whom to tell of it is the caller's affair. The foreign key of
 * `manifest_references.blob` holds each blob in the repository from here on: a DELETE of one that runs at the same time
 * either comes first, and this is refused, or waits and is refused itself.
 * @returns the tags that are new or moved.
 * @throws 'ManifestBlobUnknown', naming the blobs that are not in the repository. An error for which `lostToRemoval` holds
 *   asks for another attempt, in a new transaction.
 */
export async function putManifest(
  transaction: Queries,
  push: ManifestPush,
  actor: Actor,
  alone = false,
): Promise<MovedTag[]> {
  const named = push.manifest.references.filter(({ kind }) => kind !== 'subject' && kind !== 'manifest');
  const digests = named.map((reference) => reference.digest);
  let blobs = alone ? [] : await lockBlobs(transaction, push.repository, digests);
  const id =
    blobs[0]?.repository ?? (await ensureRepository(transaction, push.repository, alone ? 'update' : 'key share'));
  if (blobs.length === 0) blobs = await lockBlobs(transaction, push.repository, digests);
  const there = new Set(blobs.map(({ digest }) => digest));
  const required = named.filter((reference) => reference.required).map((reference) => reference.digest);
  requireBlobs(required, there);
  await reviveLinks(
    transaction,
    id,
    blobs.filter(({ condemned }) => condemned).map(({ digest }) => digest),
  );
  const listed = push.manifest.references.filter(({ kind }) => kind === 'manifest');
  await holdManifests(
    transaction,
    id,
    listed.map((reference) => reference.digest),
  );
  return await insertManifest(transaction, id, push, there, actor);
}

/** Whether a DELETE of the same manifest or of one of its blobs came in between: another attempt sees what is there now. */
export function lostToRemoval(error: unknown): boolean {
  const broken = brokenConstraint(error) ?? '';
  return ['tags_manifest', 'manifest_references_manifest', 'manifest_references_blob'].includes(broken);
}

/**
 * Removes a manifest and with it every tag that points to it; what it named goes to the collector's queue. Whom to tell of
 * it is the caller's affair.
 * @throws 'ManifestUnknown'
 */
export async function removeManifest(
  transaction: Queries,
  repository: RepositoryName,
  digest: Digest,
  actor: Actor,
): Promise<RemovedManifest> {
  const [row] = await transaction.query<{ id: number; size: number; mediaType: string; unseen: boolean }>(
    `select r.id, m.size, m.media_type as "mediaType",
            coalesce(m.condemned_at < now() - interval '1 second', false) as unseen
       from repositories r join manifests m on m.repository = r.id
      where r.name = $1 and m.digest = $2 for key share of r for update of m`,
    [repository, digest],
  );
  if (!row) throw unknownManifest({ digest });
  // Who condemned it waited until nobody remembered it: the collector removes many of them, one after the other.
  if (!row.unseen) outlast(transaction);
  const gone = await transaction.query<{ name: Tag }>(
    `with gone as (delete from tags where repository = $1 and digest = $2 returning name),
          noted as (insert into tag_events (repository, name, previous, actor) select $1, name, $2, $3 from gone)
     select name from gone`,
    [row.id, digest, actor.key],
  );
  await transaction.query(
    `with named as (delete from manifest_references where repository = $1 and manifest = $2 returning digest, kind)
     insert into review_requests (kind, repository, digest)
     select distinct case when kind = 'manifest' then 'manifest' else 'blob' end, $1::bigint, digest
       from named`,
    [row.id, digest],
  );
  await orphanReferrers(transaction, row.id, digest);
  await transaction.query('delete from manifests where repository = $1 and digest = $2', [row.id, digest]);
  return { size: row.size, mediaType: row.mediaType, tags: gone.map((tag) => tag.name) };
}

export function unknownManifest(reference: Reference): RegistryError {
  return new RegistryError('ManifestUnknown', 'no such manifest in this repository', { detail: { ...reference } });
}

interface LockedBlob {
  /** The repository's id. */
  readonly repository: number;
  readonly digest: Digest;
  readonly condemned: boolean;
}

/**
 * Locks the repository and the blobs that are in it, in one order, against removal and against being condemned (which wants
 * the link FOR UPDATE). An index may come before what it lists, but no manifest before its blobs. @returns
 * those that are there; a quarantined one is not, as for HEAD: whoever pushes it heals it.
 */
async function lockBlobs(
  transaction: Queries,
  repository: RepositoryName,
  digests: readonly Digest[],
): Promise<LockedBlob[]> {
  if (digests.length === 0) return [];
  return await transaction.query<LockedBlob>(
    `with known as materialized (select id from repositories where name = $1 for key share)
     select l.repository, l.digest, l.condemned_at is not null as condemned
       from repository_blobs l join blobs b on b.digest = l.digest
      where l.repository = (select id from known) and l.digest = any($2::text[]) and b.quarantined_at is null
      order by l.digest for key share of l`,
    [repository, digests],
  );
}

/** @throws 'ManifestBlobUnknown', naming those that are not there. */
function requireBlobs(required: readonly Digest[], there: ReadonlySet<Digest>): void {
  const missing = [...new Set(required)].filter((digest) => !there.has(digest));
  if (missing.length > 0) {
    throw new RegistryError(
      'ManifestBlobUnknown',
      `the manifest names ${missing.length === 1 ? 'a blob that is' : 'blobs that are'} not in this repository`,
      {
        detail: { missing: missing.slice(0, 100) },
      },
    );
  }
}

/** Stores the manifest and what it names, then sets its tags. @returns those that are new or moved. */
async function insertManifest(
  transaction: Queries,
  repository: number,
  push: ManifestPush,
  blobs: ReadonlySet<Digest>,
  actor: Actor,
): Promise<MovedTag[]> {
  const { digest, payload, manifest, tags } = push;
  const named = manifest.references.filter((reference) => reference.kind !== 'subject');
  const attached = attachedTags(digest);
  const [pushed] = await transaction.query<{ moved: MovedTag[]; retyped: boolean }>(
    `with stored as (
       insert into manifests (repository, digest, media_type, artifact_type, subject, size, payload, annotations)
       values ($1, $2, $5, $6, $7, $8, $9, $10)
       on conflict (repository, digest) do update
          set media_type = excluded.media_type, size = excluded.size, payload = excluded.payload, condemned_at = null
        where manifests.media_type <> excluded.media_type or manifests.condemned_at is not null
           or manifests.payload <> excluded.payload
       returning xmax <> 0 as retyped),
     named as (
       insert into manifest_references (repository, manifest, digest, kind, media_type, size, blob)
       select $1, $2, r.digest, r.kind, r.media_type, r.size, case when r.is_blob then r.digest end
         from unnest($11::text[], $12::text[], $13::text[], $14::bigint[], $15::boolean[]) as r (digest, kind, media_type, size, is_blob)
       on conflict do nothing),
     -- Whoever was told 201 has the whole wait before it.
     renewed as (
       insert into review_requests (kind, repository, digest) select 'manifest', $1::bigint, $2
        where exists (select from reviews v where v.kind = 'manifest' and v.repository = $1 and v.digest = $2)
           or exists (select from review_requests v where v.kind = 'manifest' and v.repository = $1 and v.digest = $2)),
     -- What refers to it need not go any more.
     revived as (
       update manifests set condemned_at = null
        where repository = $1 and condemned_at is not null and digest <> $2 and digest = any(array(
          select digest from manifests where repository = $1 and subject = $2
          union all select digest from tags where repository = $1 and name = any($16::text[])))),
     ${setTagsParts('stored')}
     select coalesce((select json_agg(json_build_object('tag', name, 'previous', previous) order by name) from moved), '[]') as moved,
            exists (select from stored where retyped) as retyped`,
    [
      repository,
      digest,
      [...new Set(tags)],
      actor.key,
      manifest.mediaType,
      manifest.artifactType ?? null,
      manifest.subject ?? null,
      payload.length,
      payload,
      manifest.annotations ? JSON.stringify(manifest.annotations) : null,
      named.map((reference) => reference.digest),
      named.map((reference) => reference.kind),
      named.map((reference) => reference.mediaType),
      named.map((reference) => reference.size),
      named.map(({ kind, digest }) => kind !== 'manifest' && blobs.has(digest)),
      [attached.index, ...attached.others],
    ],
  );
  const { moved, retyped } = pushed ?? { moved: [], retyped: false };
  if (retyped || moved.some(({ previous }) => previous !== null)) outlast(transaction);
  return moved;
}
