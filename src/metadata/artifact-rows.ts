import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { Manifest } from '../oci/manifest.js';
import { filesOf, type ModelFile } from '../weights/packaging.js';
import { readManifest } from './release-content.js';
import type { FollowedModel } from './release-rows.js';

/** Files as rows `w` of a statement: six parameters from number `first`, as `fileParameters` gives them. */
export function fileRows(first: number): string {
  const types = ['text', 'text', 'text', 'text', 'bigint', 'text'];
  return `unnest(${types.map((type, index) => `$${first + index}::${type}[]`).join(', ')})
            with ordinality as w (name, path, media_type, digest, size_bytes, format, position)`;
}

const PUT_LAYERS = `with wanted as (
        select w.*, row_number() over (partition by w.digest, w.path order by w.position) as nth from ${fileRows(3)}),
      there as (
        select id, digest, path, row_number() over (partition by digest, path order by position, id) as nth
          from artifacts where release_id = $1 and kind = 'layer'),
      matched as (
        select t.id, w.position, w.media_type from there t
          join wanted w on w.digest = t.digest and w.path is not distinct from t.path and w.nth = t.nth),
      kept as (update artifacts a set position = m.position, media_type = m.media_type, repository = null, blob = null
                 from matched m where a.id = m.id
                  and (a.position <> m.position or a.media_type <> m.media_type or a.blob is not null)),
      gone as (delete from artifacts a using there t where a.id = t.id and t.id not in (select id from matched)
               returning a.repository, a.blob),
      -- What only a draft had goes to the collector's queue.
      queued as (insert into review_requests (kind, repository, digest)
                 select distinct 'blob', repository, blob from gone where blob is not null)
 insert into artifacts (release_id, name, kind, position, media_type, digest, size_bytes, path, checksum, format, created_by)
 select $1, w.name, 'layer', w.position, w.media_type, w.digest, w.size_bytes, w.path, w.digest, w.format, $2
   from wanted w where w.position not in (select position from matched)`;

/**
 * Makes the artifacts of kind layer what the manifest names. What is there already, by digest and path, stays with its id
 * and what was written about it.
 */
export async function putLayers(
  transaction: Queries,
  release: string,
  files: readonly ModelFile[],
  { key }: Pick<Actor, 'key'>,
): Promise<void> {
  await transaction.query(PUT_LAYERS, [release, key, ...fileParameters(files)]);
}

export function fileParameters(files: readonly ModelFile[]): readonly unknown[][] {
  return [
    files.map((file) => file.name),
    files.map((file) => file.path ?? null),
    files.map((file) => file.mediaType),
    files.map((file) => file.digest),
    files.map((file) => file.size),
    files.map((file) => file.format ?? null),
  ];
}

/** Artifacts of what refers to a release's manifest: those of a former one go, those of this one come. */
export async function attachReferrersOf(
  transaction: Queries,
  model: FollowedModel,
  release: string,
  digest: Digest,
  referred: boolean,
  actor: Actor,
): Promise<void> {
  const gone = await transaction.query(
    `delete from artifacts a where a.release_id = $1 and a.kind = 'attached' and not exists (
       select from manifests m where m.repository = $2 and m.digest = a.manifest and m.subject = $3) returning id`,
    [release, model.repository_id, digest],
  );
  if (!referred && gone.length === 0) return;
  const referrers = await transaction.query<{ digest: Digest }>(
    // Whoever removes one waits, and then finds what was made of it here.
    'select digest from manifests where repository = $1 and subject = $2 order by created_at, digest for key share',
    [model.repository_id, digest],
  );
  for (const referrer of referrers) {
    const manifest = await readManifest(transaction, model.repository_id, referrer.digest);
    if (manifest) await attach(transaction, [release], referrer.digest, manifest, actor);
  }
}

/**
 * The releases of a manifest that is being referred to, held until the transaction ends. Whoever points a tag to that
 * manifest holds it in key share: of the two, the later sees what the other did. @returns their ids
 */
export async function holdReleasesOf(
  transaction: Queries,
  model: Pick<FollowedModel, 'id' | 'repository_id'>,
  digest: Digest,
): Promise<string[]> {
  await transaction.query('select from manifests where repository = $1 and digest = $2 for update', [
    model.repository_id,
    digest,
  ]);
  const rows = await transaction.query<{ id: string }>(
    'select id from releases where model_id = $1 and digest = $2 order by id for share',
    [model.id, digest],
  );
  return rows.map((row) => row.id);
}

/** The layers of a referrer become attached artifacts of releases. @returns ids of those that are new. */
export async function attach(
  transaction: Queries,
  releases: readonly string[],
  digest: Digest,
  manifest: Manifest,
  actor: Actor,
): Promise<string[]> {
  const files = filesOf(manifest);
  if (files.length === 0 || releases.length === 0) return [];
  const rows = await transaction.query<{ id: string }>(
    `insert into artifacts (release_id, name, kind, position, manifest, media_type, digest, size_bytes, path, checksum, format, created_by)
     select r.id, w.name, 'attached', w.position, $2, w.media_type, w.digest, w.size_bytes, w.path, w.digest, w.format, $3
       from unnest($1::uuid[]) as r (id), ${fileRows(4)}
      where not exists (select from artifacts a where a.release_id = r.id and a.manifest = $2)
     returning id`,
    [releases, digest, actor.key, ...fileParameters(files)],
  );
  return rows.map((row) => row.id);
}

/** Queues what only drafts hold for the collector: of a release that is being removed, or of all of a model. */
export async function releaseBlobs(
  transaction: Queries,
  of: { readonly release: string } | { readonly model: string },
): Promise<void> {
  const [which, id] = 'release' in of ? ['id = $1', of.release] : ['model_id = $1', of.model];
  await transaction.query(
    `insert into review_requests (kind, repository, digest)
     select distinct 'blob', a.repository, a.blob from artifacts a join releases r on r.id = a.release_id
      where r.${which} and a.blob is not null`,
    [id],
  );
}
