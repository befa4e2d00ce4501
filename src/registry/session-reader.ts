import type { DigestAlgorithm, RunningDigest } from '../oci/digest.js';
import type { SegmentStore } from '../storage/segment-store.js';
import { readBody } from './bodies.js';
import { RunningDigests } from './running-digests.js';
import type { UploadSession } from './upload-sessions.js';

/** Reads back what sessions hold, for their digests: each session once at a time in this process. */
export class SessionReader {
  readonly digests = new RunningDigests();
  readonly #store: SegmentStore;
  /** Sessions that are being read; the promises never reject. */
  readonly #reading = new Map<string, Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(store: SegmentStore) {
    this.#store = store;
  }

  /** Aborted when the process stops. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  isReading(id: string): boolean {
    return this.#reading.has(id);
  }

  /** The digest of as many of the session's first bytes as this process has seen. */
  resume(session: ReadableSession, algorithm: DigestAlgorithm): RunningDigest {
    return this.digests.resume(session.id, algorithm, session);
  }

  /**
   * Reads on up to byte `end`; what was read is kept, also if the rest can't be.
   * @throws what the store does, the signal's reason, or that the process stops.
   */
  async read(session: ReadableSession, running: RunningDigest, end: number, signal: AbortSignal): Promise<void> {
    const range = { start: running.size, end };
    try {
      for await (const bytes of readBody(this.#store, session.segments, range)) {
        signal.throwIfAborted();
        // What a request reads must not hold up the process' end either.
        this.stopping.throwIfAborted();
        running.update(bytes);
      }
    } finally {
      this.digests.keep(session.id, session.epoch, running.copy());
    }
  }

  /** Does what needs a session read while nobody else reads it: whoever comes later finds what the former has read. */
  async alone<T>(id: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    for (let reading = this.#reading.get(id); reading; reading = this.#reading.get(id)) {
      await unlessAborted(reading, signal);
    }
    const result = work();
    const done = result.then(
      () => undefined,
      () => undefined,
    );
    this.#reading.set(id, done);
    try {
      return await result;
    } finally {
      this.#reading.delete(id);
    }
  }

  /** Reads no more. */
  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the process stops'));
    await Promise.all(this.#reading.values());
  }
}

/** What reading needs to know of a session. */
export type ReadableSession = Pick<UploadSession, 'id' | 'epoch' | 'rewoundEpoch' | 'offset' | 'segments'>;

/** Waits for a promise that never rejects. @throws the signal's reason as soon as it is aborted. */
async function unlessAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  let leave = (): void => undefined;
  const aborted = new Promise<void>((resolve) => {
    leave = resolve;
  });
  signal.addEventListener('abort', leave, { once: true });
  await Promise.race([promise, aborted]);
  signal.removeEventListener('abort', leave);
  signal.throwIfAborted();
}
