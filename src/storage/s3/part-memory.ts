import type { MemoryBudget } from '../memory-budget.js';
import { partBytes } from './part-plan.js';

/**
 * The memory in which parts are gathered. They wait for clients while they hold it, which the budget's other holders must
 * not suffer from: so it is at most half of the budget, and whoever gets none streams instead of waiting.
 */
export class PartMemory {
  #held = 0;
  /** Buffers of the usual size to use again: as garbage they would stay for a while. */
  readonly #spare: Buffer[] = [];

  constructor(readonly budget: MemoryBudget) {}

  get #most(): number {
    return this.budget.total / 2;
  }

  /** Takes `bytes` now, or answers false. */
  tryTake(bytes: number): boolean {
    if (this.#held + bytes > this.#most || !this.budget.tryTake(bytes)) return false;
    this.#held += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#held -= bytes;
    this.budget.give(bytes);
  }

  /** A buffer for memory that was taken. */
  allocate(bytes: number): Buffer {
    return (bytes === partBytes(1) && this.#spare.pop()) || Buffer.allocUnsafeSlow(bytes);
  }

  /** Takes a buffer back of which nothing is on its way any more. */
  recycle(buffer: Buffer): void {
    if (buffer.length === partBytes(1) && (this.#spare.length + 1) * buffer.length <= this.#most)
      this.#spare.push(buffer);
  }
}
