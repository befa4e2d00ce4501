import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';

/** `<2 hex>/<upload id>.<index>.<64 random bits in hex>`; used once. */
export type SegmentKey = string & { readonly __segmentKey: unique symbol };

const KEY = /^[0-9a-f]{2}\/[0-9a-f-]{36}\.[0-9]{1,9}\.[0-9a-f]{16}$/;

/** A key that was never used before. The first two hex digits only spread keys over folders. */
export function newSegmentKey(uploadId: string, index: number): SegmentKey {
  const random = randomBytes(8).toString('hex');
  return `${random.slice(0, 2)}/${uploadId}.${index}.${random}` as SegmentKey;
}

/** The key that `text` spells, or undefined if it is none: a stranger's file in the store's folder. */
export function findSegmentKey(text: string): SegmentKey | undefined {
  return KEY.test(text) ? (text as SegmentKey) : undefined;
}

/** Bytes `start` up to, not including, `end`. */
export interface SegmentRange {
  readonly start: number;
  readonly end: number;
}

/** What a store needs to take a segment up again, kept in the segment's row; its form is the store's own. */
export type SegmentState = Readonly<Record<string, unknown>> | null;

/** What the writer of a segment is told while its bytes pass. All sizes count from the segment's start. */
export interface WriteProgress {
  /** Synchronously, for each run of bytes in order, when the store has taken it. The bytes must not be kept. */
  passed(bytes: Uint8Array): void;
  /** Synchronously, between two `passed`: a window ends at `size`, which may be reported durable later. */
  boundary(size: number): void;
  /**
   * Everything up to `size`, which was a boundary, would survive a crash. The next report waits for the promise, which
   * must not reject; bytes are taken meanwhile.
   */
  durable(size: number, state: SegmentState): Promise<void>;
}

/** A segment that one writer fills. */
export interface OpenSegment {
  /**
   * Appends what `source` yields. Resolves when the source ended and every byte was taken (not yet durable).
   * @param signal ends it; the source must heed it too, also while it waits.
   * @throws what the source threw or the signal's reason: the segment can still be sealed with what passed;
   * 'StorageFull' or 'Unavailable' when the store failed: then it is poisoned and only what was reported durable counts.
   */
  write(source: AsyncIterable<Uint8Array>, signal: AbortSignal, progress: WriteProgress): Promise<void>;
  /** Makes all that passed durable, immutable and readable. Idempotent. @throws when the segment is poisoned. */
  seal(): Promise<{ size: number; objectSize: number; state: SegmentState }>;
  /** Lets go of descriptors and buffers; removes nothing. Idempotent. */
  close(): Promise<void>;
}

/** Bytes under keys that are written once. Knows no digest, no repository, no HTTP, no database. */
export interface SegmentStore {
  /** Creates the object. Its key must be in a committed row. */
  begin(key: SegmentKey): Promise<OpenSegment>;
  /** Takes up a segment whose writer is gone, so that [0, length) can be read; neither extends nor cuts it. Idempotent. */
  recover(key: SegmentKey, length: number, state: SegmentState): Promise<{ objectSize: number | null }>;
  /**
   * Streams a range, which is not empty; the caller reads it to its end or destroys it.
   * @throws 'BlobDamaged' before the first byte if the object is gone or too short; the stream errs if it turns out so later.
   */
  open(key: SegmentKey, range: SegmentRange): Promise<Readable>;
  /** The object's size in bytes, or undefined when there is none. */
  stat(key: SegmentKey): Promise<{ size: number } | undefined>;
  /** Idempotent. Called by the job of removals alone. */
  remove(key: SegmentKey): Promise<void>;
  /** Every key there is, in no order. */
  list(): AsyncIterable<SegmentKey>;
  /** The marker that was written by `mark`, or undefined; a store that holds anything without one is refused. */
  readMarker(): Promise<string | undefined>;
  /** Writes the marker of an empty store. @throws when the store is not empty or is already marked otherwise. */
  mark(marker: string): Promise<void>;
}

/** A named place at which a test can hold the code still; outside tests it does nothing. */
export type PausePoint = (name: string) => Promise<void> | void;
