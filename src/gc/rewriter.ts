import type { Database, Queries } from '../database/connect.js';
import { isFailure, RegistryError } from '../errors.js';
import type { Log } from '../log.js';
import { algorithmOf, type Digest, RunningDigest } from '../oci/digest.js';
import { readBody } from '../registry/bodies.js';
import {
  dropReplacement,
  finishReplacement,
  keepReplacement,
  type Replacement,
  ReplacementLost,
} from '../registry/replacements.js';
import type { PausePoint, SegmentStore } from '../storage/segment-store.js';
import { Pace } from './pace.js';

/** How often the maker of a body says that it is at work. */
const KEEP_MS = 5_000;

/**
 * How it ended: the blob is one new object; its bytes are not what its digest says, or are not all there; it went away or
 * was replaced by others, or the process stopped; the storage or the database failed, or there was no room.
 */
export const REWRITE_OUTCOMES = ['done', 'damaged', 'abandoned', 'failed'] as const;
export type RewriteOutcome = (typeof REWRITE_OUTCOMES)[number];

/** Told of what is written anew. */
export interface RewriteObserver {
  passed(bytes: number): void;
  ended(outcome: RewriteOutcome): void;
}

export interface RewriterOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
  readonly pause: PausePoint;
  readonly observer: RewriteObserver;
  /** Bytes that are read, hashed and written in a second, at most. */
  readonly bytesPerSecond: number;
  /** How long the bytes of the body that goes stay for those who are reading them. */
  readonly readGraceSeconds: number;
  /** Where the bytes are read, under the same keys; the store itself if it is left out. */
  readonly source?: SegmentStore;
  /** Told in the transaction that has put the new body in its place. */
  readonly onSwapped?: (transaction: Queries, replacement: Replacement) => Promise<void>;
}

/**
 * Writes blobs anew as one object each (decision 0016): reads them as clients do, hashes what it reads, and names the new
 * body only if the digest is right.
 */
export class Rewriter {
  readonly #options: RewriterOptions;
  /** Bodies that were found damaged. */
  readonly #damaged = new Map<Digest, number>();

  constructor(options: RewriterOptions) {
    this.#options = options;
  }

  /** Whether this process found the blob's body damaged: it need not be read again. */
  isDamaged(digest: Digest, body: number): boolean {
    return this.#damaged.get(digest) === body;
  }

  /** Builds what was started, and puts it in its place or gives it up. @throws what store or database threw */
  async rewrite(replacement: Replacement, stopping: AbortSignal | undefined): Promise<RewriteOutcome> {
    const { database, log, observer } = this.#options;
    const { digest, size, replaces, segments } = replacement;
    let outcome: RewriteOutcome = 'failed';
    try {
      outcome = (await this.#build(replacement, stopping)) ? 'done' : 'abandoned';
      if (outcome === 'done') log.info({ digest, size, segments: segments.length }, 'a blob is one object now');
      return outcome;
    } catch (error) {
      if (error instanceof ReplacementLost || stopping?.aborted) outcome = 'abandoned';
      else if (!isFailure(error, 'BlobDamaged')) throw error;
      // A key that is gone means nothing if the blob is gone, too, or has other bytes by now.
      else if (!(await this.#isStill(replacement))) outcome = 'abandoned';
      else {
        outcome = 'damaged';
        this.#damaged.set(digest, replaces);
        log.error({ err: error, digest, size }, 'the stored bytes of a blob are damaged; it was not written anew');
      }
      return outcome;
    } finally {
      observer.ended(outcome);
      if (outcome !== 'done') await database.transaction((transaction) => dropReplacement(transaction, replacement));
    }
  }

  /** @returns whether the blob has the new body. @throws ReplacementLost; 'BlobDamaged'; what store or database throw */
  async #build(replacement: Replacement, stopping: AbortSignal | undefined): Promise<boolean> {
    const { database, store, source = store, pause, observer, readGraceSeconds, onSwapped } = this.#options;
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
        const bytes = readBody(source, segments, { start: 0, end: size });
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
          if (swapped) await onSwapped?.(transaction, replacement);
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

/** Passes the bytes on at this pace at most. */
async function* paced(
  source: AsyncIterable<Uint8Array>,
  bytesPerSecond: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const pace = new Pace(bytesPerSecond);
  for await (const bytes of source) {
    signal.throwIfAborted();
    // They are lent, and whoever writes them keeps them for a while.
    yield Uint8Array.from(bytes);
    await pace.passed(bytes.length, signal);
  }
}

function otherDigest(actual: Digest): RegistryError {
  const cause = new Error(`its bytes have the digest ${actual}`);
  return new RegistryError('BlobDamaged', 'the stored bytes of this blob are damaged', { cause });
}
