import type { Database } from '../database/connect.js';
import type { Log } from '../log.js';
import type { SegmentKey, UploadingSegmentStore } from '../storage/segment-store.js';
import type { Job } from './jobs.js';

export interface StraysOptions {
  readonly database: Database;
  readonly store: UploadingSegmentStore;
  readonly log: Log;
  readonly everyMs: number;
}

/**
 * Ends uploads that were begun for a segment beside the one that became its object: S3 made one, its answer was lost, and
 * another was begun. Their key has a name, so neither the removals nor the orphans see them. Only of a sealed segment,
 * whose writer is done, and only those that never got a part: nobody has their id, and an object can't need them.
 */
export function straysJob({ database, store, log, everyMs }: StraysOptions): Job {
  const isSealed = async (key: SegmentKey): Promise<boolean> =>
    (await database.query('select from segments where key = $1 and object_size is not null', [key])).length > 0;
  return {
    name: 'strays',
    everyMs,
    run: async () => {
      let kept = 0;
      for await (const key of store.listBegun()) if (await isSealed(key)) kept += await store.removeStrays(key);
      if (kept > 0)
        log.warn({ count: kept }, 'uploads that have become objects are still listed: their gateway died meanwhile');
      return false;
    },
  };
}
