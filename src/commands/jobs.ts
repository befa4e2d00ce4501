import { sessionsJob } from '../auth/sessions.js';
import { backgroundActor } from '../actor.js';
import type { Config } from '../config.js';
import type { Database } from '../database/connect.js';
import { abandonedJob, compactionJob } from '../gc/compaction.js';
import { readPolicies } from '../policies/policies.js';
import { type CollectorObserver, type CollectorOptions, collectorJob, type UntaggedRule } from '../gc/collector.js';
import { collectorWalkJob } from '../gc/collector-walk.js';
import { expiryJob, revokedJob } from '../gc/expiry.js';
import type { Job } from '../gc/jobs.js';
import { orphansJob } from '../gc/orphans.js';
import { unlessBehind } from '../gc/record-log.js';
import { recordChanges, recordsJob } from '../gc/records.js';
import { removalsJob } from '../gc/removals.js';
import type { RewriteObserver, RewriterOptions } from '../gc/rewriter.js';
import { type RetentionObserver, retentionJob } from '../gc/retention.js';
import { scrubJob } from '../gc/scrub.js';
import { straysJob } from '../gc/strays.js';
import type { Log } from '../log.js';
import { auditChanges } from '../metadata/audit.js';
import { followChanges } from '../metadata/follow.js';
import { PINNED } from '../metadata/pins.js';
import { recordBy } from '../registry/changes.js';
import { factsJob } from '../metadata/facts-job.js';
import { answersJob } from '../metadata/idempotency.js';
import { sealJob } from '../metadata/seals.js';
import { usageJob } from '../policies/count.js';
import { Blobs } from '../registry/blobs.js';
import { roomOf } from '../storage/folder-check.js';
import type { RecordStore } from '../storage/record-store.js';
import { isUploading, type SegmentStore } from '../storage/segment-store.js';
import { judgeOptions } from './retention.js';
import { scrubberOf, type ScrubbingObserver } from './scrubbing.js';

/** So fast is written anew what a gateway has died over where compaction is off, and nobody has said how fast: bytes a second. */
const LEFTOVER_RATE = 32 * 1024 * 1024;

const DAY_SECONDS = 24 * 60 * 60;
/** A manifest that was condemned is unseen for so long at most: nobody takes longer from a HEAD of it to the index that lists it. */
const MANIFEST_GRACE_SECONDS = DAY_SECONDS;

/** Told of what jobs do: of what is written anew, collected, and read to see whether it is right. */
export interface JobObservers {
  readonly compaction: RewriteObserver;
  readonly collector: CollectorObserver;
  readonly retention: RetentionObserver;
  readonly scrub: ScrubbingObserver;
}

/** Who is told of what jobs take away, inside the transaction. */
const changes = [followChanges, recordBy(recordChanges, auditChanges)];

/** Everything that runs in the background. `second` is a store with a copy of the bytes, if there is one. */
export function jobsOf(
  config: Config,
  database: Database,
  { store, records, second }: { store: SegmentStore; records: RecordStore; second: SegmentStore | undefined },
  log: Log,
  { compaction: observer, collector, retention, scrub }: JobObservers,
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
    careful(collectorJob(collectorOptions(config, database, log, collector))),
    careful(
      collectorWalkJob({
        database,
        everyMs: config.collectWalkInterval * 1000,
        graceSeconds: config.collectGrace,
        pinned: PINNED,
      }),
    ),
    careful(
      retentionJob({
        ...judgeOptions(config),
        ...{ database, log, pause, observers: changes, observer: retention },
        everyMs: config.retentionInterval * 1000,
        objectsPerSecond: config.collectRate,
      }),
    ),
    careful(
      removalsJob({
        ...{ database, store, log, pause, everyMs },
        delaySeconds: config.removalDelay,
        sharePercent: config.removalShare,
      }),
    ),
    recordsJob(database, records, config.recordInterval * 1000),
    usageJob(database, config.usageInterval * 1000),
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
    ...(config.scrubInterval === 0
      ? []
      : [
          scrubJob({
            database,
            log,
            everyMs,
            everyDays: config.scrubInterval,
            scrubber: scrubberOf({
              ...{ config, database, store, second, log, observer: scrub },
              actor: backgroundActor('scrub'),
              deep: true,
            }),
          }),
        ]),
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

/** What the collector of this configuration is made of. */
export function collectorOptions(
  config: Config,
  database: Database,
  log: Log,
  observer: CollectorObserver,
): CollectorOptions {
  return {
    database,
    log,
    pause: () => undefined,
    observers: changes,
    observer,
    everyMs: config.collectInterval * 1000,
    graceSeconds: config.collectGrace,
    manifestGraceSeconds: Math.min(config.collectGrace, MANIFEST_GRACE_SECONDS),
    readGraceSeconds: config.readGrace,
    pinned: PINNED,
    untagged: () => untaggedRule(config, database),
    protectedTags: async (queries) => {
      const policies = await readPolicies(queries);
      return (repository, tag) => policies.protectionOf(repository, tag) !== undefined;
    },
    objectsPerSecond: config.collectRate,
    bytesPerSecond: config.collectBytesRate,
  };
}

/** What policies say of manifests that nothing names, and where they say nothing, the settings. */
async function untaggedRule(config: Config, database: Database): Promise<UntaggedRule> {
  const policies = await readPolicies(database);
  return (repository) => {
    const said = policies.untaggedOf(repository);
    if (said === undefined) return Number.isFinite(config.untaggedAge) ? config.untaggedAge : undefined;
    return 'keep' in said ? undefined : said.days * DAY_SECONDS;
  };
}

/** Whether health does not suffer from so many bytes more; of a bucket nobody can tell. */
async function hasRoom(config: Config, bytes: number): Promise<boolean> {
  if (config.storage === 's3') return true;
  const { free } = await roomOf(config.filesystemRoot);
  return free - bytes >= config.healthFreeBytes;
}
