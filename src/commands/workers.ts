import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import type { Config } from '../config.js';
import type { Log } from '../log.js';

const RESTART_MS = 1_000;
/** What a worker may take to end beyond the time that it grants running requests. */
const EXIT_MS = 10_000;

/** The processes that serve. One that dies is started again. */
export class Workers {
  readonly #count: number;
  readonly #databaseUrl: Promise<string>;
  #sendUrl: (url: string) => void = () => undefined;
  readonly #patienceMs: number;
  readonly #log: Log;
  #stopping = false;

  /** Starts the first process, which loads while PostgreSQL starts and serves nothing before `start`. */
  constructor(config: Config, log: Log) {
    this.#count = config.workers;
    this.#databaseUrl = new Promise((resolve) => {
      this.#sendUrl = resolve;
    });
    this.#patienceMs = config.drainTimeout * 1000 + EXIT_MS;
    this.#log = log;
    // Workers accept for themselves. Node's round robin hands connections over from the primary, and one that is under
    // way to a worker that dies (or hangs) is never closed nor given to another: its client waits for ever.
    cluster.schedulingPolicy = cluster.SCHED_NONE;
    this.#fork();
  }

  /** Resolves with the address when the first worker listens. @throws Error if one ends before that. */
  async start(databaseUrl: string): Promise<{ address: string; port: number }> {
    const listening = new Promise<{ address: string; port: number }>((resolve, reject) => {
      cluster.once('listening', (_worker, { address, port }) => resolve({ address, port }));
      cluster.once('exit', (_worker, code, signal) =>
        reject(new Error(`a worker ended at its start (${signal ?? `code ${code}`})`)),
      );
    });
    if (this.#running().length === 0) throw new Error('a worker ended at its start');
    this.#sendUrl(databaseUrl);
    const address = await listening;
    // Only now: together they would load no faster.
    for (let index = 1; index < this.#count; index++) this.#fork();
    cluster.on('exit', (worker, code, signal) => {
      if (this.#stopping) return;
      this.#log.error({ worker: worker.process.pid, code, signal }, 'a worker ended; starting another');
      setTimeout(() => this.#stopping || this.#fork(), RESTART_MS);
    });
    return address;
  }

  #fork(): void {
    // The key is the primary's affair; an empty variable counts as not set.
    const worker = cluster.fork({ REGISTRY_ADMIN_KEY: '' });
    worker.once('message', () => void this.#databaseUrl.then((url) => worker.isDead() || worker.send(url)));
  }

  #running(): Worker[] {
    const all = Object.values(cluster.workers ?? {});
    return all.filter((worker): worker is Worker => worker !== undefined && !worker.isDead());
  }

  /** Lets running requests end, for a while. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const ends = this.#running().map(async (worker) => {
      const ended = once(worker, 'exit');
      worker.process.kill('SIGTERM');
      const timer = setTimeout(() => worker.process.kill('SIGKILL'), this.#patienceMs);
      await ended;
      clearTimeout(timer);
    });
    await Promise.all(ends);
  }

  /** Ends them without waiting for their requests. */
  kill(): void {
    this.#stopping = true;
    for (const worker of this.#running()) worker.process.kill('SIGKILL');
  }
}
