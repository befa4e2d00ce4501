/**
 * Bytes that may wait in memory, over all the uploads of a process. Who wants more waits in line: first come, first
 * served. Holders never wait for anything but the disk while they hold, so the line always moves.
 */
export class MemoryBudget {
  #free: number;
  readonly #waiting: { bytes: number; go: () => void }[] = [];

  constructor(readonly total: number) {
    this.#free = total;
  }

  get free(): number {
    return this.#free;
  }

  /** How many wait in line. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Takes `bytes` (at most the whole budget) now, or answers false when there are not as many, or others wait. */
  tryTake(bytes: number): boolean {
    const wanted = Math.min(bytes, this.total);
    if (this.#waiting.length > 0 || this.#free < wanted) return false;
    this.#free -= wanted;
    return true;
  }

  /** Takes `bytes`, in turn. @throws the signal's reason if it is aborted first. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.tryTake(bytes)) return;
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const turn = {
        bytes: Math.min(bytes, this.total),
        go: () => {
          signal.removeEventListener('abort', leave);
          resolve();
        },
      };
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(turn), 1);
        reject(signal.reason as Error);
        this.#serve();
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#waiting.push(turn);
    });
  }

  give(bytes: number): void {
    this.#free += Math.min(bytes, this.total);
    this.#serve();
  }

  #serve(): void {
    for (let first = this.#waiting[0]; first && this.#free >= first.bytes; first = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= first.bytes;
      first.go();
    }
  }
}
