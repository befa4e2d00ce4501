import { createHash } from 'node:crypto';
import type { Log } from '../log.js';
import { findAccount } from './embedded-account.js';
import {
  checkVersion,
  chooseSettings,
  FINGERPRINT,
  makeCluster,
  makeSocketFolder,
  NAME,
  PORT,
  writeAccess,
} from './embedded-cluster.js';
import { type Alias, aliasFolder, openDataFolder } from './embedded-folders.js';
import { type Lease, type Machine, type LeaseTimes, takeLease } from './embedded-lease.js';
import { checkReach, confirmPlace, findPlace, makePlace, type Place } from './embedded-place.js';
import { findPackage, findPrograms } from './embedded-programs.js';
import { answers } from './embedded-query.js';
import { isServer, readPidFile, removeTraces, type Server, type ServerExit, stopServer } from './embedded-server.js';
import { adoptOrStart } from './embedded-start.js';

/** A PostgreSQL of our own that answers. */
export interface EmbeddedPostgres {
  /** For pg and Sequelize: a Unix socket, so no password. */
  readonly url: string;
  /** The same in parts. */
  readonly connection: { host: string; port: number; database: string; username: string };
  /** The folder of the cluster. */
  readonly place: string;
  /** Whether it was running already, left by a registry that was killed. */
  readonly adopted: boolean;
  /**
   * Resolves when the server ends without `stop`, so that the caller can start it again by `startEmbedded`; the url
   * stays. Waiting for it does not keep the process alive.
   */
  readonly exited: Promise<ServerExit>;
  /** Disconnects all clients, writes everything and waits for the end. Idempotent. */
  stop(): Promise<void>;
}

export interface EmbeddedOptions {
  readonly dataDir: string;
  readonly log: Log;
  /** Further settings of PostgreSQL, or other values for ours. */
  readonly settings?: Record<string, string>;
  /** Ends a start that waits for what another machine left. */
  readonly signal?: AbortSignal;
  /** For tests: the npm package of the binaries, and the folders of root that take what can't stay where it is. */
  readonly layout?: { readonly package?: string; readonly programShelves?: string[]; readonly placeShelves?: string[] };
  /** For tests: as if it ran on another machine, and with other times. */
  readonly machine?: Machine;
  readonly leaseTimes?: LeaseTimes;
}

/**
 * Starts the PostgreSQL of a data folder, making its cluster the first time, and returns when it answers. A server that
 * outlived a killed registry is taken over; one with other settings is stopped first. The caller holds the lock of the
 * data folder (`lockDataFolder`): this function alone keeps registries of several machines apart, not those of one.
 *
 * @throws Error, in words for the operator, when another machine runs it, or when the cluster is missing, of another major
 *   version, not reachable or does not start
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const { log, signal, machine, leaseTimes: times, layout = {} } = options;
  const source = layout.package ?? findPackage();
  const dataDir = await openDataFolder(options.dataDir);
  const fence = async () => {
    const left = await findPlace(dataDir);
    if (left !== undefined) await removeTraces(left);
  };
  // What is refused for other reasons need not wait.
  await findPlace(dataDir);
  const lease = await takeLease(dataDir, { log, signal, fence, machine, times });
  try {
    return await startUnder(lease, dataDir, source, options);
  } catch (error) {
    await lease.end(await hasEnded(dataDir));
    throw error;
  }
}

/** Whether no PostgreSQL of the data folder runs on any machine, by its own word: postmaster.pid goes with it. */
async function hasEnded(dataDir: string): Promise<boolean> {
  const place = await findPlace(dataDir).catch(() => undefined);
  return place === undefined || (await readPidFile(place)) === undefined;
}

async function startUnder(
  lease: Lease,
  dataDir: string,
  source: string,
  options: EmbeddedOptions,
): Promise<EmbeddedPostgres> {
  const { log, layout = {} } = options;
  const found = await findPlace(dataDir);
  const account = await findAccount(found?.initialized ? found.cluster : undefined);
  const programs = await findPrograms(account, source, layout.programShelves);
  const place = found ?? (await makePlace(dataDir, account, layout.placeShelves));
  if (place.initialized) {
    await checkReach(place, account);
    await checkVersion(place, programs);
  } else {
    log.info({ place: place.folder, version: programs.version, account: account.name }, 'making the database cluster');
    await makeCluster(place, programs, account);
  }
  await confirmPlace(dataDir);
  const settings = chooseSettings(await writeAccess(place, account), options.settings ?? {});
  settings[FINGERPRINT] += `-${programs.version}`;
  await makeSocketFolder(place, account);
  // Named after the folder, so that the url stays the same when the server is started again.
  const aliasName = createHash('sha256').update(`${process.getuid?.()} ${place.socket}`).digest('hex').slice(0, 16);
  const alias = await aliasFolder(place.socket, `.s.PGSQL.${PORT}`, aliasName);
  try {
    const { server, adopted } = await adoptOrStart({
      place,
      programs,
      account,
      settings,
      log,
      socketFolder: alias.path,
    });
    const { pid } = server;
    log.info({ postgres: pid, adopted, place: place.folder, program: programs.postgres }, 'PostgreSQL is ready');
    void lease.lost
      .then(async () => {
        log.error('another machine has taken the database over; stopping PostgreSQL here');
        await stopServer(server, place, 0);
      })
      .catch((error: unknown) => log.error({ err: error }, 'PostgreSQL could not be stopped'));
    const release = async () => {
      await lease.end((await readPidFile(place)) === undefined);
    };
    return present(server, adopted, place, alias, release);
  } catch (error) {
    await alias.remove();
    throw error;
  }
}

/** The url of the PostgreSQL of a data folder if it runs and answers, as beside a registry at work; else undefined. */
export async function findRunning(dataDir: string): Promise<string | undefined> {
  const place = await findPlace(await openDataFolder(dataDir)).catch(() => undefined);
  if (place === undefined || !place.initialized) return undefined;
  const file = await readPidFile(place);
  if (file?.status !== 'ready' || !(await isServer(file.pid, place)) || !(await answers(file.socketFolder)))
    return undefined;
  return urlOf(file.socketFolder);
}

function urlOf(socketFolder: string): string {
  return `postgres://${NAME}@localhost:${PORT}/${NAME}?${new URLSearchParams({ host: socketFolder, sslmode: 'disable' })}`;
}

function present(
  server: Server,
  adopted: boolean,
  place: Place,
  alias: Alias,
  release: () => Promise<void>,
): EmbeddedPostgres {
  let stopping: Promise<void> | undefined;
  const exited = new Promise<ServerExit>((tell) => {
    void server.ended.then(async (how) => {
      if (stopping !== undefined) return;
      // Before the next start takes it again.
      await release();
      tell(how);
    });
  });
  return {
    url: urlOf(alias.path),
    connection: { host: alias.path, port: PORT, database: NAME, username: NAME },
    place: place.folder,
    adopted,
    exited,
    stop: () => {
      stopping ??= stopServer(server, place)
        .then(release)
        .finally(() => alias.remove());
      return stopping;
    },
  };
}
