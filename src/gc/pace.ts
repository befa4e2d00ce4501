import { setTimeout as sleep } from 'node:timers/promises';

/** Waits, so that no more than so much passes in a second. What was missed while somebody else was slow is not made up for. */
export class Pace {
  readonly #perSecond: number;
  #due = 0;
  /** How often it had to wait. */
  waits = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Waits for as long as `amount` may take. @throws the signal's reason */
  async passed(amount: number, signal: AbortSignal): Promise<void> {
    this.#due = Math.max(this.#due, performance.now()) + (1000 * amount) / this.#perSecond;
    const wait = this.#due - performance.now();
    if (wait < 1) return;
    this.waits += 1;
    await sleep(wait, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
