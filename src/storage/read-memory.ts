const KiB = 1024;
const MAX_READ_BYTES = 1024 * KiB;
const MIN_READ_BYTES = 64 * KiB;
/** What a download gets of the memory that is left, so that there is some for those that come after it. */
const PART_OF_REST = 1 / 4;
/** Buffers kept for the next download, in bytes; an idle process should be small. */
const SPARE_BYTES = 8 * 1024 * KiB;

/**
 * The memory that all downloads of a process read into. Buffers are used again, by the same download and by the next one:
 * fresh ones would have to be zeroed by the kernel, page by page, and collected.
 */
export class ReadMemory {
  #held = 0;
  readonly #spare: Buffer[] = [];

  /** @param total in bytes, of all downloads; each one gets some, however little is left. */
  constructor(readonly total: number) {}

  /** Bytes that downloads hold now. */
  get held(): number {
    return this.#held;
  }

  /** So many buffers of one size, which is at most `most` bytes. */
  take(count: number, most: number): Buffer[] {
    const share = Math.max(((this.total - this.#held) * PART_OF_REST) / count, 1);
    const bytes = Math.min(most, MAX_READ_BYTES, Math.max(MIN_READ_BYTES, 2 ** Math.floor(Math.log2(share))));
    this.#held += count * bytes;
    return Array.from({ length: count }, () => this.#buffer(bytes));
  }

  /** Takes buffers back, into which nothing is read and out of which nothing is sent any more. */
  give(buffers: readonly Buffer[]): void {
    for (const buffer of buffers) {
      this.#held -= buffer.length;
      if (buffer.length === MAX_READ_BYTES && this.#spare.length < SPARE_BYTES / MAX_READ_BYTES)
        this.#spare.push(buffer);
    }
  }

  #buffer(bytes: number): Buffer {
    return (bytes === MAX_READ_BYTES && this.#spare.pop()) || Buffer.allocUnsafeSlow(bytes);
  }
}
