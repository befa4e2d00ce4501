import type { Listener } from '../database/notify.js';
import { isFailure } from '../errors.js';
import type { Log } from '../log.js';

/** Work in the background: a plain function that does one batch. Safe to run twice, and by two at once. */
export interface Job {
  readonly name: string;
  /** Milliseconds from the end of one run to the start of the next. */
  readonly everyMs: number;
  /** Does a batch. @param stopping ends one that takes long. @returns whether there is more to do at once. */
  run(stopping?: AbortSignal): Promise<boolean>;
}

/** Runs the jobs of which this process holds the lock: one process of the cluster runs each. */
export class Jobs {
  readonly #listener: Listener;
  readonly #log: Log;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(jobs: readonly Job[], listener: Listener, log: Log) {
    this.#listener = listener;
    this.#log = log;
    // The first run is soon: what a killed process left is looked after at the start.
    for (const job of jobs) this.#schedule(job, Math.min(job.everyMs, 1_000));
  }

  #schedule(job: Job, ms: number): void {
    if (this.#stopping.signal.aborted) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      const run = this.#run(job);
      this.#running.add(run);
      void run.finally(() => {
        this.#running.delete(run);
        this.#schedule(job, job.everyMs);
      });
    }, ms);
    this.#timers.add(timer);
  }

  async #run(job: Job): Promise<void> {
    try {
      // Asked before each batch: a process that stood still may have lost it to another.
      const { signal } = this.#stopping;
      while (!signal.aborted && (await this.#listener.tryLock(`job ${job.name}`))) {
        if (!(await job.run(signal))) return;
        this.#log.debug({ job: job.name }, 'more to do');
      }
    } catch (error) {
      const level = isFailure(error, 'Unavailable') ? 'warn' : 'error';
      this.#log[level]({ err: error, job: job.name }, 'a job failed; it will be run again');
    }
  }

  /** Starts no further batch and waits for those that run. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the process stops'));
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all(this.#running);
  }
}
