import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { S3Error } from './failures.js';
import type { PartMemory } from './part-memory.js';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Most blobs are small: only when more than this arrives is memory for a whole part taken. */
const SMALL_BYTES = 256 * KiB;
/** With so few bytes missing a part that is streamed is filled up with zeros when its source ends early. */
const MAX_PADDING_BYTES = 64 * MiB;
const ZEROS = Buffer.alloc(64 * KiB);

/** Sends a part whose bytes come out of `body` as they arrive. @returns its ETag */
export type SendStream = (body: Readable, length: number, signal: AbortSignal) => Promise<string>;

export interface PartOptions {
  readonly number: number;
  /** How many bytes it takes. */
  readonly capacity: number;
  /** Whether as many as that are announced. */
  readonly announced: boolean;
  readonly memory: PartMemory;
  readonly sendStream: SendStream;
  /** How long the gateway may take no bytes, in milliseconds. */
  readonly limitMs: number;
}

/**
 * A part that is being filled. Its bytes are gathered in memory, from where it can be sent again; where there is none left
 * they go straight into a request of the part's exact length, with what was gathered first.
 */
export class Part {
  readonly number: number;
  readonly capacity: number;
  /** Bytes so far. */
  filled = 0;
  readonly #options: PartOptions;
  readonly #md5 = createHash('md5');
  #digest: Buffer | undefined;
  #buffer: Buffer | undefined;
  #streaming: { body: OutgoingBytes; sent: Promise<string>; controller: AbortController } | undefined;

  constructor(options: PartOptions) {
    this.#options = options;
    this.number = options.number;
    this.capacity = options.capacity;
    const { announced, capacity } = options;
    this.#reserve(announced || capacity <= SMALL_BYTES ? capacity : SMALL_BYTES);
  }

  get full(): boolean {
    return this.filled === this.capacity;
  }

  /** The bytes, or undefined if they are streamed. */
  get bytes(): Buffer | undefined {
    return this.#buffer?.subarray(0, this.filled);
  }

  /** The MD5 of the bytes; once. */
  get md5(): Buffer {
    this.#digest ??= this.#md5.digest();
    return this.#digest;
  }

  /** Waits until the next `bytes`, which must fit, can be added at once. @throws S3Error; the signal's reason */
  async room(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#buffer && this.filled + bytes > this.#buffer.length) this.#reserve(this.capacity);
    if (this.#buffer) return;
    this.#stream();
    await this.#streaming?.body.room(bytes, signal);
  }

  /** Takes bytes, which must not change any more unless they were copied. @returns whether they were */
  add(bytes: Uint8Array): boolean {
    this.#md5.update(bytes);
    if (this.#buffer) this.#buffer.set(bytes, this.filled);
    else this.#streaming?.body.push(bytes);
    this.filled += bytes.length;
    return this.#buffer !== undefined;
  }

  /**
   * Ends the streaming of a part.
   * @returns its ETag and the size that it has in S3, which is more than was filled in if its source ended early.
   * @throws S3Error
   */
  async endStream(): Promise<{ etag: string; size: number }> {
    const streaming = this.#streaming;
    if (!streaming) throw new Error('the part is not streamed');
    try {
      const missing = this.capacity - this.filled;
      if (missing > MAX_PADDING_BYTES)
        throw new S3Error('UploadPart', 'refused', 'PartTooShort', undefined, `${missing} bytes are missing`);
      for (let left = missing; left > 0; left -= ZEROS.length) {
        const zeros = ZEROS.subarray(0, Math.min(left, ZEROS.length));
        await streaming.body.room(zeros.length, streaming.controller.signal);
        this.#md5.update(zeros);
        streaming.body.push(zeros);
      }
      streaming.body.push(null);
      const timer = setTimeout(() => streaming.controller.abort(silence(this.#options.limitMs)), this.#options.limitMs);
      const etag = await streaming.sent.finally(() => clearTimeout(timer));
      if (etag.replaceAll('"', '') !== this.md5.toString('hex'))
        throw new S3Error('UploadPart', 'refused', 'ETagMismatch', undefined, `${etag} is not the MD5 that was sent`);
      return { etag, size: this.capacity };
    } finally {
      this.drop();
    }
  }

  /** Gives its memory back, and breaks its request off. Idempotent. @param clean whether nothing of it is on its way. */
  drop(clean = false): void {
    const buffer = this.#buffer;
    this.#buffer = undefined;
    if (buffer) {
      if (clean) this.#options.memory.recycle(buffer);
      this.#options.memory.give(buffer.length);
    }
    this.#streaming?.controller.abort(new S3Error('UploadPart', 'refused', 'Dropped', undefined, ''));
    this.#streaming?.body.destroy();
  }

  /** Has a buffer of `bytes` if there is memory for it; otherwise none, and what was gathered goes into the stream. */
  #reserve(bytes: number): void {
    const former = this.#buffer;
    const { memory } = this.#options;
    if (memory.tryTake(bytes - (former?.length ?? 0))) {
      const buffer = memory.allocate(bytes);
      if (former) buffer.set(former.subarray(0, this.filled));
      this.#buffer = buffer;
      return;
    }
    if (!former) return;
    this.#buffer = undefined;
    this.#stream();
    this.#streaming?.body.pushTaken(former.subarray(0, this.filled), former.length);
  }

  #stream(): void {
    if (this.#streaming) return;
    const { memory, limitMs, sendStream, capacity } = this.#options;
    const controller = new AbortController();
    const body = new OutgoingBytes(memory, limitMs, controller);
    const sent = sendStream(body, capacity, controller.signal);
    // Told to whoever adds more, or ends it.
    sent.catch((error: unknown) => body.destroy(error as Error));
    body.on('error', () => undefined);
    this.#streaming = { body, sent, controller };
  }
}

/** The bytes on their way into a request, each counted in the budget until the next ones are asked for. */
class OutgoingBytes extends Readable {
  #wanted = false;
  #held = 0;
  #gathered = 0;
  #wake: (() => void) | undefined;

  constructor(
    readonly memory: PartMemory,
    readonly limitMs: number,
    readonly controller: AbortController,
  ) {
    super({ highWaterMark: SMALL_BYTES });
  }

  /** Waits until the request has taken what came before, and there is memory for `bytes` more. */
  async room(bytes: number, signal: AbortSignal): Promise<void> {
    const { budget } = this.memory;
    const timer = setTimeout(() => this.controller.abort(silence(this.limitMs)), this.limitMs);
    const wake = () => this.#wake?.();
    signal.addEventListener('abort', wake, { once: true });
    try {
      while (!this.#wanted && !this.destroyed) {
        signal.throwIfAborted();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', wake);
    }
    signal.throwIfAborted();
    if (this.destroyed) throw this.errored ?? silence(0);
    if (!budget.tryTake(bytes)) await budget.take(bytes, signal);
    this.#held += bytes;
    if (this.destroyed) this.#giveAll();
  }

  /** Pushes what was gathered in memory that is taken already. */
  pushTaken(bytes: Buffer, taken: number): void {
    this.#gathered = taken;
    this.push(bytes);
  }

  override push(bytes: Uint8Array | null): boolean {
    this.#wanted = super.push(bytes);
    return this.#wanted;
  }

  override _read(): void {
    this.#giveAll();
    this.#wanted = true;
    this.#wake?.();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#giveAll();
    this.#wake?.();
    done(error);
  }

  #giveAll(): void {
    if (this.#held > 0) this.memory.budget.give(this.#held);
    if (this.#gathered > 0) this.memory.give(this.#gathered);
    this.#held = 0;
    this.#gathered = 0;
  }
}

function silence(ms: number): S3Error {
  return new S3Error('UploadPart', 'again', 'TimedOut', undefined, `no byte was taken for ${ms} ms`);
}
