import { sessionsJob } from '../auth/sessions.js';
import type { Config } from '../config.js';
import type { Database } from '../database/connect.js';
import { abandonedJob, compactionJob } from '../gc/compaction.js';
import { expiryJob, revokedJob } from '../gc/expiry.js';
import type { Job } from '../gc/jobs.js';
import { orphansJob } from '../gc/orphans.js';
import { unlessBehind } from '../gc/record-log.js';
import { recordsJob } from '../gc/records.js';
import { removalsJob } from '../gc/removals.js';
import type { RewriteObserver, RewriterOptions } from '../gc/rewriter.js';
import { straysJob } from '../gc/strays.js';
import type { Log } from '../log.js';
import { factsJob } from '../metadata/facts-job.js';
import { answersJob } from '../metadata/idempotency.js';
import { sealJob } from '../metadata/seals.js';
import { Blobs } from '../registry/blobs.js';
import { roomOf } from '../storage/folder-check.js';
import type { RecordStore } from '../storage/record-store.js';
import { isUploading, type SegmentStore } from '../storage/segment-store.js';

/** So fast is written anew what a gateway has died over where compaction is off, and nobody has said how fast: bytes a second. */
const LEFTOVER_RATE = 32 * 1024 * 1024;

/** Everything that runs in the background. `observer` is told of what is written anew. */
export function jobsOf(
  config: Config,
  database: Database,
  store: SegmentStore,
  records: RecordStore,
  log: Log,
  observer: RewriteObserver,
): Job[] {
  const everyMs = config.jobInterval * 1000;
  const pause = () => undefined;
  const blobs = new Blobs({ database, store, observers: [], pause, storageTimeoutSeconds: config.storageTimeout });
  const rewriting: Omit<RewriterOptions, 'store'> = {
    database,
    log,
    pause,
    observer,
    bytesPerSecond: config.compactionRate || LEFTOVER_RATE,
    readGraceSeconds: config.readGrace,
  };
  const careful = (job: Job, look = false) => unlessBehind(job, database, records, log, look);
  return [
    careful(expiryJob(database, everyMs)),
    careful(revokedJob(database, everyMs)),
    careful(removalsJob({ database, store, log, pause, everyMs, delaySeconds: config.removalDelay })),
    recordsJob(database, records, config.recordInterval * 1000),
    factsJob(database, blobs, everyMs),
    answersJob(database, everyMs),
    sessionsJob(database, everyMs),
    sealJob(database, config.auditSealInterval * 1000),
    careful(
      orphansJob({ database, store, log, everyMs: config.orphanInterval * 1000, ageSeconds: config.orphanAge }),
      true,
    ),
    ...(isUploading(store) ? [straysJob({ ...rewriting, store, everyMs: config.orphanInterval * 1000 })] : []),
    careful(abandonedJob(database, everyMs, config.readGrace)),
    ...(config.compactionRate === 0
      ? []
      : [
          compactionJob({
            ...rewriting,
            store,
            everyMs: config.compactionInterval * 1000,
            // Nobody is sent to smaller ones.
            minBytes: Number.isFinite(config.redirect) ? config.redirect : 0,
            hasRoom: (bytes) => hasRoom(config, bytes),
          }),
        ]),
  ];
}

/** Whether health does not suffer from so many bytes more; of a bucket nobody can tell. */
async function hasRoom(config: Config, bytes: number): Promise<boolean> {
  if (config.storage === 's3') return true;
  const { free } = await roomOf(config.filesystemRoot);
  return free - bytes >= config.healthFreeBytes;
}
