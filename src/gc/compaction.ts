import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../database/connect.js';
import { isFailure, RegistryError } from '../errors.js';
import type { Log } from '../log.js';
import { algorithmOf, type Digest, RunningDigest } from '../oci/digest.js';
import { readBody } from '../registry/bodies.js';
import {
  dropAbandoned,
  dropReplacement,
  finishReplacement,
  isReplacing,
  keepReplacement,
  type Replacement,
  ReplacementLost,
  startReplacement,
} from '../registry/replacements.js';
import type { PausePoint, SegmentStore } from '../storage/segment-store.js';
import { CompactionWalk } from './compaction-walk.js';
import type { Job } from './jobs.js';

/** How often the maker of a body says that it is at work; one that was not seen for the other time is taken to be gone. */
const KEEP_MS = 5_000;
const IDLE_SECONDS = 600;

/**
 * How a compaction ended: the blob is one object; its bytes are not what its digest says, or are not all there; it went
 * away or was replaced by others, or the process stopped; the storage or the database failed, or there was no room.
 */
export const COMPACTION_OUTCOMES = ['done', 'damaged', 'abandoned', 'failed'] as const;
export type CompactionOutcome = (typeof COMPACTION_OUTCOMES)[number];

/** Told of what compaction does. */
export interface CompactionObserver {
  passed(bytes: number): void;
  ended(outcome: CompactionOutcome): void;
}

export interface CompactionOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
  readonly pause: PausePoint;
  readonly observer: CompactionObserver;
  /** How often all blobs are looked through. */
  readonly everyMs: number;
  /** Bytes that are read, hashed and written in a second, at most. */
  readonly bytesPerSecond: number;
  /** Smaller blobs stay as they are. */
  readonly minBytes: number;
  /** How long the bytes of the body that goes stay for those who are reading them. */
  readonly readGraceSeconds: number;
  /** Whether the store can hold so many bytes more without running short. */
  readonly hasRoom: (bytes: number) => Promise<boolean>;
}

/**
 * Makes one object of blobs that are several, or a ragged one, so that clients can be sent to it (decision 0016). One blob
 * at a time in the cluster: reads it as clients do, hashes what it reads, and names the new body only if the digest is
 * right.
 */
export function compactionJob(options: CompactionOptions): Job {
  const compactor = new Compactor(options);
  return { name: 'compaction', everyMs: options.everyMs, run: (signal) => compactor.run(signal) };
}

/** Drops what compactors have left that died, also where compaction is off by now. */
export function abandonedJob(database: Database, everyMs: number, readGraceSeconds: number): Job {
  const run = async () => {
    await dropAbandoned(database, IDLE_SECONDS, readGraceSeconds);
    return false;
  };
  return { name: 'abandoned replacements', everyMs, run };
}

class Compactor {
  readonly #options: CompactionOptions;
  readonly #walk: CompactionWalk;
  /** Bodies that were found damaged: not read again by this process. */
  readonly #damaged = new Map<Digest, number>();

  constructor(options: CompactionOptions) {
    this.#options = options;
    this.#walk = new CompactionWalk(options.database, options.minBytes);
  }

  /** Compacts the next blob. @returns whether there may be more. */
  async run(signal: AbortSignal | undefined): Promise<boolean> {
    const { database, log, pause, hasRoom } = this.#options;
    // Another process believes that it holds the job's lock, or one died: its row is looked after by the other job.
    if (await isReplacing(database)) return false;
    const next = await this.#walk.next();
    if (!next) return false;
    const { digest, size, body } = next;
    if (this.#damaged.get(digest) === body) return true;
    if (!(await hasRoom(size))) {
      log.warn({ digest, size }, 'a blob is not compacted: there is no room for a second copy');
      return true;
    }
    await pause('compaction:chosen');
    const replacement = await startReplacement(database, digest);
    if (replacement) await this.#compact(replacement, signal);
    return signal?.aborted !== true;
  }

  async #compact(replacement: Replacement, stopping: AbortSignal | undefined): Promise<void> {
    const { database, log, observer } = this.#options;
    const { digest, size, replaces, segments } = replacement;
    let outcome: CompactionOutcome = 'failed';
    try {
      outcome = (await this.#build(replacement, stopping)) ? 'done' : 'abandoned';
      if (outcome === 'done') log.info({ digest, size, segments: segments.length }, 'a blob is one object now');
    } catch (error) {
      if (error instanceof ReplacementLost || stopping?.aborted) outcome = 'abandoned';
      else if (!isFailure(error, 'BlobDamaged')) throw error;
      // A key that is gone means nothing if the blob is gone, too, or has other bytes by now.
      else if (!(await this.#isStill(replacement))) outcome = 'abandoned';
      else {
        outcome = 'damaged';
        this.#damaged.set(digest, replaces);
        log.error({ err: error, digest, size }, 'the stored bytes of a blob are damaged; it was not compacted');
      }
    } finally {
      observer.ended(outcome);
      if (outcome !== 'done') await database.transaction((transaction) => dropReplacement(transaction, replacement));
    }
  }

  /** @returns whether the blob has the new body. @throws ReplacementLost; 'BlobDamaged'; what store or database throw */
  async #build(replacement: Replacement, stopping: AbortSignal | undefined): Promise<boolean> {
    const { database, store, pause, observer, readGraceSeconds } = this.#options;
    const { digest, size, segments, segment } = replacement;
    const lost = new AbortController();
    const signal = stopping ? AbortSignal.any([stopping, lost.signal]) : lost.signal;
    const timer = setInterval(() => {
      keepReplacement(database, replacement).catch((error: unknown) => {
        // While the database is away the bytes go on.
        if (error instanceof ReplacementLost) lost.abort(error);
      });
    }, KEEP_MS);
    const running = new RunningDigest(algorithmOf(digest));
    try {
      await pause('compaction:begun');
      const open = await store.begin(segment.key, size);
      try {
        const bytes = readBody(store, segments, { start: 0, end: size });
        await open.write(paced(bytes, this.#options.bytesPerSecond, signal), signal, {
          passed: (piece) => {
            running.update(piece);
            observer.passed(piece.length);
          },
          boundary: () => undefined,
          // Who begins again begins at the first byte.
          durable: () => Promise.resolve(),
        });
        if (running.digest() !== digest) throw otherDigest(running.digest());
        await pause('compaction:written');
        const { objectSize } = await open.seal(() => keepReplacement(database, replacement));
        await pause('compaction:sealed');
        return await database.transaction(async (transaction) => {
          const swapped = await finishReplacement(transaction, replacement, objectSize, readGraceSeconds);
          await pause('compaction:in-swap');
          return swapped;
        });
      } finally {
        await open.close();
      }
    } finally {
      clearInterval(timer);
    }
  }

  async #isStill({ digest, replaces }: Replacement): Promise<boolean> {
    const text = 'select from blobs where digest = $1 and body = $2';
    return (await this.#options.database.query(text, [digest, replaces])).length > 0;
  }
}

/** Passes the bytes on at this pace at most; what was missed while somebody else was slow is not made up for. */
async function* paced(
  source: AsyncIterable<Uint8Array>,
  bytesPerSecond: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let due = performance.now();
  for await (const bytes of source) {
    signal.throwIfAborted();
    // They are lent, and whoever writes them keeps them for a while.
    yield Uint8Array.from(bytes);
    due = Math.max(due, performance.now()) + (1000 * bytes.length) / bytesPerSecond;
    const wait = due - performance.now();
    if (wait >= 1) await sleep(wait, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

function otherDigest(actual: Digest): RegistryError {
  const cause = new Error(`its bytes have the digest ${actual}`);
  return new RegistryError('BlobDamaged', 'the stored bytes of this blob are damaged', { cause });
}
