import type { Log } from '../log.js';

/** What was started, to be taken down in the opposite order however the process comes to its end. */
export class Teardown {
  readonly #steps: { readonly what: string; readonly undo: () => Promise<unknown> }[] = [];
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  add(what: string, undo: () => Promise<unknown>): void {
    this.#steps.push({ what, undo });
  }

  /** A step that fails does not keep the others from being taken. @returns whether all went well. */
  async run(): Promise<boolean> {
    let well = true;
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        well = false;
        this.#log.error({ err: error }, `stopping failed: ${step.what}`);
      }
    }
    return well;
  }
}
