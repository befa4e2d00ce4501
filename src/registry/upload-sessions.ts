import { randomUUID } from 'node:crypto';
import type { Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import type { Digest, DigestAlgorithm } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import type { SegmentKey } from '../storage/segment-store.js';
import { dropBody, SEGMENTS_JSON, type Segment } from './bodies.js';
import type { Actor } from './changes.js';
import { FOLLOWER_SILENT } from './follower-rows.js';
import { unknownUpload } from './upload-errors.js';

/** A session's row with the segments of its body. Offsets and sizes in bytes. */
export interface UploadSession {
  readonly id: string;
  readonly body: number | null;
  readonly epoch: number;
  /** The last epoch in which bytes lost their names. */
  readonly rewoundEpoch: number;
  readonly offset: number;
  readonly toldOffset: number;
  readonly algorithm: DigestAlgorithm;
  readonly prefixSize: number;
  readonly prefixDigest: Digest | null;
  readonly committedDigest: Digest | null;
  /** The process that keeps the running digest of all that it has read, if there is one (decision 0021). */
  readonly follower: string | null;
  /** Whether the follower has bytes to read and gives no sign of life. */
  readonly followerSilent: boolean;
  readonly segments: readonly Segment[];
}

/** A session that this request holds: its epoch is this request's own until somebody raises it. */
export interface TakenSession extends UploadSession {
  readonly body: number;
  readonly committedDigest: null;
  /** The segment that this request fills, its row already committed, a spare so far; undefined if it brings no bytes. */
  readonly segment: { readonly id: number; readonly key: SegmentKey } | undefined;
}

/** A session that has ended well; its row stays so that its end can be repeated. */
export interface CommittedSession extends UploadSession {
  readonly committedDigest: Digest;
}

/** PostgreSQL's channel on which `<upload id> <epoch>` tells the former holder of a session that it was taken or ended. */
export const TAKEN_CHANNEL = 'weighhouse_upload_taken';

const UPLOAD_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** When a key whose sessions are all taken may try again, in seconds. */
const FULL_RETRY_SECONDS = 60;

const COLUMNS = `b.id, b.body, b.epoch, b.rewound_epoch as "rewoundEpoch", b."offset", b.told_offset as "toldOffset", b.algorithm,
  b.prefix_size as "prefixSize", b.prefix_digest as "prefixDigest", b.committed_digest as "committedDigest",
  b.follower, ${FOLLOWER_SILENT} as "followerSilent", ${SEGMENTS_JSON} as segments`;
/** SQL: the session `$1` of the repository `$2` as `b`, unless it has expired. */
export const LIVE = `from uploads b join repositories r on r.id = b.repository where b.id = $1 and r.name = $2 and b.expires_at > now()`;

/**
 * Opens a session, and its repository if there is none of that name, in one statement; nothing is stored yet. Requests
 * that come together don't see each other, so a key may pass its limit by as many as it has under way.
 * @returns its id.
 * @throws 'TooManyRequests' if the key has `sessionsPerKey` open ones.
 */
export async function createSession(
  queries: Queries,
  options: {
    repository: RepositoryName;
    algorithm: DigestAlgorithm;
    actor: Actor;
    lifetimeSeconds: number;
    sessionsPerKey: number;
  },
): Promise<string> {
  const id = randomUUID();
  const { repository, algorithm, actor, lifetimeSeconds, sessionsPerKey } = options;
  for (;;) {
    const [made] = await queries.query<{ free: boolean; opened: boolean }>(
      `with room as (select count(*) < $6 as free from (select from uploads
                      where actor = $4 and committed_digest is null and expires_at > now() limit $6) open),
            known as (select id from repositories where name = $2),
            made as (insert into repositories (name) select $2 from room where free and not exists (select from known)
                     on conflict (name) do nothing returning id),
            repository as (select known.id from known, room where free union all select id from made),
            body as (insert into bodies (created_at) select now() from repository returning id),
            opened as (insert into uploads (id, repository, body, algorithm, actor, expires_at)
                       select $1, repository.id, body.id, $3, $4, now() + make_interval(secs => $5)
                         from repository, body returning id)
       select free, exists (select from opened) as opened from room`,
      [id, repository, algorithm, actor.key, lifetimeSeconds, sessionsPerKey],
    );
    if (made?.opened) return id;
    if (made?.free === false)
      throw new RegistryError(
        'TooManyRequests',
        `this key has ${sessionsPerKey} uploads open (REGISTRY_SESSIONS_PER_KEY); end or cancel some`,
        { retryAfter: FULL_RETRY_SECONDS },
      );
    // Another transaction made the repository after this statement's snapshot; the next one sees it.
  }
}

/** The session, unlocked. @throws 'UploadUnknown' if there is none of that id in that repository, or it has expired. */
export async function getSession(queries: Queries, id: string, repository: RepositoryName): Promise<UploadSession> {
  const [row] = await queries.query<UploadSession>(`select ${COLUMNS} ${LIVE}`, [id, repository]);
  if (!row) throw unknownUpload(id);
  return row;
}

/** The digest of all that the session holds, if its row knows it. */
export function prefixOf(session: UploadSession, algorithm: DigestAlgorithm): Digest | undefined {
  const holds = session.algorithm === algorithm && session.prefixSize === session.offset;
  return holds ? (session.prefixDigest ?? undefined) : undefined;
}

/** Whether a session has been committed as this blob, in whatever repository. */
export async function isCommitted(queries: Queries, id: string, digest: Digest): Promise<boolean> {
  const rows = await queries.query('select from uploads where id = $1 and committed_digest = $2', [id, digest]);
  return rows.length > 0;
}

/** Who began a session, and when, in seconds since 1970. */
export interface SessionOrigin {
  readonly actor: string;
  readonly createdAt: number;
}

/** The origin of a session, if there is one of that id in that repository that has not expired. */
export async function findOrigin(
  queries: Queries,
  id: string,
  repository: RepositoryName,
): Promise<SessionOrigin | undefined> {
  const [row] = await queries.query<SessionOrigin>(
    `select b.actor, extract(epoch from b.created_at)::float8 as "createdAt" ${LIVE}`,
    [id, repository],
  );
  return row;
}

/** Whether a text can be the id of a session. */
export function isUploadId(text: string): boolean {
  return UPLOAD_ID.test(text);
}

/** The offset of a session that is not committed, which counts as told from now on. @throws 'UploadUnknown' */
export async function tellOffset(queries: Queries, id: string, repository: RepositoryName): Promise<number> {
  const [row] = await queries.query<{ offset: number }>(
    `update uploads u set told_offset = u."offset" from repositories r
      where u.id = $1 and r.id = u.repository and r.name = $2 and u.expires_at > now() and u.committed_digest is null
      returning u."offset"`,
    [id, repository],
  );
  if (!row) throw unknownUpload(id);
  return row.offset;
}

/** Ends a session that is not committed and gives its bytes up. @throws 'UploadUnknown' */
export async function cancelSession(transaction: Queries, id: string, repository: RepositoryName): Promise<void> {
  const [row] = await transaction.query<{ body: number; epoch: number }>(
    `delete from uploads u using repositories r
      where u.id = $1 and r.id = u.repository and r.name = $2 and u.expires_at > now() and u.committed_digest is null
      returning u.body, u.epoch`,
    [id, repository],
  );
  if (!row) throw unknownUpload(id);
  await dropBody(transaction, row.body, 0);
  await announceTaken(transaction, id, row.epoch + 1);
}

/** Removes at most `limit` sessions that have expired, committed or not. @returns how many. */
export async function expireSessions(transaction: Queries, limit: number): Promise<number> {
  const rows = await transaction.query<{ id: string; body: number | null; epoch: number }>(
    `with due as materialized (
       select id from uploads where expires_at <= now() order by expires_at limit $1 for update skip locked)
     delete from uploads u using due where u.id = due.id and u.expires_at <= now() returning u.id, u.body, u.epoch`,
    [limit],
  );
  for (const row of rows) {
    if (row.body === null) continue;
    await dropBody(transaction, row.body, 0);
    await announceTaken(transaction, row.id, row.epoch + 1);
  }
  return rows.length;
}

/** Ends the sessions of an actor that are not committed, at most `limit` at a time. @returns how many. */
export async function endSessionsOf(transaction: Queries, actors: readonly string[], limit: number): Promise<number> {
  const rows = await transaction.query<{ id: string; body: number; epoch: number }>(
    `with theirs as materialized (
       select id from uploads where actor = any($1::text[]) and committed_digest is null order by id limit $2 for update)
     delete from uploads u using theirs where u.id = theirs.id returning u.id, u.body, u.epoch`,
    [actors, limit],
  );
  for (const row of rows) {
    await dropBody(transaction, row.body, 0);
    await announceTaken(transaction, row.id, row.epoch + 1);
  }
  return rows.length;
}

/** How many sessions can be resumed; counts no further than `limit`. */
export async function countOpenUploads(queries: Queries, limit: number): Promise<number> {
  const [row] = await queries.query<{ sessions: number }>(
    `select count(*) as sessions
       from (select from uploads where body is not null and expires_at > now() limit $1) as open`,
    [limit],
  );
  return row?.sessions ?? 0;
}

/** Tells whoever held the session before `epoch`, in whatever process, that its bytes count no more. */
export async function announceTaken(transaction: Queries, id: string, epoch: number): Promise<void> {
  await transaction.query('select pg_notify($1, $2)', [TAKEN_CHANNEL, `${id} ${epoch}`]);
}
