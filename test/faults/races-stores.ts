// Stores with which the tests of races look into, hold up or repeat what a process does.
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FilesystemStore } from '../../src/storage/filesystem.js';
import type {
  LentBytes,
  OpenSegment,
  SealClaim,
  SegmentKey,
  SegmentRange,
  SegmentState,
  SegmentStore,
  WriteProgress,
} from '../../src/storage/segment-store.js';

/** A store that passes everything on. */
export class PassingStore implements SegmentStore {
  constructor(
    readonly inner: FilesystemStore,
    readonly settleSeconds = inner.settleSeconds,
  ) {}

  begin(key: SegmentKey): Promise<OpenSegment> {
    return this.inner.begin(key);
  }
  recover(
    key: SegmentKey,
    length: number,
    _state: SegmentState,
    _claim: SealClaim,
  ): Promise<{ objectSize: number | null } | undefined> {
    return this.inner.recover(key, length);
  }
  open(key: SegmentKey, range: SegmentRange): Promise<LentBytes> {
    return this.inner.open(key, range);
  }
  stat(key: SegmentKey): Promise<{ size: number } | undefined> {
    return this.inner.stat(key);
  }
  remove(key: SegmentKey): Promise<boolean> {
    return this.inner.remove(key);
  }
  list(): AsyncIterable<SegmentKey> {
    return this.inner.list();
  }
  readMarker(): Promise<string | undefined> {
    return this.inner.readMarker();
  }
  mark(marker: string): Promise<void> {
    return this.inner.mark(marker);
  }
  putBeacon(name: string): Promise<void> {
    return this.inner.putBeacon(name);
  }
  hasBeacon(name: string): Promise<boolean> {
    return this.inner.hasBeacon(name);
  }
}

/** Remembers what was read of it. */
export class CountingStore extends PassingStore {
  readonly reads: { key: SegmentKey; range: SegmentRange }[] = [];

  override open(key: SegmentKey, range: SegmentRange): Promise<LentBytes> {
    this.reads.push({ key, range });
    return super.open(key, range);
  }
}

/**
 * Reports every chunk as a durable window of its own, so that with `recordBytes: 1` each is recorded at once; or, if it
 * `lags`, only when the next one has passed.
 */
export class EagerStore extends PassingStore {
  constructor(
    inner: FilesystemStore,
    readonly lags = false,
  ) {
    super(inner);
  }

  override async begin(key: SegmentKey): Promise<OpenSegment> {
    const { lags } = this;
    const path = join(this.inner.root, key);
    await appendFile(path, '', { flag: 'ax' });
    let size = 0;
    return {
      async write(source, signal, progress: WriteProgress) {
        for await (const bytes of source) {
          signal.throwIfAborted();
          await appendFile(path, bytes);
          const before = size;
          progress.passed(bytes);
          size += bytes.length;
          progress.boundary(size);
          const durable = lags ? before : size;
          if (durable > 0) await progress.durable(durable, null);
        }
        signal.throwIfAborted();
      },
      seal: () => Promise.resolve({ size, objectSize: size, state: null }),
      close: () => Promise.resolve(),
    };
  }
}

/** What a store is that makes its object in a last step: it claims before that, and a successor takes the step again. */
export class ClaimingStore extends PassingStore {
  /** Keys of which the last step was taken. */
  readonly completed: SegmentKey[] = [];
  /** What becomes of the last step, once it is claimed. */
  complete: (key: SegmentKey) => Promise<void> = () => Promise.resolve();

  override async begin(key: SegmentKey): Promise<OpenSegment> {
    const open = await super.begin(key);
    let sealed: ReturnType<OpenSegment['seal']> | undefined;
    let size = 0;
    const finish = async (claim: SealClaim) => {
      await claim(size, { parts: 1 });
      await this.#complete(key);
      return await open.seal(claim);
    };
    return {
      write: (source, signal, progress) =>
        open.write(source, signal, {
          passed: (bytes) => {
            size += bytes.length;
            progress.passed(bytes);
          },
          boundary: (at) => progress.boundary(at),
          durable: (at, state) => progress.durable(at, state),
        }),
      seal: (claim) => {
        sealed ??= finish(claim);
        return sealed;
      },
      close: () => open.close(),
    };
  }

  override async recover(key: SegmentKey, length: number, state: SegmentState, claim: SealClaim) {
    if (!this.completed.includes(key)) {
      await claim(length, state);
      await this.#complete(key);
    }
    const found = await super.recover(key, length, state, claim);
    return found && { objectSize: (await this.stat(key))?.size ?? null };
  }

  async #complete(key: SegmentKey): Promise<void> {
    await this.complete(key);
    this.completed.push(key);
  }
}
