import type { Queries } from '../database/connect.js';
import type { Digest, DigestAlgorithm } from '../oci/digest.js';
import type { SegmentState } from '../storage/segment-store.js';
import { dropSpares } from './bodies.js';
import { type TakenSession, takenUpload } from './upload-sessions.js';

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

/** What a request records: the session's offset, its segment, and the digest of exactly that much. */
export interface Progress {
  readonly offset: number;
  /** Undefined if the request gives the session no bytes. */
  readonly segment: GrownSegment | undefined;
  readonly prefix: PrefixDigest;
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
  const { offset, segment, prefix, told } = progress;
  const rows = await queries.query(
    `with held as (
       update uploads set "offset" = $3, told_offset = case when $4 then $3 else told_offset end,
              algorithm = $5, prefix_size = $6, prefix_digest = $7, expires_at = now() + make_interval(secs => $8)
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
      prefix.algorithm,
      prefix.size,
      prefix.digest,
      lifetimeSeconds,
      segment?.id ?? null,
      segment?.length ?? null,
      segment?.objectSize ?? null,
      segment?.state ? JSON.stringify(segment.state) : null,
      segment?.swallowed ?? [],
      progress.sealing ?? false,
    ],
  );
  if (rows.length === 0) throw takenUpload();
}

/**
 * Undoes a request whose bytes turned out wrong: the session is again what it was when the request took it, but for the
 * segments that the request's own had swallowed already, whose bytes that one keeps. The epoch is raised, so that no
 * record of the request that is still under way undoes this; running digests stay good, as nobody keeps one of bytes
 * that may yet turn out wrong.
 * @param swallowedBytes how many bytes of the request's segment were the session's before.
 * @throws 'UploadTaken'
 */
export async function rewindSession(
  transaction: Queries,
  session: TakenSession,
  swallowedBytes: number,
): Promise<void> {
  const rows = await transaction.query(
    `update uploads set "offset" = $3, told_offset = least(told_offset, $3), algorithm = $4, prefix_size = $5,
            prefix_digest = $6, epoch = epoch + 1
      where id = $1 and epoch = $2 and committed_digest is null returning id`,
    [session.id, session.epoch, session.offset, session.algorithm, session.prefixSize, session.prefixDigest],
  );
  if (rows.length === 0) throw takenUpload();
  if (session.segment) {
    await transaction.query(
      `update segments set position = case when $2::bigint > 0 then position end, length = $2, object_size = null
        where id = $1 and position is not null`,
      [session.segment.id, swallowedBytes],
    );
  }
  await dropSpares(transaction, session.body);
}
