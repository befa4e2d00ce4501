import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.js';
import { type EmbeddedPostgres, startEmbedded } from '../database/embedded.js';
import { readPidFile } from '../database/embedded-server.js';
import type { Log } from '../log.js';

const RESTART_MS = 1_000;
const LOOK_MS = 1_000;

/** The embedded PostgreSQL, started again when it ends unasked. */
export class KeptPostgres {
  readonly #config: Config;
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #waiting: AbortSignal;
  #postgres: EmbeddedPostgres | undefined;
  #keeping: Promise<void> | undefined;

  /** @param stop ends a start that waits for another machine */
  constructor(config: Config, log: Log, stop: AbortSignal) {
    this.#waiting = AbortSignal.any([stop, this.#stop.signal]);
    this.#config = config;
    this.#log = log;
  }

  get place(): string | undefined {
    return this.#postgres?.place;
  }

  /** @returns its url, which stays the same when it is started again. */
  async start(): Promise<string> {
    const postgres = await this.#start();
    this.#keeping = this.#keep(postgres);
    return postgres.url;
  }

  async #start(): Promise<EmbeddedPostgres> {
    this.#postgres = await startEmbedded({
      dataDir: this.#config.dataDir,
      log: this.#log,
      signal: this.#waiting,
    });
    return this.#postgres;
  }

  async #keep(first: EmbeddedPostgres): Promise<void> {
    const { signal } = this.#stop;
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    for (let postgres: EmbeddedPostgres | undefined = first; postgres; postgres = await this.#again()) {
      const over = new AbortController();
      const exit = await Promise.race([postgres.exited, stopped, untilLeaving(postgres, over.signal)]);
      over.abort();
      if (signal.aborted) return;
      this.#log.error(exit ?? {}, 'PostgreSQL ended; starting it again');
      // Told to stop by somebody else (SIGTERM), it lets nobody in and waits for clients to leave, as ours never do.
      if (exit === undefined) await postgres.stop();
    }
  }

  async #again(): Promise<EmbeddedPostgres | undefined> {
    while (!this.#stop.signal.aborted) {
      try {
        return await this.#start();
      } catch (error) {
        this.#log.error({ err: error }, 'PostgreSQL could not be started; trying again');
        await sleep(RESTART_MS);
      }
    }
    return undefined;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#keeping;
    await this.#postgres?.stop();
  }
}

/** Resolves when the server says that it is about to stop; never when `signal` is aborted before. */
async function untilLeaving({ place }: EmbeddedPostgres, signal: AbortSignal): Promise<undefined> {
  const cluster = join(place, 'cluster');
  for (;;) {
    await sleep(LOOK_MS, undefined, { ref: false });
    if (signal.aborted) return await new Promise<never>(() => undefined);
    const file = await readPidFile({ folder: place, cluster, socket: '', access: '', initialized: true });
    if (file?.status === 'stopping') return undefined;
  }
}
