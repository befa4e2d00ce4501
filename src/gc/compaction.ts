import type { Database } from '../database/connect.js';
import { dropAbandoned, isReplacing, startReplacement } from '../registry/replacements.js';
import { CompactionWalk } from './compaction-walk.js';
import type { Job } from './jobs.js';
import { Rewriter, type RewriterOptions } from './rewriter.js';

/** A maker of a body that was not seen for so long is taken to be gone. */
const IDLE_SECONDS = 600;

export interface CompactionOptions extends RewriterOptions {
  /** How often all blobs are looked through. */
  readonly everyMs: number;
  /** Smaller blobs stay as they are. */
  readonly minBytes: number;
  /** Whether the store can hold so many bytes more without running short. */
  readonly hasRoom: (bytes: number) => Promise<boolean>;
}

/**
 * Makes one object of blobs that are several, or a ragged one, so that clients can be sent to it (decision 0016). One blob
 * at a time in the cluster.
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
  readonly #rewriter: Rewriter;

  constructor(options: CompactionOptions) {
    this.#options = options;
    this.#walk = new CompactionWalk(options.database, options.minBytes);
    this.#rewriter = new Rewriter(options);
  }

  /** Compacts the next blob. @returns whether there may be more. */
  async run(signal: AbortSignal | undefined): Promise<boolean> {
    const { database, log, pause, hasRoom } = this.#options;
    // Another process believes that it holds the job's lock, or one died: its row is looked after by the other job.
    if (await isReplacing(database)) return false;
    const next = await this.#walk.next();
    if (!next) return false;
    const { digest, size, body } = next;
    if (this.#rewriter.isDamaged(digest, body)) return true;
    if (!(await hasRoom(size))) {
      log.warn({ digest, size }, 'a blob is not compacted: there is no room for a second copy');
      return true;
    }
    await pause('compaction:chosen');
    const replacement = await startReplacement(database, digest);
    if (replacement) await this.#rewriter.rewrite(replacement, signal);
    return signal?.aborted !== true;
  }
}
