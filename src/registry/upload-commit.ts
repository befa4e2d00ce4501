import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { dropBody } from './bodies.js';
import { outlast } from './remembered.js';
import { takenUpload } from './upload-errors.js';
import { announceTaken } from './upload-sessions.js';

/** A session whose bytes are all durable and recorded, at the latest in the transaction that commits it. */
export interface Commit {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly body: number;
  readonly epoch: number;
  readonly digest: Digest;
  /** Bytes of the whole blob. */
  readonly size: number;
  /** How long the bytes of a body that is replaced stay for its readers, in seconds. */
  readonly readGraceSeconds: number;
}

/**
 * Makes a session's body the blob `digest` of its repository. Constant time; commits the caller's transaction or nothing.
 *
 * Races: two commits of one digest meet at the primary key of `blobs`, the later waits for the earlier and then locks its
 * row, as mount and the collector do. The existing body stays, ours goes; quarantined, ours takes its
 * place. A link that is condemned is revived, one that the collector is just taking away is made anew. Two commits of one session meet at its row; the epoch lets one through. A record of a writer at
 * work in the same epoch moves the offset, and then the size is wrong.
 *
 * @returns whether a quarantined blob was healed by it.
 * @throws 'UploadTaken' if the session is no longer the caller's, or no longer of that size.
 */
export async function commitSession(transaction: Queries, commit: Commit): Promise<boolean> {
  const { id, epoch, digest, size, body } = commit;
  // One statement for what most commits are: of bytes that nobody has pushed before. It drops spares as `dropSpares` does.
  const [held] = await transaction.query<{ repository: number; spares: number; isNew: boolean }>(
    `with held as (
       update uploads set committed_digest = $3, body = null, epoch = epoch + 1, told_offset = $4
        where id = $1 and epoch = $2 and "offset" = $4 and committed_digest is null and expires_at > now()
        returning repository),
     gone as (delete from segments where body = $5 and position is null and exists (select from held) returning key),
     queued as (insert into removals (key, not_before) select key, now() from gone),
     made as (insert into blobs (digest, size, body) select $3, $4, $5 from held on conflict (digest) do nothing
              returning digest),
     linked as (insert into repository_blobs (repository, digest) select held.repository, made.digest from held, made)
     select repository, (select count(*) from gone) as spares, exists (select from made) as "isNew" from held`,
    [id, epoch, digest, size, body],
  );
  if (!held) throw takenUpload();
  if (held.spares > 0) await announceTaken(transaction, id, epoch + 1);
  if (held.isNew) return false;
  const healed = await nameBody(transaction, commit);
  await transaction.query(
    `insert into repository_blobs (repository, digest) values ($1, $2)
     on conflict (repository, digest) do update set linked_at = now(), condemned_at = null`,
    [held.repository, digest],
  );
  return healed;
}

/** @returns whether the blob was quarantined. */
async function nameBody(transaction: Queries, commit: Commit): Promise<boolean> {
  const existing = await insertOrLock(transaction, commit);
  if (!existing) return false;
  if (existing.quarantined) {
    await transaction.query('update blobs set body = $2, size = $3, quarantined_at = null where digest = $1', [
      commit.digest,
      commit.body,
      commit.size,
    ]);
    await dropBody(transaction, existing.body, commit.readGraceSeconds);
    // From a moment before the quarantine somebody may remember where the wrong ones are.
    outlast(transaction);
    return true;
  }
  if (existing.size !== commit.size) {
    throw new Error(`blob ${commit.digest} has ${existing.size} bytes in its row, but ${commit.size} bytes hash to it`);
  }
  await dropBody(transaction, commit.body, 0);
  return false;
}

/** Makes the blob's row, or locks the one that is there. @returns the latter, undefined if the row is new. */
async function insertOrLock(transaction: Queries, commit: Commit) {
  for (;;) {
    const made = await transaction.query(
      'insert into blobs (digest, size, body) values ($1, $2, $3) on conflict (digest) do nothing returning digest',
      [commit.digest, commit.size, commit.body],
    );
    if (made.length > 0) return undefined;
    const [existing] = await transaction.query<{ body: number; size: number; quarantined: boolean }>(
      'select body, size, quarantined_at is not null as quarantined from blobs where digest = $1 for update',
      [commit.digest],
    );
    if (existing) return existing;
    // The collector removed it between the two statements; the next insert finds it gone.
  }
}

/** Whether the blob is (still) in the repository, as far as anybody may see it. */
export async function isLinked(queries: Queries, repository: RepositoryName, digest: Digest): Promise<boolean> {
  const rows = await queries.query(
    `select from repositories r join repository_blobs l on l.repository = r.id join blobs b on b.digest = l.digest
      where r.name = $1 and l.digest = $2 and l.condemned_at is null and b.quarantined_at is null`,
    [repository, digest],
  );
  return rows.length > 0;
}
