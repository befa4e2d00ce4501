import { type FileHandle, open } from 'node:fs/promises';
import { ARRIVAL_BYTES, recycle } from '../arrival-buffers.js';
import { RegistryError } from '../errors.js';
import type { MemoryBudget } from './memory-budget.js';
import type { OpenSegment, WriteProgress } from './segment-store.js';

const MiB = 1024 * 1024;

/**
 * Small chunks are gathered up to this size while a write is under way; a lone chunk is written at once. Of a larger chunk
 * each part is written by itself; what is recycled is never larger.
 */
const BATCH_BYTES = ARRIVAL_BYTES;
/** As many pieces as one writev takes; it also bounds what tiny ones cost beside their bytes. */
const BATCH_CHUNKS = 1024;
const MAX_WRITES = 16;
/** An fdatasync every 16 MiB behind the writes was the fastest, and bounds what the last one has to wait for. */
const SYNC_BYTES = 16 * MiB;
const MAX_UNSYNCED_BYTES = 64 * MiB;
/** A stalled upload becomes durable after this long, too: in time for the record that is due after 5 seconds. */
const WINDOW_MS = 4_000;

/** What is used of a file that is appended to. */
export type AppendFile = Pick<FileHandle, 'writev' | 'write' | 'datasync' | 'close'>;

/** Creates a file that must not exist yet. */
export type CreateFile = (path: string) => Promise<AppendFile>;

export const createNew: CreateFile = (path) => open(path, 'wx', 0o640);

interface Batch {
  chunks: Uint8Array[];
  bytes: number;
}

/**
 * A file that is appended to by one writer: writes run ahead, syncs run behind on the same descriptor, one at a time.
 * The first write or sync that fails poisons it: Linux reports such an error once and calls the pages clean afterwards,
 * so a sync that succeeds later proves nothing.
 */
export class DurableFile implements OpenSegment {
  /** Bytes taken from the source; handed to the kernel without a gap; durable. taken >= written >= synced. */
  #taken = 0;
  #written = 0;
  #synced = 0;
  #queue: Batch = { chunks: [], bytes: 0 };
  /** Ends of the writes under way, in the order of the file; a finished one stays until all before it are done. */
  readonly #writes: { end: number; done: boolean }[] = [];
  #syncing = false;
  /** Writes and syncs under way; they never reject. */
  readonly #operations = new Set<Promise<void>>();
  #failure: Error | undefined;
  #boundaries: number[] = [];
  #lastBoundary = 0;
  #reporting: Promise<void> | undefined;
  #progress: WriteProgress | undefined;
  readonly #waiting = new Set<() => void>();
  #sealed: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  private constructor(
    readonly file: AppendFile,
    readonly budget: MemoryBudget,
    /** Resolves when the folder's entry for the file is durable. */
    readonly named: Promise<void>,
  ) {
    named.catch((error: unknown) => this.#fail(error));
  }

  /**
   * Creates `path`, which must not exist, and has the folder synced by `syncFolder` while the first bytes arrive.
   * @throws 'StorageFull', 'Unavailable'
   */
  static async create(
    path: string,
    budget: MemoryBudget,
    syncFolder: () => Promise<void>,
    create: CreateFile = createNew,
  ): Promise<DurableFile> {
    const file = await create(path).catch((error: unknown) => {
      throw storageError(error);
    });
    return new DurableFile(file, budget, syncFolder());
  }

  async write(source: AsyncIterable<Uint8Array>, signal: AbortSignal, progress: WriteProgress): Promise<void> {
    this.#progress = progress;
    const stir = () => this.#stir();
    const timer = setInterval(() => this.#endWindow(), WINDOW_MS);
    signal.addEventListener('abort', stir, { once: true });
    try {
      for await (const chunk of source) {
        for (let at = 0; at < chunk.length; at += BATCH_BYTES) {
          await this.#take(chunk.subarray(at, at + BATCH_BYTES), signal, progress);
        }
      }
      signal.throwIfAborted();
    } finally {
      clearInterval(timer);
      signal.removeEventListener('abort', stir);
    }
  }

  async #take(chunk: Uint8Array, signal: AbortSignal, progress: WriteProgress): Promise<void> {
    if (!this.budget.tryTake(chunk.length)) await this.budget.take(chunk.length, signal);
    try {
      // Only the disk is waited for here, never a report: whoever holds memory must not wait for a database.
      await this.#until(
        () => this.#writes.length < MAX_WRITES && this.#taken - this.#synced < MAX_UNSYNCED_BYTES,
        signal,
      );
    } catch (error) {
      this.budget.give(chunk.length);
      throw error;
    }
    progress.passed(chunk);
    this.#taken += chunk.length;
    this.#queue.chunks.push(chunk);
    this.#queue.bytes += chunk.length;
    if (this.#taken - this.#lastBoundary >= SYNC_BYTES) this.#endWindow();
    this.#pump();
  }

  /** Waits until `ready` holds; throws as soon as the file failed or the signal is aborted. */
  async #until(ready: () => boolean, signal?: AbortSignal): Promise<void> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#failure) throw this.#failure;
      if (ready()) return;
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve);
      });
    }
  }

  /** Has all who wait look again. */
  #stir(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const look of waiting) look();
  }

  #endWindow(): void {
    if (this.#taken === this.#lastBoundary) return;
    this.#lastBoundary = this.#taken;
    this.#boundaries.push(this.#taken);
    this.#progress?.boundary(this.#taken);
    this.#pump();
  }

  #pump(): void {
    if (this.#failure) return;
    const { chunks, bytes } = this.#queue;
    const full = bytes >= BATCH_BYTES || chunks.length >= BATCH_CHUNKS || this.#writes.length === 0;
    if (bytes > 0 && full && this.#writes.length < MAX_WRITES) this.#track(this.#writeBatch());
    const due =
      this.#written - this.#synced >= SYNC_BYTES ||
      this.#boundaries.some((boundary) => boundary > this.#synced && boundary <= this.#written);
    if (due && !this.#syncing) this.#track(this.#sync());
  }

  #track(operation: Promise<void>): void {
    this.#operations.add(operation);
    void operation.finally(() => this.#operations.delete(operation));
  }

  async #writeBatch(): Promise<void> {
    const { chunks, bytes } = this.#queue;
    this.#queue = { chunks: [], bytes: 0 };
    const start = this.#writes.at(-1)?.end ?? this.#written;
    const write = { end: start + bytes, done: false };
    this.#writes.push(write);
    try {
      await writeAll(this.file, chunks, bytes, start);
      for (const chunk of chunks) recycle(chunk);
      write.done = true;
      while (this.#writes[0]?.done) this.#written = this.#writes.shift()?.end ?? this.#written;
    } catch (error) {
      this.#fail(error);
    } finally {
      this.budget.give(bytes);
    }
    this.#pump();
    this.#stir();
  }

  async #sync(): Promise<void> {
    this.#syncing = true;
    const covered = this.#written;
    try {
      await this.named;
      await this.file.datasync();
      // A write that failed meanwhile may have been what this sync should have told of.
      if (this.#failure) return;
      this.#synced = covered;
      this.#report();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#syncing = false;
      this.#stir();
    }
    this.#pump();
  }

  /** Tells of the last window that is durable; one report at a time, and the next one tells of the newest. */
  #report(): void {
    const size = this.#boundaries.filter((boundary) => boundary <= this.#synced).at(-1);
    if (size === undefined || this.#reporting || !this.#progress) return;
    this.#boundaries = this.#boundaries.filter((boundary) => boundary > size);
    this.#reporting = this.#progress
      .durable(size, null)
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#reporting = undefined;
        this.#report();
      });
  }

  #fail(error: unknown): void {
    this.#failure ??= storageError(error);
    this.budget.give(this.#queue.bytes);
    this.#queue = { chunks: [], bytes: 0 };
    this.#stir();
  }

  async seal(): Promise<{ size: number; objectSize: number; state: null }> {
    this.#sealed ??= this.#finish();
    await this.#sealed;
    return { size: this.#taken, objectSize: this.#taken, state: null };
  }

  async #finish(): Promise<void> {
    // Reports go on: if a later sync fails, what earlier ones vouched for still counts.
    this.#endWindow();
    await this.#until(() => this.#synced === this.#taken && !this.#syncing);
    await this.named;
    while (this.#reporting) await this.#reporting;
    if (this.#failure) throw this.#failure;
  }

  async close(): Promise<void> {
    this.#closed ??= this.#release();
    await this.#closed;
  }

  async #release(): Promise<void> {
    this.#progress = undefined;
    this.#fail(new RegistryError('Unavailable', 'the segment was closed'));
    // A descriptor is closed only when nothing uses it any more.
    while (this.#operations.size > 0) await Promise.all(this.#operations);
    await this.named.catch(() => undefined);
    // What is sealed is durable; what is not was never vouched for: there is nothing left that this could tell.
    await this.file.close().catch(() => undefined);
  }
}

/** Writes the chunks at `position`, also when the kernel takes them in several helpings. */
async function writeAll(file: AppendFile, chunks: Uint8Array[], bytes: number, position: number): Promise<void> {
  let { bytesWritten } = await file.writev(chunks, position);
  if (bytesWritten === bytes) return;
  const rest = Buffer.concat(chunks);
  while (bytesWritten < bytes) {
    const more = await file.write(rest, bytesWritten, bytes - bytesWritten, position + bytesWritten);
    if (more.bytesWritten === 0) throw new Error('the file takes no more bytes');
    bytesWritten += more.bytesWritten;
  }
}

/** What a failure of the file system means, by its code. */
export function storageError(error: unknown): RegistryError {
  if (error instanceof RegistryError) return error;
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new RegistryError('StorageFull', 'the storage has no room left', { cause: error, retryAfter: 60 });
  }
  return new RegistryError('Unavailable', 'the storage failed', { cause: error, retryAfter: 5 });
}
