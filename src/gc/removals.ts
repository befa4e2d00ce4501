import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/connect.js';
import type { Log } from '../log.js';
import { requireOwnStore } from '../registry/installation.js';
import type { PausePoint, SegmentKey, SegmentStore } from '../storage/segment-store.js';
import type { Job } from './jobs.js';

const BATCH = 100;
/** An object that could not be removed is tried again so much later, in seconds, after all others that are due. */
const RETRY_SECONDS = 30;
/** After so many in a row that could not be removed, it is the store that is to be waited for. */
const PATIENCE = 5;
const SHORTEST_REST_MS = 10;

export interface RemovalsOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
  readonly pause: PausePoint;
  readonly everyMs: number;
  /**
   * How far apart a key must have been absent twice, in seconds: longer than a writer can stall before it creates its
   * object. The store's own `settleSeconds` count if they are more.
   */
  readonly delaySeconds: number;
  /** How much of the time objects are removed at most, in percent: a file system that frees a large one does little else. */
  readonly sharePercent: number;
}

interface Removal {
  readonly key: SegmentKey;
  readonly absent: boolean;
  readonly named: boolean;
}

/**
 * The only way in which bytes leave. A key gets into `removals` by the committed transaction that took its last name
 * away; here its object goes, and the row stays until the key was absent twice, since a writer that stalled may create
 * the object late.
 */
export function removalsJob(options: RemovalsOptions): Job {
  return { name: 'removals', everyMs: options.everyMs, run: (signal) => removeBatch(options, signal) };
}

async function removeBatch(options: RemovalsOptions, signal?: AbortSignal): Promise<boolean> {
  const { database, store, log, pause, delaySeconds } = options;
  const settleSeconds = Math.max(delaySeconds, store.settleSeconds);
  // An unmounted folder has nothing; that must not count as absent.
  await requireOwnStore(database, store);
  const due = await database.query<Removal>(
    `select key, absent_since is not null as absent, exists (select from segments s where s.key = r.key) as named
       from removals r where not_before <= now() order by not_before limit $1`,
    [BATCH],
  );
  let failures = 0;
  const rest = restAfter(options.sharePercent, signal);
  for (const { key, absent, named } of due) {
    if (signal?.aborted) return false;
    if (named) {
      // It can't be: keys are used once. Bytes that something names are never removed, whatever the queue says.
      log.error({ object: key }, 'a removal was refused: a segment names its key');
      await database.query(`update removals set not_before = now() + interval '1 day' where key = $1`, [key]);
      continue;
    }
    // What was there is gone now, so each of the two answers is a first absence; only "nothing was there" is a second one.
    let nothing: boolean;
    const began = performance.now();
    try {
      nothing = await store.remove(key);
    } catch (error) {
      await database.query('update removals set not_before = now() + make_interval(secs => $2) where key = $1', [
        key,
        RETRY_SECONDS,
      ]);
      failures += 1;
      if (failures === PATIENCE) throw error;
      // The others are not to wait for one that stays, whatever is the matter with it.
      log.error({ err: error, object: key }, 'an object could not be removed; it will be tried again');
      continue;
    }
    failures = 0;
    const took = performance.now() - began;
    await pause('removal:removed');
    if (absent && nothing) await database.query('delete from removals where key = $1', [key]);
    else
      await database.query(
        'update removals set absent_since = now(), not_before = now() + make_interval(secs => $2) where key = $1',
        [key, settleSeconds],
      );
    if (!nothing) await rest(took);
  }
  return due.length === BATCH;
}

/** Rests so long after work that it takes no more than its share of the time; short rests are taken together. */
function restAfter(sharePercent: number, signal: AbortSignal | undefined): (workedMs: number) => Promise<void> {
  let due = 0;
  return async (workedMs) => {
    due += workedMs * (100 / sharePercent - 1);
    if (due < SHORTEST_REST_MS) return;
    const ms = due;
    due = 0;
    await sleep(ms, undefined, signal && { signal }).catch(() => undefined);
  };
}
