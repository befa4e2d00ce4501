import type { Queries } from '../database/connect.js';
import type { Digest, DigestAlgorithm } from '../oci/digest.js';
import { SEGMENTS_JSON, type Segment } from './bodies.js';
import { takenUpload } from './upload-errors.js';

/** A follower that is behind and gave no sign for so long is taken for dead; one that lives gives a sign every second. */
const SILENT_SECONDS = 5;
const SIGN_SECONDS = 1;

/** SQL: whether the follower of the session `b` is behind and silent. */
export const FOLLOWER_SILENT = `(b.prefix_size < b."offset" and b.followed_at < now() - interval '${SILENT_SECONDS} seconds')`;

/** The session whose first bytes a digest is of, as whoever read them found its row. */
export interface PrefixOwner {
  readonly id: string;
  readonly rewoundEpoch: number;
  readonly algorithm: DigestAlgorithm;
}

/** What a follower reads. Offsets and sizes in bytes. */
export interface FollowedSession extends PrefixOwner {
  readonly epoch: number;
  readonly offset: number;
  readonly prefixSize: number;
  readonly segments: readonly Segment[];
}

/**
 * Gives a sign of life for those of the sessions that the follower is behind in.
 * @returns where each of them stands that is open and still the follower's.
 */
export async function lookAtFollowed(
  queries: Queries,
  follower: string,
  ids: readonly string[],
): Promise<{ readonly id: string; readonly offset: number; readonly behind: boolean }[]> {
  // Whoever has a row locked at this moment is about to change it; the next sign does as well.
  return await queries.query(
    `with due as materialized (
       select id from uploads
        where id = any($2::uuid[]) and follower = $1 and prefix_size < "offset" and committed_digest is null
              and followed_at <= now() - interval '${SIGN_SECONDS} seconds' for update skip locked),
     signed as (update uploads u set followed_at = now() from due where u.id = due.id)
     select id, "offset", prefix_size < "offset" as behind from uploads
      where id = any($2::uuid[]) and follower = $1 and committed_digest is null and expires_at > now()`,
    [follower, ids],
  );
}

/** The session with its segments, if it is open and the follower's. */
export async function findFollowed(
  queries: Queries,
  follower: string,
  id: string,
): Promise<FollowedSession | undefined> {
  const [row] = await queries.query<FollowedSession>(
    `select b.id, b.epoch, b.rewound_epoch as "rewoundEpoch", b."offset", b.algorithm, b.prefix_size as "prefixSize",
            ${SEGMENTS_JSON} as segments
       from uploads b
      where b.id = $2 and b.follower = $1 and b.committed_digest is null and b.expires_at > now()`,
    [follower, id],
  );
  return row;
}

/**
 * Records the digest of the first `size` bytes that `session` named. Does nothing if the row knows as much, if another
 * follows, or if bytes lost their names since.
 */
export async function recordPrefix(
  queries: Queries,
  follower: string,
  session: PrefixOwner,
  size: number,
  digest: Digest,
): Promise<void> {
  await queries.query(
    `update uploads set prefix_size = $5, prefix_digest = $6, followed_at = now()
      where id = $2 and follower = $1 and rewound_epoch = $3 and algorithm = $4 and prefix_size < $5 and "offset" >= $5
            and committed_digest is null`,
    [follower, session.id, session.rewoundEpoch, session.algorithm, size, digest],
  );
}

/** Makes the holder's process the session's follower. @throws 'UploadTaken' */
export async function takePlace(
  queries: Queries,
  session: { readonly id: string; readonly epoch: number },
  follower: string,
): Promise<void> {
  const rows = await queries.query(
    'update uploads set follower = $3, followed_at = now() where id = $1 and epoch = $2 and committed_digest is null returning id',
    [session.id, session.epoch, follower],
  );
  if (rows.length === 0) throw takenUpload();
}

/** Leaves the place of the follower of these sessions free, for whoever comes next. */
export async function leavePlaces(queries: Queries, follower: string, ids: readonly string[]): Promise<void> {
  await queries.query(
    'update uploads set follower = null where id = any($2::uuid[]) and follower = $1 and committed_digest is null',
    [follower, ids],
  );
}

/**
 * How far the follower of a session is that this request holds.
 * @returns `digest` of all that the session holds, if its row knows it in that algorithm; `size`: of how many bytes the row
 * knows a digest; whether nobody is on its way.
 * @throws 'UploadTaken'
 */
export async function lookAtPrefix(
  queries: Queries,
  session: { readonly id: string; readonly epoch: number },
  algorithm: DigestAlgorithm,
): Promise<{ readonly digest: Digest | null; readonly size: number; readonly silent: boolean }> {
  const [row] = await queries.query<{ digest: Digest | null; size: number; silent: boolean }>(
    `select case when b.prefix_size = b."offset" and b.algorithm = $3 then b.prefix_digest end as digest,
            b.prefix_size as size, b.follower is null or ${FOLLOWER_SILENT} as silent
       from uploads b where b.id = $1 and b.epoch = $2 and b.committed_digest is null`,
    [session.id, session.epoch, algorithm],
  );
  if (!row) throw takenUpload();
  return row;
}
