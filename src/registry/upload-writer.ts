import { isFailure, RegistryError } from '../errors.js';
import type { RunningDigest } from '../oci/digest.js';
import type { OpenSegment, SegmentState } from '../storage/segment-store.js';
import { readBody, type Segment } from './bodies.js';
import { type PrefixDigest, type Progress, recordProgress } from './upload-progress.js';
import type { TakenSession } from './upload-sessions.js';
import { segmentsToSwallow } from './upload-swallow.js';
import type { UploadBody, UploadsOptions } from './uploads.js';

const MiB = 1024 * 1024;

/** How much may arrive, and how long, before the session's row learns of it. */
const RECORD_BYTES = 256 * MiB;
const RECORD_MS = 5_000;

/** A size of the segment with the digest of the session up to there, if the request hashes. */
interface Window {
  readonly length: number;
  readonly prefix: PrefixDigest | undefined;
}

/** How a request goes about the session's digest. */
export interface Hashing {
  /** The digest of all that the session holds where the request's bytes begin; undefined: its bytes are not hashed. */
  readonly start: RunningDigest | undefined;
  /** The process that follows the session once the request has recorded something; undefined: whoever does. */
  readonly follower: string | undefined;
}

/**
 * One request's way with its segment: bytes pass through the hash, if it hashes, into the store, and the session's row follows
 * what is durable, every 256 MiB or 5 seconds and at the end. The segment may begin with a copy of small ones before it: those
 * keep their places until a record says that this one holds more than they do.
 */
export class SegmentWriter {
  /** The digest of the session with all that passed, if the request hashes. */
  readonly running: RunningDigest | undefined;
  /** See Hashing. */
  readonly follower: string | undefined;
  /** How many bytes of the segment were the session's before. */
  readonly swallowedBytes: number;
  readonly #session: TakenSession;
  readonly #options: UploadsOptions;
  readonly #swallowed: readonly Segment[];
  /** Bytes of the segment so far. */
  #passed = 0;
  /** Window ends that are not durable yet. */
  #windows: Window[] = [];
  #durable: (Window & { state: SegmentState }) | undefined;
  #recordedLength = 0;
  #recordedAt = performance.now();
  /** The record under way; never rejects. One at a time, or an earlier one might come later. */
  #recording: Promise<void> = Promise.resolve();
  #sealed: { objectSize: number; state: SegmentState } | undefined;
  #recorded = false;

  /** @throws 'SizeInvalid' if the session has too many segments. */
  constructor(session: TakenSession, hashing: Hashing, brings: number | undefined, options: UploadsOptions) {
    this.#session = session;
    this.#options = options;
    this.follower = hashing.follower;
    this.running = hashing.start?.copy();
    this.#swallowed = segmentsToSwallow(session.segments, brings);
    this.swallowedBytes = this.#swallowed.reduce((sum, segment) => sum + segment.length, 0);
  }

  /** Bytes of the session with this request's. */
  get offset(): number {
    return this.#offsetAt(this.#passed);
  }

  /** Whether the session's row names all that passed, in a sealed segment. */
  get recorded(): boolean {
    return this.#recorded;
  }

  /**
   * Writes the body and seals the segment, also when the body broke off: then what arrived is recorded before the error
   * goes on. After a failure of the store only what it had reported durable is recorded.
   * @param controller stops it; aborted here as soon as a record finds that the session is no longer this request's.
   * @throws 'SizeInvalid' or 'BlobTooLarge' (the caller rewinds), 'UploadTaken', or what the body or the store threw.
   */
  async write(body: UploadBody, controller: AbortController): Promise<void> {
    const { segment } = this.#session;
    if (!segment) throw new Error('a request without a segment has nothing to write');
    const { store, pause } = this.#options;
    const expected = body.length === undefined ? undefined : this.swallowedBytes + body.length;
    const open = await store.begin(segment.key, expected);
    // For what was reported too early to be due, and then the client stalled.
    const timer = setInterval(() => void this.#follow(controller), RECORD_MS);
    const settle = async () => {
      clearInterval(timer);
      await this.#recording;
    };
    try {
      await pause('upload:begun');
      await open.write(this.#source(body, controller.signal), controller.signal, {
        passed: (bytes) => this.#pass(bytes),
        boundary: (length) => this.#endWindow(length),
        durable: (length, state) => this.#report(length, state, controller),
      });
      await pause('upload:written');
      await this.#seal(open);
    } catch (error) {
      await settle();
      if (!isFailure(error, 'UploadTaken', 'SizeInvalid', 'BlobTooLarge')) await this.#salvage(open);
      throw error;
    } finally {
      await settle();
      await open.close();
    }
  }

  async *#source(body: UploadBody, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    // They are lent, and the store keeps them for a while.
    for await (const bytes of readBody(this.#options.store, this.#swallowed, { start: 0, end: this.swallowedBytes }))
      yield Uint8Array.from(bytes);
    const { maxBytes } = this.#options;
    const room = maxBytes - this.#session.offset;
    if (body.length !== undefined && body.length > room) throw tooLarge(maxBytes);
    let length = 0;
    for await (const bytes of body.read(signal)) {
      length += bytes.length;
      if (length > room) throw tooLarge(maxBytes);
      if (body.length !== undefined && length > body.length) throw wrongLength(body.length, 'more');
      yield bytes;
    }
    if (body.length !== undefined && length < body.length) throw wrongLength(body.length, 'fewer');
  }

  /** What was swallowed is in the running digest already. */
  #pass(bytes: Uint8Array): void {
    const known = Math.min(Math.max(this.swallowedBytes - this.#passed, 0), bytes.length);
    this.#passed += bytes.length;
    if (known < bytes.length) this.running?.update(bytes.subarray(known));
  }

  #endWindow(length: number): void {
    if (length > this.swallowedBytes) this.#windows.push({ length, prefix: this.#prefix() });
  }

  async #report(length: number, state: SegmentState, controller: AbortController): Promise<void> {
    const window = this.#windows.find((candidate) => candidate.length === length);
    if (!window) return;
    this.#windows = this.#windows.filter((candidate) => candidate.length > length);
    this.#durable = { ...window, state };
    const due =
      length - this.#recordedLength >= (this.#options.recordBytes ?? RECORD_BYTES) ||
      performance.now() - this.#recordedAt >= RECORD_MS;
    if (due) await this.#follow(controller);
  }

  /** Has the row follow what is durable. While the database is away the bytes go on, and the next time tells of them. */
  #follow(controller: AbortController): Promise<void> {
    this.#recording = this.#recording.then(async () => {
      try {
        await this.#recordDurable();
      } catch (error) {
        if (isFailure(error, 'UploadTaken')) controller.abort(error);
        else this.#warn(error, 'the progress of an upload could not be recorded');
      }
    });
    return this.#recording;
  }

  async #recordDurable(): Promise<void> {
    if (!this.#durable || this.#durable.length <= this.#recordedLength) return;
    const { length, prefix, state } = this.#durable;
    const progress = this.#progress(this.#grown(length, null, state), length, prefix);
    await recordProgress(this.#options.database, this.#session, progress, this.#options.lifetimeSeconds);
    this.#recordedLength = length;
    this.#recordedAt = performance.now();
    await this.#options.pause('upload:recorded');
  }

  async #seal(open: OpenSegment): Promise<void> {
    const { size, objectSize, state } = await open.seal((length, claimed) => this.#claim(length, claimed));
    if (size !== this.#passed) throw new Error(`${this.#passed} bytes passed, but ${size} were sealed`);
    this.#sealed = { objectSize, state };
    await this.#options.pause('upload:sealed');
  }

  /**
   * All is durable, and the store is about to make one object of it: the row says so first, and from here on a successor
   * waits. A segment that has nothing to give stays a spare, which no successor takes up.
   * @throws 'UploadTaken': then the store must not go on.
   */
  async #claim(length: number, state: SegmentState): Promise<void> {
    if (length !== this.#passed) throw new Error(`${this.#passed} bytes passed, but ${length} are to be sealed`);
    const { database, lifetimeSeconds, pause } = this.#options;
    // After the record under way, and with none behind it that knows less.
    const claim = this.#recording.then(async () => {
      const segment = this.#grown(length, null, state);
      const progress = { ...this.#progress(segment, length, this.#prefix()), sealing: true };
      await recordProgress(database, this.#session, progress, lifetimeSeconds);
      this.#recordedLength = length;
      this.#recordedAt = performance.now();
    });
    this.#recording = claim.catch(() => undefined);
    await claim;
    await pause('upload:sealing');
  }

  /** The body broke off, or the store did: keeps what is durable, as far as that can be. */
  async #salvage(open: OpenSegment): Promise<void> {
    await this.#seal(open).catch((error: unknown) => this.#warn(error, 'a broken segment could not be sealed'));
    try {
      if (this.#sealed) await this.record(false);
      // Poisoned, the segment counts as far as the store had vouched for it.
      else await this.#recordDurable();
    } catch (error) {
      if (!isFailure(error, 'UploadTaken')) this.#warn(error, 'what a broken request had sent could not be recorded');
    }
  }

  #warn(error: unknown, message: string): void {
    this.#options.log.warn({ err: error, upload: this.#session.id }, message);
  }

  /**
   * What there is to record of the sealed segment, in a transaction of the caller's or by `record`.
   * @param told whether the client is about to be told.
   */
  progress(told: boolean): Progress {
    if (!this.#sealed) throw new Error('the segment is not sealed');
    const { objectSize, state } = this.#sealed;
    const segment = this.#grown(this.#passed, objectSize, state);
    return { ...this.#progress(segment, this.#passed, this.#prefix()), told };
  }

  /** @throws 'UploadTaken' */
  async record(told: boolean): Promise<void> {
    const { database, lifetimeSeconds, pause } = this.#options;
    await recordProgress(database, this.#session, this.progress(told), lifetimeSeconds);
    this.#recorded = true;
    await pause('upload:recorded');
  }

  /** A segment that holds no more than it swallowed has nothing to give: it stays a spare. */
  #grown(length: number, objectSize: number | null, state: SegmentState): Progress['segment'] {
    const { segment } = this.#session;
    if (!segment || length <= this.swallowedBytes) return undefined;
    return { id: segment.id, length, objectSize, state, swallowed: this.#swallowed.map(({ id }) => id) };
  }

  #progress(segment: Progress['segment'], length: number, prefix: PrefixDigest | undefined): Progress {
    return { offset: this.#offsetAt(length), segment, prefix, follower: this.follower, told: false };
  }

  /** Bytes of the session with so many of the segment's. */
  #offsetAt(length: number): number {
    return this.#session.offset + Math.max(0, length - this.swallowedBytes);
  }

  #prefix(): PrefixDigest | undefined {
    if (!this.running) return undefined;
    return { algorithm: this.running.algorithm, size: this.running.size, digest: this.running.digest() };
  }
}

function tooLarge(maxBytes: number): RegistryError {
  return new RegistryError('BlobTooLarge', `a blob may have at most ${maxBytes} bytes`);
}

function wrongLength(announced: number, what: 'more' | 'fewer'): RegistryError {
  return new RegistryError('SizeInvalid', `${announced} bytes were announced, but ${what} came`, {
    detail: { announced },
  });
}
