import { recycle } from '../../arrival-buffers.js';
import { RegistryError } from '../../errors.js';
import type { S3Bucket } from './bucket.js';
import { completeUpload, type UploadState } from './complete.js';
import { storageFailure } from './failures.js';
import { Part } from './part.js';
import type { PartMemory } from './part-memory.js';
import { MAX_OBJECT_BYTES, partBytes } from './part-plan.js';
import type { OpenSegment, PausePoint, SealClaim, SegmentState, WriteProgress } from '../segment-store.js';

/** Parts of one segment that are on their way side by side, beside the one that is being filled. */
const MAX_IN_FLIGHT = 4;
/** Bytes are taken in pieces of at most this size, so that hashes and the network take turns. */
const PIECE_BYTES = 256 * 1024;

export interface S3SegmentOptions {
  readonly bucket: S3Bucket;
  readonly name: string;
  readonly memory: PartMemory;
  readonly pause: PausePoint;
  /** How many bytes are announced, if any. */
  readonly expected: number | undefined;
}

/** A part that S3 has. */
interface Answer {
  readonly etag: string;
  /** As S3 has it. */
  readonly size: number;
  /** The bytes of the segment up to its end, and whether that was told as a window's. */
  readonly end: number;
  readonly window: boolean;
}

/**
 * An object in the making: one PUT if all fits into its first part, otherwise a multipart upload of its final name, of
 * which several parts are on their way while the next is filled. A part that fails for good poisons it: then only what
 * was reported durable counts.
 */
export class S3Segment implements OpenSegment {
  readonly #options: S3SegmentOptions;
  readonly #closing = new AbortController();
  #taken = 0;
  #part: Part | undefined;
  #parts = 0;
  #upload: Promise<string> | undefined;
  /** What S3 has acknowledged, by index; `#acknowledged` of them in sequence. */
  readonly #answers: (Answer | undefined)[] = [];
  #acknowledged = 0;
  /** The last window of which all is acknowledged. */
  #durable = { size: 0, parts: 0 };
  #reported = 0;
  #reporting: Promise<void> | undefined;
  readonly #sending = new Set<Promise<void>>();
  #failure: Error | undefined;
  #progress: WriteProgress | undefined;
  readonly #waiting = new Set<() => void>();
  #sealed: Promise<{ size: number; objectSize: number; state: SegmentState }> | undefined;

  constructor(options: S3SegmentOptions) {
    this.#options = options;
  }

  async write(source: AsyncIterable<Uint8Array>, signal: AbortSignal, progress: WriteProgress): Promise<void> {
    this.#progress = progress;
    const either = AbortSignal.any([signal, this.#closing.signal]);
    const stir = () => this.#stir();
    either.addEventListener('abort', stir, { once: true });
    try {
      for await (const chunk of source) {
        let copied = true;
        for (let at = 0; at < chunk.length; ) {
          const taken = await this.#take(chunk.subarray(at, at + PIECE_BYTES), either);
          at += taken.bytes;
          copied &&= taken.copied;
        }
        if (copied) recycle(chunk);
      }
      signal.throwIfAborted();
    } finally {
      either.removeEventListener('abort', stir);
    }
  }

  /** Takes the beginning of `chunk`. @returns how much, and whether it was copied */
  async #take(chunk: Uint8Array, signal: AbortSignal): Promise<{ bytes: number; copied: boolean }> {
    signal.throwIfAborted();
    if (this.#part?.full) this.#send();
    // Nothing is held here but parts on their way, which wait for S3 alone.
    if (!this.#part) await this.#until(() => this.#sending.size < MAX_IN_FLIGHT, signal);
    this.#part ??= this.#begin();
    const piece = chunk.subarray(0, this.#part.capacity - this.#part.filled);
    try {
      await this.#part.room(piece.length, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#fail(error);
    }
    this.#throwFailure();
    this.#progress?.passed(piece);
    const taken = { bytes: piece.length, copied: this.#part.add(piece) };
    this.#taken += piece.length;
    if (!this.#part.full) return taken;
    this.#progress?.boundary(this.#taken);
    // All that was announced, and in one part: one PUT will do.
    if (this.#parts > 1 || this.#taken !== this.#options.expected) this.#send();
    return taken;
  }

  #begin(): Part {
    const { expected, memory, bucket, name } = this.#options;
    if (this.#taken >= MAX_OBJECT_BYTES || (expected !== undefined && expected > MAX_OBJECT_BYTES))
      throw new RegistryError('BlobTooLarge', `one request may bring at most ${MAX_OBJECT_BYTES} bytes`);
    if (expected !== undefined && this.#taken >= expected) throw new Error(`more than the ${expected} bytes announced`);
    const number = ++this.#parts;
    const planned = Math.min(partBytes(number), MAX_OBJECT_BYTES - this.#taken);
    return new Part({
      number,
      capacity: expected === undefined ? planned : Math.min(planned, expected - this.#taken),
      announced: expected !== undefined,
      memory,
      limitMs: bucket.limitMs,
      sendStream: async (body, length, signal) =>
        await bucket.streamPart(name, await this.#uploadId(), number, body, length, signal),
    });
  }

  #uploadId(): Promise<string> {
    this.#upload ??= this.#options.bucket.begin(this.#options.name);
    return this.#upload;
  }

  /** Lets go of the part, which is finished on its way to S3. */
  #send(): void {
    const part = this.#part;
    this.#part = undefined;
    if (!part) return;
    if (this.#failure) {
      part.drop();
      return;
    }
    const told = { end: this.#taken, window: part.full };
    const sending = this.#deliver(part)
      .then(
        (answer) => this.#answered(part.number, { ...answer, ...told }),
        (error: unknown) => this.#fail(error),
      )
      .finally(() => {
        this.#sending.delete(sending);
        this.#stir();
      });
    this.#sending.add(sending);
  }

  async #deliver(part: Part): Promise<{ etag: string; size: number }> {
    const { bytes } = part;
    if (!bytes) return await part.endStream();
    let clean = false;
    try {
      const { bucket, name } = this.#options;
      const upload = await this.#uploadId();
      const { signal } = this.#closing;
      const { etag, once } = await bucket.putPart(
        name,
        upload,
        part.number,
        bytes,
        part.md5.toString('base64'),
        signal,
      );
      clean = once;
      return { etag, size: bytes.length };
    } finally {
      part.drop(clean);
    }
  }

  #answered(number: number, answer: Answer): void {
    this.#answers[number - 1] = answer;
    for (let next = this.#answers[this.#acknowledged]; next; next = this.#answers[this.#acknowledged]) {
      this.#acknowledged += 1;
      if (next.window) this.#durable = { size: next.end, parts: this.#acknowledged };
    }
    this.#report();
  }

  /** Tells of what is durable: one report at a time, and the next one tells of the newest. */
  #report(): void {
    const { size, parts } = this.#durable;
    const progress = this.#progress;
    if (this.#reporting || !progress || size === this.#reported) return;
    this.#reported = size;
    this.#reporting = this.#uploadId()
      .then((upload) => progress.durable(size, { upload, parts } satisfies UploadState))
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#reporting = undefined;
        this.#report();
      });
  }

  #fail(error: unknown): void {
    this.#failure ??= storageFailure(error);
    this.#stir();
  }

  #throwFailure(): void {
    if (this.#failure) throw this.#failure;
  }

  async #until(ready: () => boolean, signal?: AbortSignal): Promise<void> {
    for (;;) {
      signal?.throwIfAborted();
      this.#throwFailure();
      if (ready()) return;
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve);
      });
    }
  }

  #stir(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const look of waiting) look();
  }

  async seal(claim: SealClaim): Promise<{ size: number; objectSize: number; state: SegmentState }> {
    this.#sealed ??= this.#finish(claim);
    return await this.#sealed;
  }

  async #finish(claim: SealClaim): Promise<{ size: number; objectSize: number; state: SegmentState }> {
    const { bucket, name, pause } = this.#options;
    this.#throwFailure();
    const only = this.#part?.bytes ?? Buffer.alloc(0);
    if (!this.#upload && (this.#part?.bytes || this.#taken === 0)) {
      // Atomic, and sent again it writes the same bytes: it needs no claim, as the row has no length until the answer.
      await bucket.put(name, only, { md5: this.#part?.md5 }).catch((error: unknown) => {
        this.#fail(error);
        throw storageFailure(error);
      });
      return { size: this.#taken, objectSize: this.#taken, state: null };
    }
    this.#send();
    await this.#until(() => this.#sending.size === 0);
    while (this.#reporting) await this.#reporting;
    this.#throwFailure();
    const upload = await this.#uploadId();
    const asked = performance.now();
    const parts = this.#answers.map((answer, index) => ({ number: index + 1, etag: answer?.etag ?? '' }));
    await claim(this.#taken, { upload, parts: parts.length } satisfies UploadState);
    const objectSize = await completeUpload(bucket, name, upload, parts, asked, pause);
    const sent = this.#answers.reduce((sum, answer) => sum + (answer?.size ?? 0), 0);
    if (objectSize === sent) return { size: this.#taken, objectSize, state: null };
    const cause = new Error(`${name} has ${objectSize} bytes, ${sent} were sent`);
    throw new RegistryError('Unavailable', 'the storage failed', { cause, retryAfter: 5 });
  }

  async close(): Promise<void> {
    this.#progress = undefined;
    this.#fail(new RegistryError('Unavailable', 'the segment was closed'));
    this.#closing.abort(this.#failure);
    this.#part?.drop();
    this.#part = undefined;
    while (this.#sending.size > 0) await Promise.all(this.#sending);
  }
}
