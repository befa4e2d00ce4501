import type { Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { dropBody, dropSpares } from './bodies.js';
import { takenUpload } from './upload-sessions.js';

/** A session whose bytes are all durable, recorded or about to be. */
export interface Commit {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly body: number;
  readonly epoch: number;
  readonly digest: Digest;
  /** Bytes of the whole blob. */
  readonly size: number;
  /** The segment of the request that commits, with what was sealed. */
  readonly segment:
    | { readonly id: number; readonly length: number; readonly objectSize: number; readonly state: unknown }
    | undefined;
  /** How long the bytes of a body that is replaced stay for its readers, in seconds. */
  readonly readGraceSeconds: number;
}

/**
 * Makes a session's body the blob `digest` of its repository. Constant time; commits the caller's transaction or nothing.
 *
 * Races: two commits of one digest meet at the primary key of `blobs`, the later waits for the earlier and then locks its
 * row, as mount and the collector do. Live or condemned, the existing body stays and is revived, ours goes; quarantined,
 * ours takes its place. Two commits of one session meet at its row; the epoch lets one through.
 *
 * @throws 'UploadTaken' if the session is no longer the caller's.
 */
export async function commitSession(transaction: Queries, commit: Commit): Promise<void> {
  const held = await transaction.query<{ repository: number }>(
    `update uploads set committed_digest = $3, body = null, epoch = epoch + 1, "offset" = $4, told_offset = $4
      where id = $1 and epoch = $2 and committed_digest is null and expires_at > now() returning repository`,
    [commit.id, commit.epoch, commit.digest, commit.size],
  );
  const repository = held[0]?.repository;
  if (repository === undefined) throw takenUpload();
  if (commit.segment) {
    const { id, length, objectSize, state } = commit.segment;
    await transaction.query('update segments set length = $2, object_size = $3, state = $4 where id = $1', [
      id,
      length,
      objectSize,
      state === null ? null : JSON.stringify(state),
    ]);
  }
  await dropSpares(transaction, commit.body);
  await nameBody(transaction, commit);
  await transaction.query('insert into repository_blobs (repository, digest) values ($1, $2) on conflict do nothing', [
    repository,
    commit.digest,
  ]);
}

async function nameBody(transaction: Queries, commit: Commit): Promise<void> {
  const made = await transaction.query(
    'insert into blobs (digest, size, body) values ($1, $2, $3) on conflict (digest) do nothing returning digest',
    [commit.digest, commit.size, commit.body],
  );
  if (made.length > 0) return;
  const [existing] = await transaction.query<{ body: number; size: number; quarantined: boolean }>(
    `select body, size, quarantined_at is not null as quarantined from blobs where digest = $1 for update`,
    [commit.digest],
  );
  // The collector removed it between the two statements: the whole commit is tried again.
  if (!existing) throw new RegistryError('Unavailable', 'the blob is being collected', { retryAfter: 1 });
  if (existing.size !== commit.size && !existing.quarantined) {
    throw new Error(`blob ${commit.digest} has ${existing.size} bytes in its row, but ${commit.size} bytes hash to it`);
  }
  if (existing.quarantined) {
    await transaction.query(
      'update blobs set body = $2, size = $3, quarantined_at = null, condemned_at = null where digest = $1 and body = $4',
      [commit.digest, commit.body, commit.size, existing.body],
    );
    await dropBody(transaction, existing.body, commit.readGraceSeconds);
    return;
  }
  await transaction.query('update blobs set condemned_at = null where digest = $1 and condemned_at is not null', [
    commit.digest,
  ]);
  await dropBody(transaction, commit.body, 0);
}

/** Whether the blob is (still) in the repository, as far as anybody may see it. */
export async function isLinked(queries: Queries, repository: RepositoryName, digest: Digest): Promise<boolean> {
  const rows = await queries.query(
    `select from repositories r join repository_blobs l on l.repository = r.id join blobs b on b.digest = l.digest
      where r.name = $1 and l.digest = $2 and b.condemned_at is null and b.quarantined_at is null`,
    [repository, digest],
  );
  return rows.length > 0;
}
