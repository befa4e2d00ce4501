import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log.js';

/** What was started, to be taken down in the opposite order however the process comes to its end. */
export class Teardown {
  readonly #steps: { readonly what: string; readonly undo: () => Promise<unknown>; readonly limitMs?: number }[] = [];
  #hung = false;
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  /** @param limitMs after this the step is given up, as one that waits for a storage which is away. */
  add(what: string, undo: () => Promise<unknown>, limitMs?: number): void {
    this.#steps.push({ what, undo, ...(limitMs === undefined ? {} : { limitMs }) });
  }

  /** Whether a step was given up: what it waits for may wait for ever. */
  get hung(): boolean {
    return this.#hung;
  }

  /** A step that fails does not keep the others from being taken. @returns whether all went well. */
  async run(): Promise<boolean> {
    let well = true;
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await this.#undo(step);
      } catch (error) {
        well = false;
        this.#log.error({ err: error }, `stopping failed: ${step.what}`);
      }
    }
    return well;
  }

  async #undo({ undo, limitMs }: { readonly undo: () => Promise<unknown>; readonly limitMs?: number }): Promise<void> {
    if (limitMs === undefined) {
      await undo();
      return;
    }
    const done = undo().then(() => true);
    const over = new AbortController();
    const late = sleep(limitMs, false, { signal: over.signal }).catch(() => false);
    const inTime = await Promise.race([done, late]).finally(() => over.abort());
    if (inTime) return;
    this.#hung = true;
    throw new Error(`not done within ${limitMs} ms`);
  }
}
