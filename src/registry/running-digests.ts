import { type DigestAlgorithm, RunningDigest } from '../oci/digest.js';

/** Hash states are small, but sessions that never end add up. */
const MAX_KEPT = 10_000;

interface Kept {
  readonly epoch: number;
  readonly running: RunningDigest;
}

/**
 * The running digests of sessions that this process followed, wrote or read last. Only an economy: each can be had again
 * by reading the session's segments.
 *
 * One that is kept stands for the session's first bytes as its row had them in that epoch. Later epochs only append,
 * unless they take names away, which `rewoundEpoch` tells: so it is good from there on, and a process reads no byte of a
 * session twice as long as its bytes keep their names.
 */
export class RunningDigests {
  readonly #kept = new Map<string, Map<DigestAlgorithm, Kept>>();

  /** Keeps a digest of bytes that the session's row named in `epoch`. */
  keep(upload: string, epoch: number, running: RunningDigest): void {
    const kept = this.#kept.get(upload) ?? new Map<DigestAlgorithm, Kept>();
    // A request that lost its session ends late: what its successor knows is worth more.
    if ((kept.get(running.algorithm)?.epoch ?? 0) > epoch) return;
    kept.set(running.algorithm, { epoch, running });
    this.#kept.delete(upload);
    this.#kept.set(upload, kept);
    if (this.#kept.size <= MAX_KEPT) return;
    const oldest = this.#kept.keys().next().value;
    if (oldest !== undefined) this.#kept.delete(oldest);
  }

  forget(upload: string): void {
    this.#kept.delete(upload);
  }

  /** A copy of the kept digest if it covers a prefix of the session as it stands, else one that begins at byte 0. */
  resume(upload: string, algorithm: DigestAlgorithm, session: { rewoundEpoch: number; offset: number }): RunningDigest {
    const kept = this.#kept.get(upload)?.get(algorithm);
    const usable = kept && kept.epoch >= session.rewoundEpoch && kept.running.size <= session.offset;
    return usable ? kept.running.copy() : new RunningDigest(algorithm);
  }
}
