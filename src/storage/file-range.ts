import type { FileHandle } from 'node:fs/promises';
import { RegistryError } from '../errors.js';
import { storageError } from './durable-file.js';
import type { ReadMemory } from './read-memory.js';
import type { LentBytes, SegmentKey, SegmentRange } from './segment-store.js';
import type { Turns } from './turns.js';

/** One that is being sent, and one that is being read. */
const BUFFERS = 2;
const END = { done: true, value: undefined } as const;

export interface FileRangeOptions {
  readonly key: SegmentKey;
  readonly range: SegmentRange;
  readonly memory: ReadMemory;
  readonly turns: Turns;
  /** Opens the file again where it ended too soon; one that is long enough, or none. */
  readonly reopen: () => Promise<FileHandle | undefined>;
}

/** Reads a range of a file, a piece ahead, and closes the file at the end. */
export class FileRange implements LentBytes {
  readonly #options: FileRangeOptions;
  readonly #buffers: Buffer[];
  #file: FileHandle;
  #at: number;
  #reads = 0;
  #ahead: Promise<Uint8Array | undefined> | undefined;
  #closed = false;

  constructor(file: FileHandle, options: FileRangeOptions) {
    this.#file = file;
    this.#options = options;
    this.#at = options.range.start;
    this.#buffers = options.memory.take(BUFFERS, options.range.end - options.range.start);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#closed) return END;
    try {
      this.#ahead ??= this.#read();
      const value = await this.#ahead;
      if (value && !this.#closed) {
        this.#ahead = this.#read();
        // It is told to whoever asks for it.
        this.#ahead.catch(() => undefined);
        return { done: false, value };
      }
    } catch (error) {
      this.#close();
      throw storageError(error);
    }
    this.#close();
    return END;
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#close();
    return Promise.resolve(END);
  }

  async #read(): Promise<Uint8Array | undefined> {
    const { key, range } = this.#options;
    const buffer = this.#buffers[this.#reads++ % this.#buffers.length];
    const wanted = Math.min(buffer?.length ?? 0, range.end - this.#at);
    if (!buffer || wanted === 0) return undefined;
    const bytes = (await this.#fill(buffer, wanted)) || (await this.#fillFresh(buffer, wanted));
    if (bytes === 0) throw damaged(key, range.end, this.#at);
    this.#at += bytes;
    return buffer.subarray(0, bytes);
  }

  async #fill(buffer: Buffer, bytes: number): Promise<number> {
    return (await this.#options.turns.take(() => this.#file.read(buffer, 0, bytes, this.#at))).bytesRead;
  }

  async #fillFresh(buffer: Buffer, bytes: number): Promise<number> {
    const { reopen, turns } = this.#options;
    const fresh = await reopen();
    if (!fresh) return 0;
    const former = this.#file;
    this.#file = fresh;
    await turns.take(() => former.close());
    return await this.#fill(buffer, bytes);
  }

  /** Not waited for: a file system may hang. */
  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const { memory, turns } = this.#options;
    Promise.resolve(this.#ahead)
      .catch(() => undefined)
      .then(() => memory.give(this.#buffers))
      .then(() => turns.take(() => this.#file.close()))
      .catch(() => undefined);
  }
}

/** What is said of a segment that is shorter than it has to be. */
export function damaged(key: SegmentKey, wanted: number, there: number): RegistryError {
  const cause = new Error(`segment ${key}: ${wanted} bytes wanted, ${there} are there`);
  return new RegistryError('BlobDamaged', 'the stored bytes of this blob are damaged', { cause });
}
