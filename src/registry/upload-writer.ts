import { isFailure, RegistryError } from '../errors.js';
import type { RunningDigest } from '../oci/digest.js';
import type { OpenSegment, SegmentState } from '../storage/segment-store.js';
import { type PrefixDigest, recordProgress, type TakenSession } from './upload-sessions.js';
import type { UploadBody, UploadsOptions } from './uploads.js';

const MiB = 1024 * 1024;

/** How much may arrive, and how long, before the session's row learns of it. */
const RECORD_BYTES = 256 * MiB;
const RECORD_MS = 5_000;

interface DurablePoint {
  readonly length: number;
  readonly prefix: PrefixDigest;
  readonly state: SegmentState;
}

/**
 * One request's way with its segment: bytes pass through the hash into the store, and the session's row follows what is
 * durable, every 256 MiB or 5 seconds and at the end.
 */
export class SegmentWriter {
  /** What was sealed; undefined if the request brought no segment. */
  sealed: { id: number; length: number; objectSize: number; state: SegmentState } | undefined;
  /** Whether the session's row says exactly what `running` has hashed. */
  recorded = false;
  readonly #session: TakenSession;
  readonly #options: UploadsOptions;
  /** The digests at window ends that are not durable yet, by size. */
  #windows: { length: number; prefix: PrefixDigest }[] = [];
  #durable: DurablePoint | undefined;
  #recordedLength = 0;
  #recordedAt = performance.now();

  constructor(
    session: TakenSession,
    /** The running digest where the request's bytes begin. */
    readonly start: RunningDigest,
    /** The same run, which goes on with the bytes as they pass. */
    readonly running: RunningDigest,
    options: UploadsOptions,
  ) {
    this.#session = session;
    this.#options = options;
  }

  /** Bytes of the session with this request's. */
  get offset(): number {
    return this.running.size;
  }

  get #length(): number {
    return this.running.size - this.#session.offset;
  }

  /**
   * Writes the body and seals the segment, also when the body broke off: then what arrived is recorded before the error
   * goes on. After a failure of the store only what it had reported durable is recorded.
   * @throws 'SizeInvalid' or 'BlobTooLarge' (nothing is recorded), 'UploadTaken', or what the body or the store threw.
   */
  async write(body: UploadBody, signal: AbortSignal): Promise<void> {
    const { segment } = this.#session;
    if (!segment) throw new Error('a request without a segment has nothing to write');
    const open = await this.#options.store.begin(segment.key);
    try {
      await this.#options.pause('upload:begun');
      await open.write(this.#checked(body, signal), signal, {
        passed: (bytes) => this.running.update(bytes),
        boundary: (length) => this.#windows.push({ length, prefix: this.#prefix() }),
        durable: (length, state) => this.#report(length, state),
      });
      await this.#options.pause('upload:written');
      await this.#seal(open, segment.id);
    } catch (error) {
      if (!isFailure(error, 'UploadTaken', 'SizeInvalid', 'BlobTooLarge')) {
        await this.#salvage(open, segment.id).catch((failure: unknown) => {
          this.#options.log.warn(
            { err: failure, upload: this.#session.id },
            'what a broken request had sent could not be recorded',
          );
        });
      }
      throw error;
    } finally {
      await open.close();
    }
  }

  async *#checked(body: UploadBody, signal: AbortSignal): AsyncGenerator<Uint8Array> {
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

  async #seal(open: OpenSegment, id: number): Promise<void> {
    const { size, objectSize, state } = await open.seal();
    if (size !== this.#length) throw new Error(`${this.#length} bytes passed, but ${size} were sealed`);
    this.sealed = { id, length: size, objectSize, state };
    await this.#options.pause('upload:sealed');
  }

  /** The body broke off, or the store or the database did: keeps what is durable, as far as that can be. */
  async #salvage(open: OpenSegment, id: number): Promise<void> {
    try {
      await this.#seal(open, id);
      await this.record(false);
    } catch (error) {
      if (isFailure(error, 'UploadTaken')) return;
      this.#options.log.warn(
        { err: error, upload: this.#session.id },
        'a segment could not be sealed after its request broke off',
      );
      // Poisoned, the segment counts as far as the store had vouched for it.
      await this.#recordDurable();
    }
  }

  async #report(length: number, state: SegmentState): Promise<void> {
    const window = this.#windows.find((candidate) => candidate.length === length);
    if (!window) throw new Error(`the store reported ${length} bytes durable, which is no window's end`);
    this.#windows = this.#windows.filter((candidate) => candidate.length > length);
    this.#durable = { ...window, state };
    const due = length - this.#recordedLength >= RECORD_BYTES || performance.now() - this.#recordedAt >= RECORD_MS;
    if (due) await this.#recordDurable();
  }

  async #recordDurable(): Promise<void> {
    if (!this.#durable || this.#durable.length <= this.#recordedLength) return;
    const { length, prefix, state } = this.#durable;
    await recordProgress(
      this.#options.database,
      this.#session,
      { offset: this.#session.offset + length, length, objectSize: null, state, prefix, told: false },
      this.#options.lifetimeSeconds,
    );
    this.#recordedLength = length;
    this.#recordedAt = performance.now();
    await this.#options.pause('upload:recorded');
  }

  /**
   * Records all that was sealed. @param told whether the client is about to be told.
   * @throws 'UploadTaken'
   */
  async record(told: boolean): Promise<void> {
    await recordProgress(
      this.#options.database,
      this.#session,
      {
        offset: this.offset,
        length: this.sealed?.length ?? 0,
        objectSize: this.sealed?.objectSize ?? null,
        state: this.sealed?.state ?? null,
        prefix: this.#prefix(),
        told,
      },
      this.#options.lifetimeSeconds,
    );
    this.recorded = true;
    await this.#options.pause('upload:recorded');
  }

  #prefix(): PrefixDigest {
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
