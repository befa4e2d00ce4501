import type { Worker } from 'node:cluster';
import type { Log } from '../log.js';
import type { Dispatcher } from './dispatcher.js';
import type { FromWorker, ToWorker } from './worker-messages.js';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 30_000;
/** Who lived this long did not die of its start. */
const STEADY_MS = 60_000;
/** What a worker that is to follow another may take until it serves. */
const START_MS = 60_000;

/**
 * A place at which one worker serves. When it dies another takes its place, after a pause that grows as long as they
 * die young; when it is renewed the newer one serves before the former retires.
 */
export class Place {
  readonly #fork: () => Worker;
  readonly #dispatcher: Dispatcher;
  readonly #log: Log;
  #worker: Worker | undefined;
  readonly #serving = new WeakSet<Worker>();
  #renewing = false;
  #closed = false;
  #pauseMs = FIRST_PAUSE_MS;
  #timer: NodeJS.Timeout | undefined;
  #cameUp: () => void = () => undefined;
  /** Resolves when a worker serves here for the first time. */
  readonly cameUp = new Promise<void>((resolve) => {
    this.#cameUp = resolve;
  });

  constructor(fork: () => Worker, dispatcher: Dispatcher, log: Log) {
    this.#fork = fork;
    this.#dispatcher = dispatcher;
    this.#log = log;
  }

  /** Gives the place to a worker that serves already, or to one that is started now. */
  take(serving?: Worker): void {
    const worker = serving ?? this.#fork();
    if (serving) this.#serve(serving);
    else void this.#comesUp(worker);
    this.#watch(worker);
    this.#worker = worker;
  }

  /** @returns whether another worker serves; otherwise the former one stays, and the log says why. */
  async renew(): Promise<boolean> {
    if (this.#closed) return false;
    clearTimeout(this.#timer);
    this.#renewing = true;
    const next = this.#fork();
    this.#watch(next);
    const came = await this.#comesUp(next);
    this.#renewing = false;
    if (this.#closed) return false;
    if (!came) {
      this.#log.error({ worker: next.process.pid }, 'a new worker did not come up; the former ones go on');
      next.process.kill('SIGKILL');
      if (!this.#worker) this.#takeLater();
      return false;
    }
    const former = this.#worker;
    this.#worker = next;
    // Who is still loading has nothing to finish, and would not understand.
    if (former && this.#serving.has(former)) {
      this.#dispatcher.remove(former);
      send(former, 'retire');
    } else former?.process.kill('SIGTERM');
    this.#log.info({ worker: next.process.pid, former: former?.process.pid }, 'a new worker took the place of another');
    return true;
  }

  /** No worker is started here any more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #comesUp(worker: Worker): Promise<boolean> {
    const came = await serves(worker, START_MS);
    if (came) this.#serve(worker);
    return came;
  }

  #serve(worker: Worker): void {
    this.#serving.add(worker);
    this.#dispatcher.add(worker);
    this.#cameUp();
  }

  /** Whether a worker serves here now. */
  get serves(): boolean {
    return this.#worker !== undefined && this.#serving.has(this.#worker);
  }

  #watch(worker: Worker): void {
    const began = performance.now();
    worker.once('exit', (code, signal) => {
      // Who has retired or never served is missed by nobody.
      if (this.#worker !== worker || this.#closed) return;
      this.#worker = undefined;
      if (performance.now() - began >= STEADY_MS) this.#pauseMs = FIRST_PAUSE_MS;
      const { pid } = worker.process;
      this.#log.error({ worker: pid, code, signal, pauseMs: this.#pauseMs }, 'a worker ended; starting another');
      if (!this.#renewing) this.#takeLater();
    });
  }

  #takeLater(): void {
    this.#timer = setTimeout(() => this.take(), this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

/** Resolves when a worker serves; with false if it ends before, or takes longer than `patienceMs`. */
export async function serves(worker: Worker, patienceMs?: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const settle = (came: boolean) => {
      clearTimeout(timer);
      worker.removeListener('message', onMessage).removeListener('exit', onExit);
      resolve(came);
    };
    const onMessage = (message: FromWorker) => {
      if (message === 'serving') settle(true);
    };
    const onExit = () => settle(false);
    const timer = patienceMs === undefined ? undefined : setTimeout(onExit, patienceMs);
    worker.on('message', onMessage).on('exit', onExit);
  });
}

/** Tells a worker something; one that is gone need not hear it. */
export function send(worker: Worker, message: ToWorker): void {
  if (worker.isConnected()) worker.send(message, () => undefined);
}
