import type { Actor } from '../actor.js';
import type { Database, Queries } from '../database/connect.js';
import { isFailure } from '../errors.js';
import type { Log } from '../log.js';
import type { Digest } from '../oci/digest.js';
import { announce, type ChangeObserver, type HealingSource } from '../registry/changes.js';
import { endQuarantine, startHealing } from '../registry/quarantine.js';
import type { PausePoint, SegmentStore } from '../storage/segment-store.js';
import { Rewriter } from './rewriter.js';

export interface HealerOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  /** Where a copy of the bytes is, under the same keys; it is only read. */
  readonly second: SegmentStore | undefined;
  readonly log: Log;
  readonly pause: PausePoint;
  readonly observers: readonly ChangeObserver[];
  readonly actor: Actor;
  readonly bytesPerSecond: number;
  readonly readGraceSeconds: number;
  readonly healed: (source: HealingSource) => void;
}

/**
 * Puts quarantined blobs to use again: from a second store as compaction builds a body (decision 0016), so that nothing gets
 * in whose digest is not right; or as they are, if their own bytes were found to be right.
 */
export class Healer {
  readonly #options: HealerOptions;
  readonly #rewriter: Rewriter | undefined;

  constructor(options: HealerOptions) {
    const { second, database, store, pause, bytesPerSecond, readGraceSeconds } = options;
    this.#options = options;
    this.#rewriter =
      second &&
      new Rewriter({
        database,
        store,
        source: second,
        log: options.log.child({ from: 'the second store' }),
        pause,
        observer: { passed: () => undefined, ended: () => undefined },
        bytesPerSecond,
        readGraceSeconds,
        onSwapped: (transaction, { digest, size }) => this.#announce(transaction, digest, size, 'second-store'),
      });
  }

  /** @returns whether the blob has its right bytes from the second store now. A store that is away is no failure of the caller. */
  async heal(digest: Digest, signal: AbortSignal): Promise<boolean> {
    const { database, log } = this.#options;
    if (!this.#rewriter) return false;
    const replacement = await startHealing(database, digest);
    if (!replacement) return false;
    try {
      if ((await this.#rewriter.rewrite(replacement, signal)) !== 'done') return false;
    } catch (error) {
      if (!isFailure(error, 'Unavailable', 'StorageFull')) throw error;
      log.warn({ err: error, digest }, 'a blob could not be healed now; it will be tried again');
      return false;
    }
    this.#options.healed('second-store');
    return true;
  }

  /** Ends the quarantine of a blob whose body was found to be right. @returns whether it had that body still. */
  async release(blob: { readonly digest: Digest; readonly body: number; readonly size: number }): Promise<boolean> {
    const { database, log, healed } = this.#options;
    const { digest, size } = blob;
    const released = await database.transaction(async (transaction) => {
      if (!(await endQuarantine(transaction, blob))) return false;
      await this.#announce(transaction, digest, size, 'restored');
      return true;
    });
    if (!released) return false;
    log.info({ digest, size }, 'the bytes of a quarantined blob are right again');
    healed('restored');
    return true;
  }

  async #announce(transaction: Queries, digest: Digest, size: number, source: HealingSource): Promise<void> {
    const { observers, actor } = this.#options;
    await announce(observers, { kind: 'blob-healed', digest, size, source }, actor, transaction);
  }
}
