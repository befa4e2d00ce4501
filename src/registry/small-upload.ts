import { brokenConstraint, isRetryable, type Queries } from '../database/connect.js';
import { type Insert, insertParts } from '../database/insert.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { newSegmentKey } from '../storage/segment-store.js';
import type { UploadBody } from './uploads.js';

/** By so much a blob's newest link may be newer than its row says. */
const RENEW_LINK_SECONDS = 60;

/** All bytes of a blob that is small enough for its row, with the session that brought them. */
export interface SmallUpload {
  readonly id: string;
  readonly repository: RepositoryName;
  /** Of exactly `bytes`. */
  readonly digest: Digest;
  /** Not empty. */
  readonly bytes: Uint8Array;
  /** What the observers of the push have to insert. */
  readonly inserts: readonly Insert[];
}

/** A body that was read whole, or as far as it came; `body` gives what was read once more, and its failure. */
export interface ReadSmall {
  /** All of it, if that is as much as was announced. */
  readonly bytes: Uint8Array | undefined;
  readonly body: UploadBody;
}

/** Reads a body of at most `maxBytes` at once. @returns undefined, and nothing is read, if it is larger or may be. */
export async function readSmall(body: UploadBody, maxBytes: number): Promise<ReadSmall | undefined> {
  const { length } = body;
  if (length === undefined || length === 0 || length > maxBytes) return undefined;
  const chunks: Uint8Array[] = [];
  let failure: { readonly error: unknown } | undefined;
  try {
    // The pieces are lent.
    for await (const bytes of body.read(new AbortController().signal)) chunks.push(Uint8Array.from(bytes));
  } catch (error) {
    failure = { error };
  }
  async function* read(): AsyncGenerator<Uint8Array> {
    yield* chunks;
    if (failure) throw failure.error;
  }
  const all = Buffer.concat(chunks);
  return { bytes: failure === undefined && all.length === length ? all : undefined, body: { ...body, read } };
}

/**
 * Commits a session that nobody has taken yet with all its bytes, by one statement that is its own transaction: the bytes in
 * the row of their segment, or nothing of them where the blob is there already. What is rarer is left to the way of all
 * uploads: a blob that is quarantined, two commits of one digest at once, a session that has bytes.
 *
 * Races: two requests of one session meet at its row, where the epoch lets one through. A blob that is there is held FOR
 * KEY SHARE, against the collector; one that another transaction is just making is waited
 * for at its primary key. A link that was renewed a moment ago is not renewed again: what everybody pushes, such as the
 * empty config, would have them all wait for each other's commits.
 *
 * @returns whether it was committed; if not, nothing has changed.
 */
export async function commitSmall(queries: Queries, upload: SmallUpload): Promise<boolean> {
  const { id, repository, digest, bytes, inserts } = upload;
  const values: unknown[] = [id, repository, digest, bytes.length, newSegmentKey(id, 1), bytes];
  const noted = insertParts(inserts, values, 'where exists (select from held)');
  try {
    const [row] = await queries.query<{ held: boolean }>(
      `with known as materialized (
         select quarantined_at is null and size = $4 as live from blobs where digest = $3 for key share),
       held as (
         update uploads u set committed_digest = $3, body = null, epoch = 2, "offset" = $4, told_offset = $4
           from uploads former, repositories r
          where former.id = u.id and u.id = $1 and r.id = u.repository and r.name = $2 and u.epoch = 0
            and u.committed_digest is null and u.expires_at > now() and not exists (select from known where not live)
         returning u.repository, former.body),
       made as (
         insert into blobs (digest, size, body) select $3, $4, body from held where not exists (select from known)
         returning body),
       stored as (
         insert into segments (body, key, position, length, object_size, bytes) select body, $5, 1, $4, $4, $6 from made),
       dropped as (delete from bodies where id in (select body from held where exists (select from known))),
       linked as (
         insert into repository_blobs (repository, digest) select repository, $3 from held
          where not exists (select from repository_blobs l where l.repository = held.repository and l.digest = $3
                               and l.condemned_at is null and l.linked_at > now() - make_interval(secs => ${RENEW_LINK_SECONDS}))
         on conflict (repository, digest) do update set linked_at = now(), condemned_at = null)${noted.map((part, index) => `, i${index} as (${part})`).join('')}
       select exists (select from held) as held`,
      values,
    );
    return row?.held ?? false;
  } catch (error) {
    // Made by another, or removed, since this statement began.
    if (['blobs_pk', 'repository_blobs_blob'].includes(brokenConstraint(error) ?? '') || isRetryable(error))
      return false;
    throw error;
  }
}
