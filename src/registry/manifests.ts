import { brokenConstraint, type Database, type Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import type { Digest } from '../oci/digest.js';
import type { Manifest, ManifestReference } from '../oci/manifest.js';
import type { Reference, RepositoryName, Tag } from '../oci/name.js';
import { type Actor, announce, type ChangeObserver } from './changes.js';
import { ensureRepository } from './repositories.js';

/** A manifest as it was pushed. */
export interface StoredManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Bytes. */
  readonly size: number;
}

export interface ManifestsOptions {
  readonly database: Database;
  readonly observers: readonly ChangeObserver[];
}

/** What a PUT of a manifest brings. */
export interface ManifestPush {
  readonly repository: RepositoryName;
  /** Of exactly `payload`, in the algorithm in which it is to be found. */
  readonly digest: Digest;
  readonly payload: Uint8Array;
  readonly manifest: Manifest;
  readonly tags: readonly Tag[];
}

const MAX_ATTEMPTS = 5;

/** Manifests of repositories: opaque bytes, and what they name. */
export class Manifests {
  readonly #options: ManifestsOptions;

  constructor(options: ManifestsOptions) {
    this.#options = options;
  }

  /** What HEAD needs. @throws 'ManifestUnknown' */
  async get(repository: RepositoryName, reference: Reference): Promise<StoredManifest> {
    return await this.#select<StoredManifest>(repository, reference, '');
  }

  /** What GET needs, with the bytes exactly as they were pushed. @throws 'ManifestUnknown' */
  async getPayload(
    repository: RepositoryName,
    reference: Reference,
  ): Promise<StoredManifest & { readonly payload: Buffer }> {
    return await this.#select<StoredManifest & { payload: Buffer }>(repository, reference, ', m.payload');
  }

  async #select<Row extends StoredManifest>(
    repository: RepositoryName,
    reference: Reference,
    more: '' | ', m.payload',
  ): Promise<Row> {
    const columns = `m.digest, m.media_type as "mediaType", m.size${more}`;
    const byTag = 'tag' in reference;
    const [row] = await this.#options.database.query<Row>(
      byTag
        ? `select ${columns} from repositories r join tags t on t.repository = r.id
             join manifests m on m.repository = r.id and m.digest = t.digest where r.name = $1 and t.name = $2`
        : `select ${columns} from repositories r join manifests m on m.repository = r.id where r.name = $1 and m.digest = $2`,
      [repository, byTag ? reference.tag : reference.digest],
    );
    if (!row) throw unknownManifest(reference);
    return row;
  }

  /**
   * Stores a manifest and sets its tags, or does neither. The foreign key of `manifest_references.blob` holds each blob in
   * the repository from here on: a DELETE of one that runs at the same time either comes first, and this is refused, or
   * waits and is refused itself.
   * @throws 'ManifestBlobUnknown', naming the blobs that are not in the repository.
   */
  async put(push: ManifestPush, actor: Actor): Promise<void> {
    const { database, observers } = this.#options;
    const { repository, digest, manifest, tags } = push;
    for (let attempt = 1; ; attempt++) {
      try {
        await database.transaction(async (transaction) => {
          const id = await ensureRepository(transaction, repository);
          await lockBlobs(transaction, id, manifest);
          await insertManifest(transaction, id, push);
          await setTags(transaction, id, digest, tags, actor);
          await announce(
            observers,
            { kind: 'manifest-pushed', repository, digest, manifest, tags },
            actor,
            transaction,
          );
        });
        return;
      } catch (error) {
        // A DELETE of the same manifest or of one of its blobs came in between: another attempt sees what is there now.
        const raced = ['tags_manifest', 'manifest_references_manifest', 'manifest_references_blob'].includes(
          brokenConstraint(error) ?? '',
        );
        if (!raced || attempt >= MAX_ATTEMPTS) throw error;
      }
    }
  }

  /** Removes a manifest and with it every tag that points to it. @throws 'ManifestUnknown' */
  async remove(repository: RepositoryName, digest: Digest, actor: Actor): Promise<void> {
    const { database, observers } = this.#options;
    await database.transaction(async (transaction) => {
      const [row] = await transaction.query<{ id: number }>(
        `select r.id from repositories r join manifests m on m.repository = r.id where r.name = $1 and m.digest = $2 for update of m`,
        [repository, digest],
      );
      if (!row) throw unknownManifest({ digest });
      const gone = await transaction.query<{ name: string }>(
        `with gone as (delete from tags where repository = $1 and digest = $2 returning name),
              noted as (insert into tag_events (repository, name, previous, actor) select $1, name, $2, $3 from gone)
         select name from gone`,
        [row.id, digest, actor.key],
      );
      await transaction.query(
        `with named as (delete from manifest_references where repository = $1 and manifest = $2 returning digest, kind)
         insert into reviews (kind, repository, digest)
         select case when kind = 'manifest' then 'manifest' else 'blob' end, case when kind = 'manifest' then $1::bigint end, digest
           from named order by 1, 3 on conflict do nothing`,
        [row.id, digest],
      );
      await transaction.query('delete from manifests where repository = $1 and digest = $2', [row.id, digest]);
      const tags = gone.map((tag) => tag.name);
      await announce(observers, { kind: 'manifest-removed', repository, digest, tags }, actor, transaction);
    });
  }
}

/** An index may come before what it lists. */
function mustBeThere(reference: ManifestReference): boolean {
  return reference.required && reference.kind !== 'manifest';
}

/**
 * Locks the blobs that must be in the repository, in one order, against removal and against being condemned (which wants
 * the row FOR UPDATE); revives those that are condemned.
 * @throws 'ManifestBlobUnknown', naming those that are not there.
 */
async function lockBlobs(transaction: Queries, repository: number, manifest: Manifest): Promise<void> {
  const required = manifest.references.filter(mustBeThere).map((reference) => reference.digest);
  if (required.length === 0) return;
  const rows = await transaction.query<{ digest: Digest; condemned: boolean }>(
    `select l.digest, b.condemned_at is not null as condemned from repository_blobs l join blobs b on b.digest = l.digest
      where l.repository = $1 and l.digest = any($2::text[]) order by l.digest for key share of l, b`,
    [repository, required],
  );
  const found = new Set(rows.map((row) => row.digest));
  const missing = [...new Set(required)].filter((digest) => !found.has(digest));
  if (missing.length > 0) {
    throw new RegistryError(
      'ManifestBlobUnknown',
      `the manifest names ${missing.length === 1 ? 'a blob that is' : 'blobs that are'} not in this repository`,
      {
        detail: { missing: missing.slice(0, 100) },
      },
    );
  }
  if (rows.some((row) => row.condemned)) {
    await transaction.query('update blobs set condemned_at = null where digest = any($1::text[])', [required]);
  }
}

async function insertManifest(transaction: Queries, repository: number, push: ManifestPush): Promise<void> {
  const { digest, payload, manifest } = push;
  const named = manifest.references.filter((reference) => reference.kind !== 'subject');
  await transaction.query(
    `with stored as (
       insert into manifests (repository, digest, media_type, artifact_type, subject, size, payload, annotations)
       values ($1, $2, $3, $4, $5, $6, $7, $8)
       on conflict (repository, digest) do update set media_type = excluded.media_type where manifests.media_type <> excluded.media_type)
     insert into manifest_references (repository, manifest, digest, kind, media_type, size, blob)
     select $1, $2, r.digest, r.kind, r.media_type, r.size, case when r.required then r.digest end
       from unnest($9::text[], $10::text[], $11::text[], $12::bigint[], $13::boolean[]) as r (digest, kind, media_type, size, required)
     on conflict do nothing`,
    [
      repository,
      digest,
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
      named.map(mustBeThere),
    ],
  );
}

/** Points the tags to the manifest, in one order for all, and notes which of them moved from where. */
async function setTags(
  transaction: Queries,
  repository: number,
  digest: Digest,
  tags: readonly Tag[],
  actor: Actor,
): Promise<void> {
  if (tags.length === 0) return;
  await transaction.query(
    `with wanted as (select name from unnest($3::text[]) as w (name) order by name collate "C"),
          before as (select t.name, t.digest from tags t join wanted w on w.name = t.name where t.repository = $1 for update of t),
          moved as (insert into tags (repository, name, digest) select $1, name, $2 from wanted
                    on conflict (repository, name) do update set digest = excluded.digest, updated_at = now()
                    where tags.digest <> excluded.digest returning name),
          noted as (insert into tag_events (repository, name, digest, previous, actor)
                    select $1, moved.name, $2, before.digest, $4 from moved left join before using (name))
     insert into reviews (kind, repository, digest)
     select distinct 'manifest', $1::bigint, before.digest from before join moved using (name) on conflict do nothing`,
    [repository, digest, [...new Set(tags)], actor.key],
  );
}

function unknownManifest(reference: Reference): RegistryError {
  return new RegistryError('ManifestUnknown', 'no such manifest in this repository', { detail: { ...reference } });
}
