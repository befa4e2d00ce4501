import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.js';
import type { Log } from '../log.js';
import { madeKeyId } from './admin-key.js';
import { Dispatcher } from './dispatcher.js';
import { Place, send, serves } from './place.js';
import type { FromWorker } from './worker-messages.js';

/** What a worker may take to end beyond the time that it grants running requests. */
const EXIT_MS = 10_000;
/** Who lives on for so long after SIGKILL has a thread in the kernel that waits for a storage which is away. */
const GONE_MS = 5_000;

/** The processes that serve: as many as the settings say, and those that have retired but still have requests. */
export class Workers {
  readonly #places: Place[];
  readonly #dispatcher: Dispatcher;
  readonly #first: Worker;
  readonly #databaseUrl: Promise<string>;
  #sendUrl: (url: string) => void = () => undefined;
  readonly #drainDelayMs: number;
  readonly #patienceMs: number;
  readonly #madeKey: string;
  readonly #log: Log;
  /** The renewal that is under way, behind the start. */
  #renewal: Promise<void>;
  #started: () => void = () => undefined;
  /** Those that SIGKILL did not end. */
  readonly #lost = new Set<Worker>();
  /** Whether a renewal has been asked for that has not begun. */
  #asked = false;

  /** Starts the first process, which loads while PostgreSQL starts and serves nothing before `start`. */
  constructor(config: Config, log: Log) {
    this.#databaseUrl = new Promise((resolve) => {
      this.#sendUrl = resolve;
    });
    this.#renewal = new Promise((resolve) => {
      this.#started = resolve;
    });
    this.#drainDelayMs = config.drainDelay * 1000;
    this.#patienceMs = (config.drainDelay + config.drainTimeout) * 1000 + EXIT_MS;
    this.#madeKey = madeKeyId(config);
    this.#log = log;
    const dispatcher = new Dispatcher(config, log);
    this.#dispatcher = dispatcher;
    this.#places = Array.from({ length: config.workers }, () => new Place(() => this.#fork(), dispatcher, log));
    this.#first = this.#fork();
  }

  /** Resolves with the address when the first worker serves. @throws Error if one ends before that. */
  async start(databaseUrl: string): Promise<AddressInfo> {
    this.#sendUrl(databaseUrl);
    const came = !this.#first.isDead() && (await serves(this.#first));
    if (!came) throw new Error('a worker ended at its start');
    const [first, ...others] = this.#places;
    first?.take(this.#first);
    const address = await this.#dispatcher.listen();
    // Only now: together they would load no faster.
    for (const place of others) place.take();
    this.#started();
    return address;
  }

  /** Resolves when each place has had a worker that served. */
  async complete(): Promise<void> {
    await Promise.all(this.#places.map((place) => place.cameUp));
  }

  /** Whether any worker serves. */
  get serve(): boolean {
    return this.#places.some((place) => place.serves);
  }

  /**
   * Puts a new worker in the place of each, one after the other, without a moment in which nobody serves; requests of the
   * former ones go on in them. The first that does not come up ends it. Whoever asks while it runs asks for another one.
   */
  renew(): void {
    if (this.#asked) return;
    this.#asked = true;
    this.#renewal = this.#renewal.then(async () => {
      this.#asked = false;
      for (const place of this.#places) if (!(await place.renew())) return;
      this.#log.info('all workers are new');
    });
  }

  #fork(): Worker {
    // The key is the primary's affair, which tells its id alone; an empty variable counts as not set.
    const madeKey = this.#madeKey;
    const worker = cluster.fork({ REGISTRY_ADMIN_KEY: '' });
    worker.on('message', (message: FromWorker) => {
      if (message === 'loaded') void this.#databaseUrl.then((databaseUrl) => send(worker, { databaseUrl, madeKey }));
      if (message !== 'leaving') return;
      this.#dispatcher.remove(worker);
      send(worker, 'left');
    });
    return worker;
  }

  #running(): Worker[] {
    const all = Object.values(cluster.workers ?? {});
    return all.filter(
      (worker): worker is Worker => worker !== undefined && !worker.isDead() && !this.#lost.has(worker),
    );
  }

  #close(): void {
    for (const place of this.#places) place.close();
  }

  /**
   * Lets running requests end, for a while, also those of workers that have retired.
   * @throws Error if one can't be ended; it ends when the storage that it waits for is back.
   */
  async stop(): Promise<void> {
    this.#close();
    const known = this.#lost.size;
    const closing = setTimeout(() => this.#dispatcher.close(), this.#drainDelayMs);
    await Promise.all(this.#running().map((worker) => this.#end(worker)));
    clearTimeout(closing);
    this.#dispatcher.close();
    const lost = this.#lost.size - known;
    if (lost > 0) throw new Error(`the storage hangs: ${lost} workers that wait for it can not be ended`);
  }

  async #end(worker: Worker): Promise<void> {
    const over = new AbortController();
    const { signal } = over;
    const ended = once(worker, 'exit').finally(() => over.abort());
    worker.process.kill('SIGTERM');
    const killed = (async () => {
      await sleep(this.#patienceMs, undefined, { signal });
      worker.process.kill('SIGKILL');
      await sleep(GONE_MS, undefined, { signal });
      this.#lost.add(worker);
    })().catch(() => undefined);
    await Promise.race([ended, killed]);
  }

  /** Ends them without waiting for their requests. */
  kill(): void {
    this.#close();
    this.#dispatcher.close();
    for (const worker of this.#running()) worker.process.kill('SIGKILL');
  }
}
