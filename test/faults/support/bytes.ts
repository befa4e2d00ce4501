import { createCipheriv, createHash } from 'node:crypto';

const BLOCK = 16;

/** Repeatable chance: the same seed gives the same run (mulberry32). */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to, but not including, 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `min` to `max`, both included. */
  whole(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  pick<T>(values: readonly T[]): T {
    const value = values[this.whole(0, values.length - 1)];
    if (value === undefined) throw new Error('nothing to pick from');
    return value;
  }
}

/** Bytes that a name determines, any part of which can be made again: AES in counter mode over zeros. */
export class Content {
  readonly #key: Buffer;
  #digest: string | undefined;

  constructor(
    name: string,
    readonly size: number,
  ) {
    this.#key = createHash('sha256').update(name).digest().subarray(0, 16);
  }

  /** The bytes from `start` up to `end`. */
  part(start: number, end: number): Buffer {
    const counter = Buffer.alloc(BLOCK);
    counter.writeBigUInt64BE(BigInt(Math.floor(start / BLOCK)), 8);
    const skip = start % BLOCK;
    const bytes = createCipheriv('aes-128-ctr', this.#key, counter).update(Buffer.alloc(skip + end - start));
    return bytes.subarray(skip);
  }

  *chunks(start: number, end: number, bytes: number): Generator<Buffer> {
    for (let at = start; at < end; at += bytes) yield this.part(at, Math.min(at + bytes, end));
  }

  get digest(): string {
    if (this.#digest === undefined) {
      const hash = createHash('sha256');
      for (const chunk of this.chunks(0, this.size, 1024 * 1024)) hash.update(chunk);
      this.#digest = `sha256:${hash.digest('hex')}`;
    }
    return this.#digest;
  }
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
