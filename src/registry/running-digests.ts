import { RunningDigest } from '../oci/digest.js';

/** Hash states are small, but sessions that never end add up. */
const MAX_KEPT = 10_000;

/**
 * The running digests of sessions that this process wrote or read last. Only an economy: each can be had again by
 * reading the session's segments.
 *
 * One that is kept stands for the session's first bytes as they were in its epoch, so it is good as long as none of
 * those has lost its name in a later one.
 */
export class RunningDigests {
  readonly #kept = new Map<string, { epoch: number; running: RunningDigest }>();

  keep(upload: string, epoch: number, running: RunningDigest): void {
    this.#kept.delete(upload);
    this.#kept.set(upload, { epoch, running });
    if (this.#kept.size <= MAX_KEPT) return;
    const oldest = this.#kept.keys().next().value;
    if (oldest !== undefined) this.#kept.delete(oldest);
  }

  forget(upload: string): void {
    this.#kept.delete(upload);
  }

  /** A copy of the kept digest if it covers a prefix of the session as it stands, else one that begins at byte 0. */
  resume(
    upload: string,
    algorithm: RunningDigest['algorithm'],
    session: { rewoundEpoch: number; offset: number },
  ): RunningDigest {
    const kept = this.#kept.get(upload);
    const usable =
      kept &&
      kept.running.algorithm === algorithm &&
      kept.epoch >= session.rewoundEpoch &&
      kept.running.size <= session.offset;
    return usable ? kept.running.copy() : new RunningDigest(algorithm);
  }
}
