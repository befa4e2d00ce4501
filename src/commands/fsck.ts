import { setTimeout as sleep } from 'node:timers/promises';
import { localActor } from '../actor.js';
import type { Config } from '../config.js';
import type { Database } from '../database/connect.js';
import { isFailure } from '../errors.js';
import { wrongManifests } from '../gc/manifest-digests.js';
import { countUnnamed } from '../gc/orphans.js';
import { advance } from '../gc/scrub.js';
import { type Pass, type PassCounts, Passes } from '../gc/scrub-passes.js';
import type { Scrubber } from '../gc/scrubber.js';
import type { Log } from '../log.js';
import type { Digest } from '../oci/digest.js';
import { countQuarantined } from '../registry/quarantine.js';
import { FsckReport } from './fsck-report.js';
import { REBUILD_USAGE, rebuildCommand } from './rebuild.js';
import { scrubberOf } from './scrubbing.js';
import { openSecondStore } from './second-store.js';
import { prepareStore } from './storage.js';
import { CommandError, readArguments, UsageError } from './usage.js';
import { withDatabase } from './with-database.js';

const USAGE = `weighhouse fsck [--deep [--restart]] [--orphans] [--json]
    looks whether every blob has its files or objects, as long as they have to be; quarantines those that do not, and heals
    what it can from the second store; beside a registry that serves or not
    --deep     reads and hashes everything, manifests too; goes on where the last run was broken off
    --restart  … begins at the first blob all the same
    --orphans  also counts objects that nothing names; it removes none
    --json     prints an object for each fault, and one at the end, a line each
exit: 0 all is well, 1 faults were found, 3 it could not look at everything (the storage or the database is away)
${REBUILD_USAGE}`;

/** Exit codes beside 0 and that of wrong words. */
const FAULTS = 1;
const NOT_LOOKED = 3;

/** A store that fails is asked again, after so many milliseconds each. */
const PAUSES_MS = [1_000, 2_000, 4_000];
/** How often a pass is said to be at work. */
const KEEP_MS = 10_000;

interface Options {
  readonly deep: boolean;
  readonly restart: boolean;
  readonly orphans: boolean;
  readonly json: boolean;
}

/** `weighhouse fsck`: rows against objects. */
export async function fsckCommand(config: Config, log: Log, args: readonly string[]): Promise<void> {
  const flag = { type: 'boolean', default: false } as const;
  const words = {
    deep: flag,
    restart: flag,
    orphans: flag,
    rebuild: flag,
    'dry-run': flag,
    'accept-loss': flag,
    json: flag,
    help: { type: 'boolean', short: 'h' },
  } as const;
  const { values, positionals } = readArguments(args, words, USAGE);
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const looks = values.deep || values.restart || values.orphans;
  const changes = values['dry-run'] || values['accept-loss'];
  if (positionals.length > 0 || (values.restart && !values.deep) || (values.rebuild ? looks : changes))
    throw new UsageError(USAGE);
  if (values.rebuild) {
    await rebuildCommand(config, log, {
      dryRun: values['dry-run'],
      acceptLoss: values['accept-loss'],
      json: values.json,
    });
    return;
  }
  // A signal ends the run in good order: what was looked at is written down, and PostgreSQL stopped if it was started.
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Error('stopped by a signal; the next run with --deep goes on from here'));
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  let counts: PassCounts;
  try {
    counts = await withDatabase(config, log, (database) => run(config, log, database, values, stop.signal));
  } catch (cause) {
    throw new CommandError('not everything could be looked at', NOT_LOOKED, { cause });
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
  if (counts.unread > 0) throw new CommandError(`${counts.unread} blobs could not be read`, NOT_LOOKED);
  if (counts.faults > 0) throw new CommandError(`${counts.faults} faults`, FAULTS);
}

async function run(
  config: Config,
  log: Log,
  database: Database,
  options: Options,
  signal: AbortSignal,
): Promise<PassCounts> {
  const { store } = await prepareStore(config, database, log);
  const report = new FsckReport({
    queries: database,
    json: options.json,
    print: (text) => process.stdout.write(text),
  });
  const scrubber = scrubberOf({
    ...{ config, database, store, log, deep: options.deep, observer: report },
    second: await openSecondStore(config),
    actor: localActor(),
  });
  const counts = options.deep
    ? await lookDeep(database, scrubber, options.restart, report, signal)
    : await lookLight(scrubber, signal);
  const unnamed = options.orphans ? await countUnnamed(database, store) : undefined;
  report.sum({ ...counts, quarantined: await countQuarantined(database), unnamed });
  return counts;
}

/** All blobs, from the first one; how many there are is known only at the end. */
async function lookLight(scrubber: Scrubber, signal: AbortSignal): Promise<PassCounts> {
  let sum: PassCounts = { blobs: 0, bytes: 0, faults: 0, healed: 0, unread: 0 };
  let at: Digest | '' = '';
  for (;;) {
    const step = await again(async () => {
      const { failure, ...done } = await scrubber.step(at, signal);
      // What it broke off at is the first of the next step.
      if (failure !== undefined && done.at === undefined) throw failure;
      return done;
    }, signal);
    if (step.at === undefined) return sum;
    at = step.at;
    sum = added(sum, step.counts);
  }
}

function added(one: PassCounts, other: PassCounts): PassCounts {
  return {
    blobs: one.blobs + other.blobs,
    bytes: one.bytes + other.bytes,
    faults: one.faults + other.faults,
    healed: one.healed + other.healed,
    unread: one.unread + other.unread,
  };
}

/** The pass that is under way, or a new one. */
async function lookDeep(
  database: Database,
  scrubber: Scrubber,
  restart: boolean,
  report: FsckReport,
  signal: AbortSignal,
): Promise<PassCounts & { since: Date }> {
  const passes = new Passes(database, 'command');
  const first = await taken(passes.take(restart));
  report.begin(first);
  const timer = setInterval(() => void passes.keep(first).catch(() => undefined), KEEP_MS);
  try {
    let last: Pass | undefined;
    while (!last) last = await again(async () => advance(passes, await taken(passes.take()), scrubber, signal), signal);
    let wrong = 0;
    for await (const fault of wrongManifests(database)) {
      report.manifest(fault);
      wrong += 1;
    }
    const { id: _id, at: _at, startedAt, ...counts } = await passes.finish(last, wrong);
    return { ...counts, since: startedAt };
  } finally {
    clearInterval(timer);
    await passes.leave(first).catch(() => undefined);
  }
}

/** The pass that is this command's now. @throws Error if it is another's */
async function taken(taking: Promise<Pass | undefined>): Promise<Pass> {
  const pass = await taking;
  if (!pass) throw new Error('another weighhouse fsck --deep is at work');
  return pass;
}

/** A store or a database that is away for a moment is asked again. */
async function again<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const pause = PAUSES_MS[attempt];
      if (pause === undefined || signal.aborted || !isFailure(error, 'Unavailable')) throw error;
      await sleep(pause, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}
