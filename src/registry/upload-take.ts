import type { Queries } from '../database/connect.js';
import type { DigestAlgorithm } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { newSegmentKey, type SegmentKey } from '../storage/segment-store.js';
import { dropSpares, type Segment } from './bodies.js';
import { outOfOrder } from './upload-errors.js';
import {
  announceTaken,
  type CommittedSession,
  getSession,
  LIVE,
  type TakenSession,
  type UploadSession,
} from './upload-sessions.js';

/**
 * Takes a session that nobody has taken yet, which has no bytes, for a request that brings some: by one statement, since most
 * sessions are taken once. Of two requests at once the later finds another epoch.
 * @returns undefined if it is no such session.
 */
export async function takeFreshSession(
  queries: Queries,
  request: { id: string; repository: RepositoryName; lifetimeSeconds: number },
): Promise<TakenSession | undefined> {
  const { id, repository, lifetimeSeconds } = request;
  const epoch = 1;
  const key = newSegmentKey(id, epoch);
  const [row] = await queries.query<{ segment: number; body: number; algorithm: DigestAlgorithm }>(
    `with taken as (
       update uploads u set epoch = $3, expires_at = now() + make_interval(secs => $4) from repositories r
        where u.id = $1 and r.id = u.repository and r.name = $2 and u.epoch = 0 and u.expires_at > now()
              and u.committed_digest is null
        returning u.body, u.algorithm)
     insert into segments (body, key) select body, $5 from taken
     returning id as segment, body, (select algorithm from taken)`,
    [id, repository, epoch, lifetimeSeconds, key],
  );
  if (!row) return undefined;
  const { segment, body, algorithm } = row;
  const nothing = { offset: 0, toldOffset: 0, rewoundEpoch: 0, prefixSize: 0, prefixDigest: null, segments: [] };
  const nobody = { committedDigest: null, follower: null, followerSilent: false };
  return { id, body, epoch, algorithm, segment: { id: segment, key }, ...nothing, ...nobody };
}

/**
 * Takes the session for one request: raises its epoch, so that whatever the former holder still writes counts for
 * nothing, lets durable bytes beyond the point where this body begins lose their names, and names a new segment.
 * A request whose Content-Range does not fit changes nothing, so it cannot oust a good writer.
 *
 * @param request.from the first byte of the Content-Range; undefined: the body begins at the offset that was told last;
 * 'offset': where the session stands.
 * @returns the taken session with `offset` = where the body begins; or the session as it is if it is committed.
 * @throws 'UploadUnknown'; 'UploadOutOfOrder' if `from` is not the session's offset.
 */
export async function takeSession(
  transaction: Queries,
  request: {
    id: string;
    repository: RepositoryName;
    from: number | undefined | 'offset';
    bringsBytes: boolean;
    lifetimeSeconds: number;
  },
): Promise<TakenSession | CommittedSession> {
  const { id } = request;
  await transaction.query(`select ${LIVE} for update of b`, [id, request.repository]);
  const session = await getSession(transaction, id, request.repository);
  const { committedDigest, body } = session;
  if (committedDigest !== null) return { ...session, committedDigest };
  if (body === null) throw new Error(`upload ${id} is neither committed nor has a body`);
  const begin = request.from === 'offset' ? session.offset : (request.from ?? session.toldOffset);
  if (typeof request.from === 'number' && begin !== session.offset) throw outOfOrder(begin, session.offset);

  const segments = begin < session.offset ? await cutSegments(transaction, session, begin) : session.segments;
  const epoch = session.epoch + 1;
  const rewoundEpoch = begin < session.offset ? epoch : session.rewoundEpoch;
  const prefixHolds = session.prefixSize <= begin;
  const prefixSize = prefixHolds ? session.prefixSize : 0;
  const prefixDigest = prefixHolds ? session.prefixDigest : null;
  await transaction.query(
    `update uploads set epoch = $2, rewound_epoch = $3, "offset" = $4, prefix_size = $5, prefix_digest = $6,
            expires_at = now() + make_interval(secs => $7),
            followed_at = case when $8 then followed_at else now() end where id = $1`,
    [id, epoch, rewoundEpoch, begin, prefixSize, prefixDigest, request.lifetimeSeconds, prefixHolds],
  );
  // What the former holder's request had not recorded never gets a place: nobody but that request knew of it.
  const spares = await dropSpares(transaction, body);
  // Only a spare or an unsealed segment can have a writer that is still at work.
  if (spares > 0 || session.segments.at(-1)?.objectSize === null) await announceTaken(transaction, id, epoch);
  const [segment] = request.bringsBytes
    ? await transaction.query<{ id: number; key: SegmentKey }>(
        'insert into segments (body, key) values ($1, $2) returning id, key',
        [body, newSegmentKey(id, epoch)],
      )
    : [];
  return {
    ...session,
    body,
    committedDigest,
    epoch,
    rewoundEpoch,
    offset: begin,
    prefixSize,
    prefixDigest,
    segments,
    segment,
  };
}

/** Lets the bytes from `begin` on lose their names: later segments become spares, the one that `begin` cuts gets shorter. */
async function cutSegments(transaction: Queries, session: UploadSession, begin: number): Promise<Segment[]> {
  const kept: Segment[] = [];
  const spares: number[] = [];
  let base = 0;
  for (const segment of session.segments) {
    const length = Math.min(segment.length, Math.max(begin - base, 0));
    base += segment.length;
    if (length === 0) {
      spares.push(segment.id);
      continue;
    }
    if (length < segment.length)
      await transaction.query('update segments set length = $2 where id = $1', [segment.id, length]);
    kept.push({ ...segment, length });
  }
  if (spares.length > 0)
    await transaction.query('update segments set position = null where id = any($1::bigint[])', [spares]);
  return kept;
}
