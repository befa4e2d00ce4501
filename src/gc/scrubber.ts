import type { Database } from '../database/connect.js';
import { isFailure } from '../errors.js';
import type { Log } from '../log.js';
import type { Digest } from '../oci/digest.js';
import { requireOwnStore } from '../registry/installation.js';
import type { SegmentStore } from '../storage/segment-store.js';
import type { BlobFault, Inspector } from './inspector.js';
import type { PassCounts } from './scrub-passes.js';

/** Blobs of a step at most; it ends earlier when it has taken this long. */
const BATCH = 100;
const BATCH_MS = 5_000;
/** A blob that fails so often in a row, while the store is there, is passed over. */
const ATTEMPTS = 3;

export interface ScrubberOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
  readonly inspector: Inspector;
  readonly observer: ScrubObserver;
}

/** Told of what is looked at. */
export interface ScrubObserver {
  /** Bytes that were read and hashed. */
  read(bytes: number): void;
  looked(): void;
  fault(fault: BlobFault): Promise<void> | void;
  /** A blob that could not be read, though the store was there. */
  unread(digest: Digest, error: unknown): void;
}

/** What a step came to. */
export interface Step {
  /** The last blob that was looked at; undefined: there is none behind the place where it began. */
  readonly at: Digest | undefined;
  readonly counts: PassCounts;
  /** What broke it off, after `at`. */
  readonly failure: Error | undefined;
}

/** Goes through all blobs in the order of their digests, step by step, from wherever it is told to. */
export class Scrubber {
  readonly #options: ScrubberOptions;
  /** The blob that failed last, and how often in a row. */
  #failed: { readonly digest: Digest; readonly times: number } | undefined;

  constructor(options: ScrubberOptions) {
    this.#options = options;
  }

  /** Looks at some blobs behind `after`. @throws what the database threw before the first */
  async step(after: Digest | '', signal: AbortSignal): Promise<Step> {
    const { database, inspector, observer } = this.#options;
    const page = await database.query<{ digest: Digest; size: number }>(
      'select digest, size from blobs where digest > $1 order by digest limit $2',
      [after, BATCH],
    );
    const counts = { blobs: 0, bytes: 0, faults: 0, healed: 0, unread: 0 };
    const began = performance.now();
    let at: Digest | undefined;
    let failure: Error | undefined;
    for (const { digest, size } of page) {
      try {
        signal.throwIfAborted();
        const fault = await inspector.inspect(digest, signal);
        if (fault) {
          await observer.fault(fault);
          counts.faults += 1;
          if (fault.healed) counts.healed += 1;
        }
        counts.bytes += size;
        observer.looked();
      } catch (error) {
        if (!(await this.#passesOver(digest, error, signal))) {
          failure = error instanceof Error ? error : new Error(String(error));
          break;
        }
        observer.unread(digest, error);
        counts.unread += 1;
      }
      counts.blobs += 1;
      at = digest;
      if (performance.now() - began >= BATCH_MS) break;
    }
    return { at, counts, failure };
  }

  /**
   * Whether to go on behind a blob that could not be looked at. Not while the store or the database is away: that says
   * nothing of a blob. One that fails again and again while they are there (a bad sector) must not hold up all others; it is
   * not quarantined, since whoever asks for it is told of the failure anyway.
   */
  async #passesOver(digest: Digest, error: unknown, signal: AbortSignal): Promise<boolean> {
    const { database, store, log } = this.#options;
    if (signal.aborted || !isFailure(error, 'Unavailable')) return false;
    const away = await requireOwnStore(database, store).then(
      () => false,
      () => true,
    );
    if (away) return false;
    const times = this.#failed?.digest === digest ? this.#failed.times + 1 : 1;
    this.#failed = { digest, times };
    if (times < ATTEMPTS) return false;
    log.error({ err: error, digest }, 'a blob can not be read, though the storage is there: it is passed over');
    return true;
  }
}
