import type { Database, Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import type { Log } from '../log.js';
import type { SegmentStore } from '../storage/segment-store.js';
import { dropSpares, type Segment } from './bodies.js';
import { requireOwnStore } from './installation.js';
import { outOfOrder, takenUpload } from './upload-errors.js';
import type { TakenSession } from './upload-sessions.js';

/** What recovery works with. */
interface RecoveryOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
}

/**
 * Takes up each segment whose writer is gone, so that all of the session can be read. From the first one that is lost on
 * they lose their names, and the session ends where that one began.
 * @throws 'UploadTaken'; 'UploadOutOfOrder' if bytes were lost; 'Unavailable' while the former writer may still seal, or
 * if the store is not this database's.
 */
export async function recoverSegments(options: RecoveryOptions, session: TakenSession): Promise<void> {
  const { database, store, log } = options;
  let base = 0;
  for (const segment of session.segments) {
    const { id, key, length, objectSize, state } = segment;
    if (objectSize === null) {
      const found = await store.recover(key, length, state, () =>
        claimSeal(database, session, id, store.settleSeconds),
      );
      if (!found) {
        await requireLost(options, segment);
        await database.transaction((transaction) => loseSegments(transaction, session, id, base));
        log.error(
          { upload: session.id, key, length },
          'a segment of an upload is lost, its client has to send it again',
        );
        throw outOfOrder(session.offset, base);
      }
      // Whatever the epoch: it is a fact about a key that is used once.
      if (found.objectSize !== null)
        await database.query('update segments set object_size = $2, state = null where id = $1', [
          id,
          found.objectSize,
        ]);
    }
    base += length;
  }
}

/**
 * Nobody loses a byte because a folder was not mounted for a while.
 * @throws 'Unavailable'
 */
async function requireLost({ database, store }: RecoveryOptions, { key, length }: Segment): Promise<void> {
  await requireOwnStore(database, store);
  // The store that was missing may have come back before its marker was read.
  const there = await store.stat(key);
  if (there && there.size >= length)
    throw new RegistryError('Unavailable', 'the last bytes of this upload were not to be found for a moment');
}

/**
 * Makes the session's holder the only one who may seal the segment for `seconds`.
 * @throws 'UploadTaken'; 'Unavailable' while somebody else's claim holds.
 */
async function claimSeal(queries: Queries, session: TakenSession, segment: number, seconds: number): Promise<void> {
  const [row] = await queries.query<{ held: boolean; claimed: boolean; wait: number }>(
    `with held as (select id from uploads where id = $1 and epoch = $2 and committed_digest is null for update),
          claimed as (update segments set sealing_since = clock_timestamp()
             where id = $3 and object_size is null and exists (select from held)
               and (sealing_since is null or sealing_since <= clock_timestamp() - make_interval(secs => $4)) returning id)
     select exists (select from held) as held, exists (select from claimed) as claimed,
            (select greatest(1, ceil(extract(epoch from sealing_since - clock_timestamp()) + $4))::integer
               from segments where id = $3) as wait`,
    [session.id, session.epoch, segment, seconds],
  );
  if (!row?.held) throw takenUpload();
  if (row.claimed) return;
  throw new RegistryError('Unavailable', 'the last bytes of this upload are still being put in their place', {
    retryAfter: row.wait,
  });
}

/**
 * Lets the lost segment, which begins at byte `base`, and all after it lose their names. The epoch is raised, so that what
 * another process has read of them since this one took the session counts for nothing.
 * @throws 'UploadTaken'
 */
async function loseSegments(transaction: Queries, session: TakenSession, lost: number, base: number): Promise<void> {
  const rows = await transaction.query(
    `update uploads set "offset" = $3, told_offset = least(told_offset, $3), epoch = epoch + 1, rewound_epoch = epoch + 1,
            prefix_size = case when prefix_size <= $3 then prefix_size else 0 end,
            prefix_digest = case when prefix_size <= $3 then prefix_digest end
      where id = $1 and epoch = $2 and committed_digest is null returning id`,
    [session.id, session.epoch, base],
  );
  if (rows.length === 0) throw takenUpload();
  await transaction.query(
    `update segments s set position = null from segments l where l.id = $1 and s.body = l.body and s.position >= l.position`,
    [lost],
  );
  await dropSpares(transaction, session.body);
}
