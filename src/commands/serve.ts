import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { isatty } from 'node:tty';
import type { Config } from '../config.js';
import { connect } from '../database/connect.js';
import { lockDataFolder } from '../database/data-folder.js';
import { checkDurability } from '../database/durability.js';
import { listen } from '../database/notify.js';
import { Jobs } from '../gc/jobs.js';
import { catchUpRecords } from '../gc/records.js';
import { type Log, logLast } from '../log.js';
import { ensureAdminKey } from './admin-key.js';
import { auditedReads } from './audited-reads.js';
import { banner } from './banner.js';
import { readCertificate } from './certificate.js';
import { jobsOf } from './jobs.js';
import { KeptPostgres } from './kept-postgres.js';
import { checkAddress } from './listen-address.js';
import { bringUpToDate } from './migrate.js';
import { Operations } from './operations.js';
import { refuseDuringRebuild } from './alone.js';
import { prepareStore } from './storage.js';
import { openSecondStore } from './second-store.js';
import { Teardown } from './teardown.js';
import { Workers } from './workers.js';

/** What jobs under way may take to finish their batch. */
const JOBS_MS = 10_000;
/** A check of the storage that takes longer is taken to hang. */
const HANGS_MS = 2_000;
const LOOK_MS = 20;

/**
 * The primary process: holds the data folder, runs PostgreSQL, migrates, starts the workers and the jobs, and takes all
 * of it down in the opposite order: on SIGTERM, also in the middle of the start, and when the start fails. A second
 * SIGTERM breaks running requests off; PostgreSQL is stopped in good order all the same. On SIGHUP all workers are
 * replaced, with fresh code and files; settings stay those of this process. Where SIGHUP means that the terminal is gone
 * it ends as on SIGTERM.
 */
export async function serve(config: Config, log: Log): Promise<void> {
  const started = new Teardown(log);
  const stop = new AbortController();
  const stopped = new Promise<void>((resolve) => stop.signal.addEventListener('abort', () => resolve()));
  const operations = new Operations(config, log, () => stop.signal.aborted);
  let workers: Workers | undefined;
  const onSignal = (signal: string) => {
    log.info({ signal }, 'stopping');
    // Who asks twice does not want to wait for running requests.
    if (stop.signal.aborted) workers?.kill();
    stop.abort();
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  const onTerminal = isatty(0);
  process.on('SIGHUP', () => {
    // The terminal was closed: nobody is left who would end us.
    if (onTerminal && !isatty(0)) {
      onSignal('SIGHUP');
      return;
    }
    log.info('replacing the workers');
    workers?.renew();
  });
  try {
    await start(config, log, started, stop.signal, operations, (made) => {
      workers = made;
    });
    await stopped;
  } catch (error) {
    // A start that was broken off may fail of it: a Ctrl-C reaches initdb, too.
    if (!stop.signal.aborted) {
      await started.run();
      throw error;
    }
  }
  const well = await started.run();
  // A check that was just asked for ends by itself.
  for (let waited = 0; operations.waits && waited < HANGS_MS; waited += LOOK_MS) await sleep(LOOK_MS);
  if (started.hung || operations.waits) endAtOnce(log);
  process.exit(well ? 0 : 1);
}

/**
 * Ends the process by force. An exit waits for the threads that work on files, and one that hangs in the kernel, on a
 * storage that is away, never comes back.
 */
function endAtOnce(log: Log): void {
  logLast(log, 'the storage hangs: ending without it');
  process.kill(process.pid, 'SIGKILL');
}

async function start(
  config: Config,
  log: Log,
  started: Teardown,
  stop: AbortSignal,
  operations: Operations,
  onWorkers: (workers: Workers) => void,
): Promise<void> {
  await mkdir(config.dataDir, { recursive: true });
  const lock = await lockDataFolder(config.dataDir);
  started.add('the lock of the data folder', () => lock.release());
  auditedReads(config);
  await checkAddress(config.listen);
  await readCertificate(config);
  // First up and last down: it tells how the start and the drain go.
  started.add('the operations listener', () => operations.close());
  await operations.open();
  const workers = new Workers(config, log);
  onWorkers(workers);
  started.add('the workers that load', () => workers.stop());
  const postgres = config.databaseUrl === '' ? new KeptPostgres(config, log, stop) : undefined;
  if (postgres) started.add('PostgreSQL', () => postgres.stop());
  const url = postgres ? await postgres.start() : config.databaseUrl;
  stop.throwIfAborted();
  await bringUpToDate(config, url, log);
  const database = connect({ url, pool: 2, timeout: config.databaseTimeout });
  started.add('connections to the database', () => database.close());
  for (const warning of await checkDurability(database)) log.warn(`PostgreSQL: ${warning}`);
  await refuseDuringRebuild(database);
  const { store, records } = await prepareStore(config, database, log);
  if ((await catchUpRecords(database, records)).behind)
    log.warn(
      'the storage knows more than the database, which was restored from a backup: run weighhouse fsck --rebuild; until then nothing is removed from the storage',
    );
  started.add('the connections of the health checks', () => operations.unwatch());
  await operations.watch(url, store);
  stop.throwIfAborted();

  const listener = listen(url, log);
  started.add('the listening connection', () => listener.close());
  const stores = { store, records, second: await openSecondStore(config) };
  const jobs = new Jobs(jobsOf(config, database, stores, log, operations), listener, log);
  started.add('the jobs', () => jobs.stop(), JOBS_MS);
  // Once more: now they have to end before what they use.
  started.add('the workers', () => workers.stop());
  void workers.complete().then(() => operations.watchWorkers(() => workers.serve));
  // Before anybody can come with it: a key that is not known yet counts as a failed attempt.
  const newKey = await ensureAdminKey(database, config);
  const address = await workers.start(url);
  process.stdout.write(banner(config, address, postgres?.place, newKey));
}
