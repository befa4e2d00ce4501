import { randomBytes } from 'node:crypto';

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

/**
 * Bytes in pieces, each of which is lent: it is good until the next one is asked for or the iteration ends, and then used
 * again. Whoever does not read to the end ends it with `return`.
 */
export interface LentBytes extends AsyncIterableIterator<Uint8Array, undefined> {
  return(): Promise<IteratorResult<Uint8Array, undefined>>;
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

/**
 * Called by a store before a step that must not be taken twice at once for one segment (S3: Complete), with the length in
 * bytes and the state that the step makes final; a writer's claim records both. When it resolves, the time stands in the
 * segment's row, so that nobody else takes the step for `settleSeconds`. When it rejects, the step must not be taken.
 * @throws 'UploadTaken'; 'Unavailable' with `retryAfter` while another may still be in that step.
 */
export type SealClaim = (size: number, state: SegmentState) => Promise<void>;

/** A segment that one writer fills. */
export interface OpenSegment {
  /**
   * Appends what `source` yields. Resolves when the source ended and every byte was taken (not yet durable). Pieces are kept
   * until they are written, also while the next one is asked for: none of them may be lent (`LentBytes`).
   * @param signal ends it; the source must heed it too, also while it waits.
   * @throws what the source threw or the signal's reason: the segment can still be sealed with what passed;
   * 'StorageFull' or 'Unavailable' when the store failed: then it is poisoned and only what was reported durable counts.
   */
  write(source: AsyncIterable<Uint8Array>, signal: AbortSignal, progress: WriteProgress): Promise<void>;
  /**
   * Makes all that passed durable, immutable and readable. Idempotent: the second call gives the first one's outcome.
   * @param claim awaited before a step that must not be taken twice at once; a store without one never calls it.
   * @throws when the segment is poisoned, also when nobody can say whether the last step took place; what `claim` threw.
   */
  seal(claim: SealClaim): Promise<{ size: number; objectSize: number; state: SegmentState }>;
  /** Lets go of descriptors and buffers; removes nothing. Idempotent. */
  close(): Promise<void>;
}

/** Bytes under keys that are written once. Knows no digest, no repository, no HTTP, no database. */
export interface SegmentStore {
  /**
   * For how many seconds a request to the store may still take effect after its sender gave it up or died, as far as the
   * store itself knows. A claim holds for so long, and a key must have been absent twice, at least that far apart, before
   * it is forgotten.
   */
  readonly settleSeconds: number;
  /**
   * Opens a segment for its one writer; the object appears now or when it is sealed. Its key must be in a committed row.
   * @param expected how many bytes are announced, if any: more must not come.
   */
  begin(key: SegmentKey, expected?: number): Promise<OpenSegment>;
  /**
   * Takes up a segment whose writer is gone, so that [0, length) can be read; neither extends nor cuts it. Idempotent.
   * @returns `objectSize`, null while it may still grow; undefined if [0, length) is lost.
   * @throws what `claim` threw; 'Unavailable' when nobody can say yet.
   */
  recover(
    key: SegmentKey,
    length: number,
    state: SegmentState,
    claim: SealClaim,
  ): Promise<{ objectSize: number | null } | undefined>;
  /**
   * Reads a range, which is not empty.
   * @throws 'BlobDamaged' before the first byte if the object is gone or too short; later out of the iteration.
   */
  open(key: SegmentKey, range: SegmentRange): Promise<LentBytes>;
  /** The object's size in bytes, or undefined when there is none. */
  stat(key: SegmentKey): Promise<{ size: number } | undefined>;
  /**
   * Removes the object and whatever was begun for it. Idempotent. Called by the job of removals alone.
   * @returns whether nothing was there.
   */
  remove(key: SegmentKey): Promise<boolean>;
  /** Every key of which the store holds anything, also what was only begun; in no order, some perhaps twice. */
  list(): AsyncIterable<SegmentKey>;
  /** The marker that was written by `mark`, or undefined; a store that holds anything without one is refused. */
  readMarker(): Promise<string | undefined>;
  /**
   * Writes the marker of an empty store, exclusively: of several at once one succeeds.
   * @throws when the store is not empty or carries a marker.
   */
  mark(marker: string): Promise<void>;
  /** Sets up a beacon: a durable object of this name, which stays. Idempotent. @throws 'StorageFull', 'Unavailable' */
  putBeacon(name: string): Promise<void>;
  /** Whether the beacon is here, also if another node set it up a moment ago. @throws 'Unavailable' */
  hasBeacon(name: string): Promise<boolean>;
}

/** A store that can send clients straight to the bytes. */
export interface RedirectingSegmentStore extends SegmentStore {
  /** An address at which whoever has it can read the object for a while, whole or by ranges. */
  urlFor(key: SegmentKey, lifetimeSeconds: number): Promise<URL>;
}

/** A store in which a segment may have been begun more often than its writer knows. */
export interface UploadingSegmentStore extends SegmentStore {
  /** Keys for which something is begun; some perhaps twice. */
  listBegun(): AsyncIterable<SegmentKey>;
  /**
   * Removes what was begun for a segment beside what became its object, if it never got a byte. Only for a sealed segment.
   * Idempotent. @returns how much stays, since it has bytes.
   */
  removeStrays(key: SegmentKey): Promise<number>;
}

export function isUploading(store: SegmentStore): store is UploadingSegmentStore {
  return 'removeStrays' in store;
}

export function isRedirecting(store: SegmentStore): store is RedirectingSegmentStore {
  return 'urlFor' in store;
}

/** A named place at which a test can hold the code still; outside tests it does nothing. */
export type PausePoint = (name: string) => Promise<void> | void;
