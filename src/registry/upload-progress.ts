import type { Queries } from '../database/connect.js';
import type { Digest, DigestAlgorithm } from '../oci/digest.js';
import type { SegmentState } from '../storage/segment-store.js';
import { dropSpares } from './bodies.js';
import { takenUpload } from './upload-errors.js';
import type { TakenSession } from './upload-sessions.js';

/** The digest of the first `size` bytes of a session. */
export interface PrefixDigest {
  readonly algorithm: DigestAlgorithm;
  readonly size: number;
  readonly digest: Digest;
}

/** A segment that has bytes to give to its session. Sizes in bytes. */
export interface GrownSegment {
  readonly id: number;
  readonly length: number;
  readonly objectSize: number | null;
  readonly state: SegmentState;
  /** The segments whose bytes it begins with: they lose their names as it gets its place. */
  readonly swallowed: readonly number[];
}

/** What a request records: the session's offset, its segment, and, if it hashed, the digest of exactly that much. */
export interface Progress {
  readonly offset: number;
  /** Undefined if the request gives the session no bytes. */
  readonly segment: GrownSegment | undefined;
  /** Undefined if the request did not hash its bytes: then the row keeps the digest of fewer. */
  readonly prefix: PrefixDigest | undefined;
  /** Who follows the session from now on; undefined: whoever does. */
  readonly follower: string | undefined;
  /** Whether the client is about to be told of the offset (the 202). */
  readonly told: boolean;
  /** Whether the segment is about to be sealed: then nobody else may until the store's `settleSeconds` have passed. */
  readonly sealing?: boolean;
}

/**
 * Records what is durable, in one statement under the writer's epoch, and moves the expiry. The epoch of a request is
 * also the place of its segment. Never backwards: a statement that was lost with its connection may still run, late.
 * @throws 'UploadTaken' if the session was taken, cancelled, committed or removed meanwhile: the writer must stop.
 */
export async function recordProgress(
  queries: Queries,
  session: { readonly id: string; readonly epoch: number },
  progress: Progress,
  lifetimeSeconds: number,
): Promise<void> {
  const { offset, segment, prefix, follower, told } = progress;
  const rows = await queries.query(
    `with held as (
       update uploads set "offset" = $3, told_offset = case when $4 then $3 else told_offset end,
              algorithm = coalesce($5, algorithm), prefix_size = coalesce($6, prefix_size),
              prefix_digest = coalesce($7, prefix_digest), follower = coalesce($15::uuid, follower),
              followed_at = case when prefix_size = "offset" or $15 is not null then now() else followed_at end,
              expires_at = now() + make_interval(secs => $8)
        where id = $1 and epoch = $2 and "offset" <= $3 and committed_digest is null returning epoch),
     grown as (update segments set position = $2, length = $10, object_size = $11, state = $12,
               sealing_since = case when $14 then clock_timestamp() else sealing_since end
        where id = $9 and exists (select from held)),
     gone as (delete from segments where id = any($13::bigint[]) and exists (select from held) returning key),
     queued as (insert into removals (key, not_before) select key, now() from gone)
     select from held`,
    [
      session.id,
      session.epoch,
      offset,
      told,
      prefix?.algorithm ?? null,
      prefix?.size ?? null,
      prefix?.digest ?? null,
      lifetimeSeconds,
      segment?.id ?? null,
      segment?.length ?? null,
      segment?.objectSize ?? null,
      segment?.state ? JSON.stringify(segment.state) : null,
      segment?.swallowed ?? [],
      progress.sealing ?? false,
      follower ?? null,
    ],
  );
  if (rows.length === 0) throw takenUpload();
}

/**
 * Undoes a request whose bytes turned out wrong: the session is again what it was when the request took it, but for the
 * segments that the request's own had swallowed already, whose bytes that one keeps. The epoch is raised, so that no
 * record of the request that is still under way undoes this. Running digests stay good, unless the row named the bytes:
 * then a follower may have one of them.
 * @param written how many bytes of the request's segment were the session's before; whether the row names it as sealed.
 * @throws 'UploadTaken'
 */
export async function rewindSession(
  transaction: Queries,
  session: TakenSession,
  written: { readonly swallowedBytes: number; readonly recorded: boolean },
): Promise<void> {
  const rows = await transaction.query(
    `update uploads set "offset" = $3, told_offset = least(told_offset, $3), algorithm = $4, prefix_size = $5,
            prefix_digest = $6, epoch = epoch + 1, rewound_epoch = case when $7 then epoch + 1 else rewound_epoch end,
            followed_at = now()
      where id = $1 and epoch = $2 and committed_digest is null returning id`,
    [
      session.id,
      session.epoch,
      session.offset,
      session.algorithm,
      session.prefixSize,
      session.prefixDigest,
      written.recorded,
    ],
  );
  if (rows.length === 0) throw takenUpload();
  if (session.segment) {
    await transaction.query(
      `update segments set position = case when $2::bigint > 0 then position end, length = $2
        where id = $1 and position is not null`,
      [session.segment.id, written.swallowedBytes],
    );
  }
  await dropSpares(transaction, session.body);
}
