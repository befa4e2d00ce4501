import { localActor } from '../actor.js';
import type { Config } from '../config.js';
import type { Database } from '../database/connect.js';
import type { RebuildReport } from '../gc/rebuild/report.js';
import type { Log } from '../log.js';
import { writeAudit } from '../metadata/audit.js';
import { followChanges, inspectPushes } from '../metadata/follow.js';
import { Blobs } from '../registry/blobs.js';
import { adoptDatabase } from '../registry/installation.js';
import { beAlone } from './alone.js';
import { bringUpToDate } from './migrate.js';
import { placeOfBlobs, prepareStore } from './storage.js';
import { withDatabase } from './with-database.js';

export const REBUILD_USAGE = `weighhouse fsck --rebuild [--dry-run] [--accept-loss] [--json]
    brings an empty database, or one restored from a backup, up to what is written down beside the bytes, and reads the
    objects of which nothing is; all nodes must be stopped. Run it again if it was broken off.
    --dry-run      says what it would do; reads no objects
    --accept-loss  gives up what can't come back, so that the storage is tidied again (else nothing is removed from it)
    --json         one object, for programs
    Ends with 0 when everything that was written down is back, with 1 when something is not.`;

/** What nothing beside the bytes tells. */
const NOT_BACK = [
  'models: what was typed or changed by the API (descriptions, company, base model, tags, metadata, immutable); those that no push makes',
  'releases: drafts, notes, metadata, status (deprecated, withdrawn); of drafts also the files',
  'deployments and their history',
  'API keys (the first admin key is made at the next start, or is the one in <data>/admin-key), sessions, tokens',
  'visibility of repositories, policies and quotas',
  'the audit log and the history of tags',
  'upload sessions under way: clients begin again',
  'manifests, tags, deletions, and blobs kept in the database, of the last seconds before the loss (REGISTRY_RECORD_INTERVAL)',
];

/** A rebuild reads whole tables by one statement. */
const STATEMENT_SECONDS = 3600;

export interface RebuildArguments {
  readonly dryRun: boolean;
  readonly acceptLoss: boolean;
  readonly json: boolean;
}

/** `weighhouse fsck --rebuild` */
export async function rebuildCommand(config: Config, log: Log, args: RebuildArguments): Promise<void> {
  const work = (database: Database, url: string) => runRebuild(config, database, url, log, args);
  const { report, complete } = await withDatabase(config, log, work, STATEMENT_SECONDS);
  process.stdout.write(
    args.json ? `${JSON.stringify(documentOf(report, complete, args))}\n` : textOf(report, complete, args),
  );
  if (!complete) process.exitCode = 1;
}

async function runRebuild(config: Config, database: Database, url: string, log: Log, args: RebuildArguments) {
  const { rebuild } = await import('../gc/rebuild/rebuild.js');
  const { RebuildReport: Report } = await import('../gc/rebuild/report.js');
  await bringUpToDate(config, url, log);
  const alone = await beAlone(database, url, log);
  try {
    const agree: Parameters<typeof prepareStore>[3] = (queries, store) => adoptDatabase(queries, store, !args.dryRun);
    const { store, records } = await prepareStore(config, database, log, agree);
    const report = new Report((line) => process.stderr.write(`${line}\n`));
    const blobs = new Blobs({
      database,
      store,
      observers: [],
      pause: () => undefined,
      storageTimeoutSeconds: config.storageTimeout,
    });
    const actor = localActor();
    const options = {
      database,
      store,
      records,
      observers: [followChanges],
      inspect: inspectPushes(blobs),
      actor,
      report,
      dryRun: args.dryRun,
      check: () => alone.check(),
    };
    const complete = await rebuild(options, args.acceptLoss);
    if (!args.dryRun)
      await database.transaction((transaction) =>
        writeAudit(transaction, actor, {
          action: 'registry.rebuild',
          resourceType: 'registry',
          resourceId: placeOfBlobs(config),
          details: { counts: report.counts, objects: report.objects, faults: report.faults.length, complete },
        }),
      );
    return { report, complete };
  } finally {
    await alone.release();
  }
}

function documentOf(report: RebuildReport, complete: boolean, { dryRun }: RebuildArguments): object {
  const { files, lines, counts, objects, faults, notes } = report;
  return { complete, dryRun, records: { files, lines }, counts, objects, faults, notes, notBack: NOT_BACK };
}

function textOf(report: RebuildReport, complete: boolean, { dryRun, acceptLoss }: RebuildArguments): string {
  const { files, lines, counts, objects, faults, notes } = report;
  const rows = Object.entries(counts).map(
    ([name, { recorded, made, there, removed, missing }]) =>
      `${name.padEnd(10)} ${[recorded, made, there, removed, missing].map((count) => String(count).padStart(9)).join('')}`,
  );
  const read = dryRun
    ? `${objects.found} objects have no name; they would be read`
    : `${objects.found} objects had no name: ${objects.hashed} read (${objects.bytes} bytes); ${objects.matched} blobs found, ${objects.kept} put into lost-found, ${objects.known} objects of blobs that are there, ${objects.unfinished} unfinished or empty, ${objects.left} of open sessions`;
  const end = complete
    ? 'everything that was written down is back'
    : acceptLoss
      ? 'not everything is back; what is not was given up'
      : 'not everything is back: nothing is removed from the storage until a run finds all, or --accept-loss gives it up';
  return [
    `records     ${files} files, ${lines} lines`,
    `            recorded     made    there  removed  missing${dryRun ? '   (nothing was changed)' : ''}`,
    ...rows,
    read,
    ...notes.map((note) => `note   ${note}`),
    ...faults.map((fault) => `FAULT  ${fault}`),
    'what nothing beside the bytes tells, and does not come back from an empty database:',
    ...NOT_BACK.map((item) => `  ${item}`),
    dryRun ? `nothing was changed; ${complete ? 'all would be back' : 'not all would be back'}` : end,
    '',
  ].join('\n');
}
