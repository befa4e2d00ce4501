import type { IncomingMessage } from 'node:http';
import type { ReadMemory } from '../read-memory.js';
import type { LentBytes, SegmentKey, SegmentRange } from '../segment-store.js';
import type { S3Bucket } from './bucket.js';
import { S3Error } from './failures.js';
import { Received, WORTH_TAKING_BYTES } from './received.js';

/** Connections that may break one after the other without a byte between them. */
const MAX_BREAKS = 3;
/** One that is being sent, one that is full, one that is being filled. */
const BUFFERS = 3;
const END = { done: true, value: undefined } as const;

export interface ObjectRangeOptions {
  readonly bucket: S3Bucket;
  readonly key: SegmentKey;
  readonly range: SegmentRange;
  readonly memory: ReadMemory;
  /** What an answer of S3 means to the reader. */
  readonly failure: (error: unknown) => Error;
}

/**
 * A range of an object that is there and long enough. When the connection breaks, or no byte comes for as long as a
 * request may take, the rest is asked for again: an object never changes.
 */
export class ObjectRange implements LentBytes {
  readonly #options: ObjectRangeOptions;
  readonly #buffers: readonly Buffer[];
  #received: Received;
  /** The first byte that is still to come. */
  #at: number;
  #breaks = 0;
  #closed = false;

  /** @param first the answer to the range. */
  constructor(first: IncomingMessage, options: ObjectRangeOptions) {
    const { range, memory } = options;
    const length = range.end - range.start;
    this.#options = options;
    this.#at = range.start;
    this.#buffers = length > WORTH_TAKING_BYTES ? memory.take(BUFFERS, length) : [];
    this.#received = new Received(first, length, this.#buffers);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const { bucket, range, failure } = this.#options;
    try {
      while (!this.#closed && this.#at < range.end) {
        const value = await this.#received.next(bucket.limitMs);
        if (this.#closed) break;
        if (value) {
          this.#breaks = 0;
          this.#at += value.length;
          if (this.#at > range.end)
            throw new S3Error('GET', 'again', 'TooLong', undefined, 'more came than was asked for');
          return { done: false, value };
        }
        await this.#askAgain();
      }
    } catch (error) {
      this.#close();
      throw failure(error);
    }
    this.#close();
    return END;
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#close();
    return Promise.resolve(END);
  }

  async #askAgain(): Promise<void> {
    const { bucket, key, range } = this.#options;
    this.#received.close();
    this.#breaks += 1;
    if (this.#breaks > MAX_BREAKS)
      throw new S3Error('GET', 'again', 'Broken', undefined, `no byte of ${key} comes after ${this.#at}`);
    const { body } = await bucket.get(key, this.#at, range.end);
    this.#received = new Received(body, range.end - this.#at, this.#buffers);
    if (this.#closed) this.#received.close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#received.close();
    this.#options.memory.give(this.#buffers);
  }
}
