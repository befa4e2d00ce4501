import type { Database } from '../database/connect.js';
import { isFailure, RegistryError } from '../errors.js';
import type { Log } from '../log.js';
import { algorithmOf, type Digest, type DigestAlgorithm, type RunningDigest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import type { PausePoint, SegmentStore } from '../storage/segment-store.js';
import { readBody, recoverSegments } from './bodies.js';
import { type Actor, announce, type ChangeObserver } from './changes.js';
import { RunningDigests } from './running-digests.js';
import { commitSession, isLinked } from './upload-commit.js';
import {
  cancelSession,
  createSession,
  getSession,
  recordProgress,
  rewindSession,
  type TakenSession,
  takenUpload,
  takeSession,
  tellOffset,
  type UploadSession,
} from './upload-sessions.js';
import { SegmentWriter } from './upload-writer.js';

export interface UploadsOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
  readonly observers: readonly ChangeObserver[];
  readonly pause: PausePoint;
  /** The largest blob, in bytes. */
  readonly maxBytes: number;
  /** Seconds after the last byte. */
  readonly lifetimeSeconds: number;
  readonly readGraceSeconds: number;
}

/** Bytes that a request brings for a session. */
export interface UploadBody {
  /** Begins to read them; the signal ends it, also while it waits for the client. */
  read(signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** The offset at which they begin, from Content-Range; undefined: where the client was last told. */
  readonly from: number | undefined;
  /** How many there must be, from Content-Length or Content-Range; undefined: as many as come. */
  readonly length: number | undefined;
}

interface Target {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly actor: Actor;
}

/**
 * Upload sessions: bytes come in as segments, in place, and a commit names them. The states and races stand in
 * spec/uploads.md.
 */
export class Uploads {
  readonly #options: UploadsOptions;
  readonly #digests = new RunningDigests();
  /** The requests of this process that hold a session, so that whoever takes it stops them at once. */
  readonly #writers = new Map<string, { epoch: number; controller: AbortController }>();

  constructor(options: UploadsOptions) {
    this.#options = options;
  }

  /** Opens a session. `algorithm` is what its digest will most likely be asked in. @returns its id. */
  async create(repository: RepositoryName, algorithm: DigestAlgorithm, actor: Actor): Promise<string> {
    const { database, lifetimeSeconds } = this.#options;
    return await database.transaction((transaction) =>
      createSession(transaction, { repository, algorithm, actor, lifetimeSeconds }),
    );
  }

  /** How many bytes are durable. @throws 'UploadUnknown' */
  async status(target: Target): Promise<number> {
    return await tellOffset(this.#options.database, target.id, target.repository);
  }

  /** @throws 'UploadUnknown' */
  async cancel(target: Target): Promise<void> {
    await this.#options.database.transaction((transaction) => cancelSession(transaction, target.id, target.repository));
    this.#digests.forget(target.id);
    this.oust(target.id, Number.POSITIVE_INFINITY);
  }

  /**
   * Appends a chunk and makes it durable. If the client breaks off, what arrived is kept.
   * @returns the offset after it.
   * @throws 'UploadUnknown', 'UploadOutOfOrder', 'UploadTaken', 'SizeInvalid', 'BlobTooLarge', or what the source threw.
   */
  async append(target: Target, body: UploadBody): Promise<number> {
    const session = await this.#take(target, body.from, true);
    if (!isTaken(session)) throw new RegistryError('UploadUnknown', 'this upload is already committed');
    const written = await this.#write(session, body, session.algorithm);
    await written.record(true);
    this.#digests.keep(session.id, session.epoch, written.running);
    return written.offset;
  }

  /**
   * Ends a session: appends the last bytes, if there are any, and makes the whole the blob `digest`. Can be repeated.
   * @throws as `append`, and 'DigestInvalid', after which the session is as it was before this request.
   */
  async finish(target: Target, digest: Digest, body: UploadBody | undefined): Promise<void> {
    if (body) await this.#finishWithBytes(target, digest, body);
    else await this.#finishWithout(target, digest);
  }

  async #finishWithBytes(target: Target, digest: Digest, body: UploadBody): Promise<void> {
    const session = await this.#take(target, body.from, true);
    if (!isTaken(session)) return await this.#repeat(session, target, digest);
    const written = await this.#write(session, body, algorithmOf(digest));
    const actual = written.running.digest();
    if (actual !== digest) {
      await this.#rewind(session, written.start);
      throw wrongDigest(digest, actual);
    }
    await this.#commit(target, session, digest, written.offset, written.sealed);
  }

  async #finishWithout(target: Target, digest: Digest): Promise<void> {
    const { database, store } = this.#options;
    let session = await getSession(database, target.id, target.repository);
    if (session.committedDigest !== null) return await this.#repeat(session, target, digest);
    let known = prefixOf(session, algorithmOf(digest));
    const whole = session.segments.every((segment) => segment.objectSize !== null || segment.length === 0);
    if (known === undefined || !whole) {
      const taken = await this.#take(target, 'offset', false);
      if (!isTaken(taken)) return await this.#repeat(taken, target, digest);
      session = taken;
      await recoverSegments(database, store, taken.segments);
      const running = await this.#catchUp(taken, algorithmOf(digest));
      known = running.digest();
      // Recorded before the answer: a second PUT, wherever it arrives, compares strings.
      const prefix = { algorithm: running.algorithm, size: running.size, digest: known };
      const progress = { offset: taken.offset, length: 0, objectSize: null, state: null, prefix, told: false };
      await recordProgress(database, taken, progress, this.#options.lifetimeSeconds);
      this.#digests.keep(taken.id, taken.epoch, running);
    }
    if (known !== digest) throw wrongDigest(digest, known);
    if (session.body === null) throw takenUpload();
    await this.#commit(target, { ...session, body: session.body }, digest, session.offset, undefined);
  }

  /** A final PUT that was already answered once: the same answer, if it still holds. */
  async #repeat(session: UploadSession, target: Target, digest: Digest): Promise<void> {
    const holds =
      session.committedDigest === digest && (await isLinked(this.#options.database, target.repository, digest));
    if (!holds) throw new RegistryError('UploadUnknown', 'this upload is already committed');
  }

  async #take(target: Target, from: number | 'offset' | undefined, bringsBytes: boolean) {
    const { database, lifetimeSeconds, pause } = this.#options;
    const session = await database.transaction((transaction) =>
      takeSession(transaction, { id: target.id, repository: target.repository, from, bringsBytes, lifetimeSeconds }),
    );
    if (isTaken(session)) this.oust(session.id, session.epoch);
    await pause('upload:taken');
    return session;
  }

  /** Stops the request of this process that holds the session in an epoch before `epoch`, if there is one. */
  oust(id: string, epoch: number): void {
    const writer = this.#writers.get(id);
    if (writer && writer.epoch < epoch) writer.controller.abort(takenUpload());
  }

  /** Streams the bytes into the request's segment, which is sealed at the end, and hashes them as they pass. */
  async #write(session: TakenSession, body: UploadBody, algorithm: DigestAlgorithm): Promise<SegmentWriter> {
    const { database, store } = this.#options;
    const controller = new AbortController();
    const holder = { epoch: session.epoch, controller };
    this.#writers.set(session.id, holder);
    try {
      await recoverSegments(database, store, session.segments);
      const start = await this.#catchUp(session, algorithm);
      const writer = new SegmentWriter(session, start, start.copy(), this.#options);
      try {
        await writer.write(body, controller.signal);
      } catch (error) {
        if (isFailure(error, 'SizeInvalid', 'BlobTooLarge')) await this.#rewind(session, start);
        else if (writer.recorded) this.#digests.keep(session.id, session.epoch, writer.running);
        throw error;
      }
      return writer;
    } finally {
      if (this.#writers.get(session.id) === holder) this.#writers.delete(session.id);
    }
  }

  /** The running digest of all that the session holds; reads what this process has not seen pass. */
  async #catchUp(session: TakenSession, algorithm: DigestAlgorithm): Promise<RunningDigest> {
    const running = this.#digests.resume(session.id, algorithm, session);
    if (running.size === session.offset) return running;
    const bytes = await readBody(this.#options.store, session.segments, { start: running.size, end: session.offset });
    for await (const chunk of bytes) running.update(chunk);
    this.#digests.keep(session.id, session.epoch, running.copy());
    return running;
  }

  async #rewind(session: TakenSession, start: RunningDigest): Promise<void> {
    await this.#options.database.transaction((transaction) => rewindSession(transaction, session));
    this.#digests.keep(session.id, session.epoch, start);
  }

  async #commit(
    target: Target,
    session: UploadSession & { body: number },
    digest: Digest,
    size: number,
    sealed: SegmentWriter['sealed'],
  ): Promise<void> {
    const { database, observers, pause, readGraceSeconds } = this.#options;
    const { repository, actor } = target;
    await pause('upload:before-commit');
    await database.transaction(async (transaction) => {
      const { id, body, epoch } = session;
      await commitSession(transaction, {
        id,
        repository,
        body,
        epoch,
        digest,
        size,
        segment: sealed,
        readGraceSeconds,
      });
      await announce(observers, { kind: 'blob-pushed', repository, digest, size }, actor, transaction);
      await pause('upload:in-commit');
    });
    this.#digests.forget(session.id);
    await pause('upload:committed');
  }
}

function isTaken(session: UploadSession | TakenSession): session is TakenSession {
  return 'lastEpoch' in session;
}

/** The digest of all that the session holds, if its row knows it. */
function prefixOf(session: UploadSession, algorithm: DigestAlgorithm): Digest | undefined {
  const holds = session.algorithm === algorithm && session.prefixSize === session.offset;
  return holds ? (session.prefixDigest ?? undefined) : undefined;
}

function wrongDigest(wanted: Digest, actual: Digest): RegistryError {
  return new RegistryError('DigestInvalid', 'the uploaded bytes do not have this digest', {
    detail: { digest: wanted, uploaded: actual },
  });
}
