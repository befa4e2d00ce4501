import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { relative } from 'node:path';
import type { Config } from '../config.js';
import { connect, type Database } from '../database/connect.js';
import { lockDataFolder } from '../database/data-folder.js';
import { checkDurability } from '../database/durability.js';
import { type EmbeddedPostgres, startEmbedded } from '../database/embedded.js';
import { migrate } from '../database/migrate.js';
import { listen } from '../database/notify.js';
import { Jobs } from '../gc/jobs.js';
import type { Log } from '../log.js';
import { checkMarkers } from '../registry/installation.js';
import { FilesystemStore } from '../storage/filesystem.js';
import { MemoryBudget } from '../storage/memory-budget.js';
import { adminKeyPath, ensureAdminKey } from './admin-key.js';
import { jobsOf } from './jobs.js';

const RESTART_MS = 1_000;

/**
 * The primary process: holds the data folder, runs PostgreSQL, migrates, starts the workers and the jobs, and takes all
 * of it down in the opposite order on SIGTERM.
 */
export async function serve(config: Config, log: Log): Promise<void> {
  await mkdir(config.dataDir, { recursive: true });
  const lock = await lockDataFolder(config.dataDir);
  const postgres = config.databaseUrl === '' ? new KeptPostgres(config, log) : undefined;
  const url = postgres ? await postgres.start() : config.databaseUrl;
  await migrate(url, log);
  const database = connect({ url, pool: 2, timeout: config.databaseTimeout });
  for (const warning of await checkDurability(database)) log.warn(`PostgreSQL: ${warning}`);
  const store = await prepareStore(config, database);
  const newKey = await ensureAdminKey(database, config);

  const workers = new Workers(config, url, log);
  const listener = listen(url, log);
  const jobs = new Jobs(jobsOf(config, database, store, log), listener, log);
  const stop = async (): Promise<void> => {
    await workers.stop();
    await jobs.stop();
    await listener.close();
    await database.close();
    await postgres?.stop();
    await lock.release();
    process.exit(0);
  };
  let stopping = false;
  const onSignal = (signal: string) => {
    if (stopping) process.exit(1);
    stopping = true;
    log.info({ signal }, 'stopping');
    void stop();
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  const address = await workers.start();
  process.stdout.write(banner(config, address, postgres?.place, newKey));
}

async function prepareStore(config: Config, database: Database): Promise<FilesystemStore> {
  const store = new FilesystemStore({ root: config.filesystemRoot, budget: new MemoryBudget(0), downloadMemory: 0 });
  await mkdir(config.filesystemRoot, { recursive: true, mode: 0o750 });
  await checkMarkers(database, store);
  await store.prepare();
  return store;
}

/** The embedded PostgreSQL, started again when it ends unasked. */
class KeptPostgres {
  readonly #config: Config;
  readonly #log: Log;
  #postgres: EmbeddedPostgres | undefined;
  #stopping = false;

  constructor(config: Config, log: Log) {
    this.#config = config;
    this.#log = log;
  }

  get place(): string | undefined {
    return this.#postgres?.place;
  }

  async start(): Promise<string> {
    const postgres = await startEmbedded({ dataDir: this.#config.dataDir, log: this.#log });
    this.#postgres = postgres;
    void postgres.exited.then((exit) => {
      this.#log.error(exit, 'PostgreSQL ended; starting it again');
      void this.#again();
    });
    return postgres.url;
  }

  async #again(): Promise<void> {
    while (!this.#stopping) {
      try {
        await this.start();
        return;
      } catch (error) {
        this.#log.error({ err: error }, 'PostgreSQL could not be started; trying again');
        await new Promise((resolve) => setTimeout(resolve, RESTART_MS));
      }
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#postgres?.stop();
  }
}

/** The processes that serve. One that dies is started again. */
class Workers {
  readonly #environment: Record<string, string>;
  readonly #count: number;
  readonly #log: Log;
  #stopping = false;

  constructor(config: Config, url: string, log: Log) {
    this.#count = config.workers;
    this.#log = log;
    // The key is the primary's affair; an empty variable counts as not set.
    this.#environment = { REGISTRY_DATABASE_URL: url, REGISTRY_ADMIN_KEY: '' };
  }

  /** Resolves with the address when the first worker listens. @throws Error if one ends before that. */
  async start(): Promise<{ address: string; port: number }> {
    const listening = new Promise<{ address: string; port: number }>((resolve, reject) => {
      cluster.once('listening', (_worker, { address, port }) => resolve({ address, port }));
      cluster.once('exit', (_worker, code) => reject(new Error(`a worker ended at its start with code ${code}`)));
    });
    for (let index = 0; index < this.#count; index++) cluster.fork(this.#environment);
    const address = await listening;
    cluster.on('exit', (worker, code, signal) => {
      if (this.#stopping) return;
      this.#log.error({ worker: worker.process.pid, code, signal }, 'a worker ended; starting another');
      setTimeout(() => this.#stopping || cluster.fork(this.#environment), RESTART_MS);
    });
    return address;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const running = Object.values(cluster.workers ?? {}).filter((worker): worker is Worker => worker !== undefined);
    await Promise.all(
      running.map(async (worker) => {
        if (worker.isDead()) return;
        worker.process.kill('SIGTERM');
        await once(worker, 'exit');
      }),
    );
  }
}

function banner(
  config: Config,
  listening: { address: string; port: number },
  place: string | undefined,
  newKey: string | undefined,
): string {
  const host = listening.address.includes(':') ? `[${listening.address}]` : listening.address;
  const registry = `${host}:${listening.port}`;
  const keyFile = relative(process.cwd(), adminKeyPath(config)) || adminKeyPath(config);
  return [
    '',
    `Weighhouse serves http://${registry} with ${config.workers} worker${config.workers === 1 ? '' : 's'}`,
    `  blobs       ${config.filesystemRoot}`,
    `  PostgreSQL  ${place ?? 'REGISTRY_DATABASE_URL'}`,
    newKey
      ? `  admin key   ${newKey}   (shown this once, kept in ${keyFile})`
      : `  admin key   ${config.adminKey ? 'REGISTRY_ADMIN_KEY' : `in ${keyFile}`}`,
    '',
    `  oras login --plain-http ${registry} -u admin --password-stdin ${config.adminKey ? '<<< "$REGISTRY_ADMIN_KEY"' : `< ${keyFile}`}`,
    `  oras push --plain-http ${registry}/team/model:v1.0-fp16 ./model.safetensors`,
    `  oras pull --plain-http ${registry}/team/model:v1.0-fp16 -o ./pulled`,
    '',
    '',
  ].join('\n');
}
