import type { Database } from '../database/connect.js';
import { KnownByAll } from '../database/versions.js';
import { isFailure } from '../errors.js';
import type { Log } from '../log.js';
import { algorithmOf, type Digest, type DigestAlgorithm, digestOf } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import type { PausePoint, SegmentStore } from '../storage/segment-store.js';
import { type Admission, admitNew } from './admission.js';
import { type Actor, announce, type ChangeObserver, rowsOfAll } from './changes.js';
import { DigestFollower } from './digest-follower.js';
import { commitSmall, readSmall } from './small-upload.js';
import { commitSession, isLinked } from './upload-commit.js';
import { committedUpload, takenUpload, wrongDigest } from './upload-errors.js';
import { UploadHolders } from './upload-holders.js';
import { recordProgress, rewindSession } from './upload-progress.js';
import { recoverSegments } from './upload-recovery.js';
import {
  cancelSession,
  createSession,
  findOrigin,
  getSession,
  isCommitted,
  isUploadId,
  prefixOf,
  type SessionOrigin,
  type TakenSession,
  tellOffset,
  type UploadSession,
} from './upload-sessions.js';
import { takeFreshSession, takeSession } from './upload-take.js';
import { SegmentWriter } from './upload-writer.js';

export interface UploadsOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
  readonly observers: readonly ChangeObserver[];
  /** Refuses what may not come in; without it everything may. */
  readonly admit?: Admission | undefined;
  readonly pause: PausePoint;
  /** The largest blob, in bytes. */
  readonly maxBytes: number;
  /** Seconds after the last byte. */
  readonly lifetimeSeconds: number;
  /** Open sessions that one key may have. */
  readonly sessionsPerKey: number;
  readonly readGraceSeconds: number;
  /** How many bytes may become durable before the session's row learns of it; 256 MiB unless a test wants fewer. */
  readonly recordBytes?: number | undefined;
  /** The largest blob whose bytes are kept in its row, in bytes. */
  readonly inlineMaxBytes?: number | undefined;
  /** How often, in milliseconds, a session that this process alone wrote so far is looked at; 500 unless a test wants fewer. */
  readonly followMs?: number | undefined;
  /** How many bytes are read back before the digest of them is recorded; 64 MiB unless a test wants fewer. */
  readonly sliceBytes?: number | undefined;
  /** How long, in milliseconds, a final request waits for a follower that records nothing; 30 s unless a test wants fewer. */
  readonly patienceMs?: number | undefined;
}

/** The migration with which the bytes of a segment may be in its row. */
const INLINE_SINCE = '0009';

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
  readonly #follower: DigestFollower;
  readonly #holders: UploadHolders;
  readonly #mayInline: KnownByAll;

  constructor(options: UploadsOptions) {
    this.#options = options;
    this.#follower = new DigestFollower(options);
    this.#holders = new UploadHolders(options.database);
    this.#mayInline = new KnownByAll(options.database, INLINE_SINCE);
  }

  /**
   * Opens a session. `algorithm` is what its digest will most likely be asked in.
   * @param announced what is known of the bytes before they come
   * @returns its id. @throws 'TooManyRequests', 'Denied'
   */
  async create(
    repository: RepositoryName,
    algorithm: DigestAlgorithm,
    actor: Actor,
    announced: { readonly bytes?: number | undefined; readonly digest?: Digest | undefined } = {},
  ): Promise<string> {
    await this.#admit(repository, announced.bytes, announced.digest);
    const { database, lifetimeSeconds, sessionsPerKey } = this.#options;
    return await createSession(database, { repository, algorithm, actor, lifetimeSeconds, sessionsPerKey });
  }

  async #admit(repository: RepositoryName, bytes: number | undefined, digest: Digest | undefined): Promise<void> {
    const { admit, database } = this.#options;
    await admitNew(admit, repository, { what: 'bytes', bytes }, async () =>
      digest === undefined ? false : await isLinked(database, repository, digest),
    );
  }

  /** How many bytes are durable. @throws 'UploadUnknown' */
  async status(target: Target): Promise<number> {
    return await tellOffset(this.#options.database, target.id, target.repository);
  }

  /** Who began a session, and when (seconds since 1970), if there is such a session. */
  async findOrigin(id: string, repository: RepositoryName): Promise<SessionOrigin | undefined> {
    return isUploadId(id) ? await findOrigin(this.#options.database, id, repository) : undefined;
  }

  /** @throws 'UploadUnknown' */
  async cancel(target: Target): Promise<void> {
    await this.#options.database.transaction((transaction) => cancelSession(transaction, target.id, target.repository));
    this.#follower.forget(target.id);
    this.oust(target.id, Number.POSITIVE_INFINITY);
  }

  /**
   * Appends a chunk and makes it durable. If the client breaks off, what arrived is kept.
   * @returns the offset after it.
   * @throws 'UploadUnknown', 'UploadOutOfOrder', 'UploadTaken', 'SizeInvalid', 'BlobTooLarge', or what the source threw.
   */
  async append(target: Target, body: UploadBody): Promise<number> {
    await this.#admit(target.repository, body.length, undefined);
    const session = await this.#take(target, body.from, true);
    if (session.committedDigest !== null) throw committedUpload();
    const written = await this.#holders.hold(session, (controller) =>
      this.#write(session, body, session.algorithm, controller),
    );
    await written.record(true);
    this.#follower.left(session, written);
    return written.offset;
  }

  /**
   * Takes a whole blob at once, also one whose digest nobody knows before. If it fails, nothing of it is kept.
   * @param wanted what it has to be, or an algorithm alone
   * @throws as `append`, and 'DigestInvalid'
   */
  async store(
    repository: RepositoryName,
    body: UploadBody,
    wanted: Digest | DigestAlgorithm,
    actor: Actor,
  ): Promise<{ readonly digest: Digest; readonly size: number }> {
    const expected = wanted.includes(':') ? (wanted as Digest) : undefined;
    const algorithm = expected === undefined ? (wanted as DigestAlgorithm) : algorithmOf(expected);
    const announced = { bytes: body.length, digest: expected };
    const target = { id: await this.create(repository, algorithm, actor, announced), repository, actor };
    try {
      const session = await this.#take(target, 0, true);
      if (session.committedDigest !== null) throw committedUpload();
      const { written, digest } = await this.#writeLast(target, session, body, algorithm);
      if (expected !== undefined && digest !== expected) throw wrongDigest(expected, digest);
      await this.#commit(target, session, digest, written);
      return { digest, size: written.offset };
    } catch (error) {
      // Nobody was told of the session, so nobody can go on with it.
      await this.cancel(target).catch(() => undefined);
      throw error;
    }
  }

  /**
   * Ends a session: appends the last bytes, if there are any, and makes the whole the blob `digest`. Can be repeated.
   * @throws as `append`, and 'DigestInvalid', after which the session is as it was before this request.
   */
  async finish(target: Target, digest: Digest, body: UploadBody | undefined): Promise<void> {
    if (body) await this.#admit(target.repository, body.length, digest);
    try {
      if (body) await this.#finishSmall(target, digest, body);
      else await this.#finishWithout(target, digest);
    } catch (error) {
      // Sent twice at once: the other one may have committed it.
      if (!isFailure(error, 'UploadTaken') || !(await isCommitted(this.#options.database, target.id, digest)))
        throw error;
    }
  }

  /** The short way of a small body whose session has no bytes yet; of all others the long one. */
  async #finishSmall(target: Target, digest: Digest, body: UploadBody): Promise<void> {
    const { database, observers, inlineMaxBytes = 0, maxBytes, pause } = this.#options;
    const first = body.from === undefined || body.from === 0;
    const wanted = first && body.length !== undefined && body.length <= inlineMaxBytes;
    const small =
      wanted && (await this.#mayInline.isSo()) ? await readSmall(body, Math.min(inlineMaxBytes, maxBytes)) : undefined;
    const { bytes } = small ?? {};
    if (bytes && digestOf(algorithmOf(digest), bytes) === digest) {
      const { id, repository, actor } = target;
      const change = { kind: 'blob-pushed', repository, digest, size: bytes.length } as const;
      const inserts = rowsOfAll(observers, change, actor);
      await pause('upload:before-commit');
      if (inserts && (await commitSmall(database, { id, repository, digest, bytes, inserts }))) return;
    }
    await this.#finishWithBytes(target, digest, small?.body ?? body);
  }

  async #finishWithBytes(target: Target, digest: Digest, body: UploadBody): Promise<void> {
    const session = await this.#take(target, body.from, true);
    if (session.committedDigest !== null) return await this.#repeat(session, target, digest);
    const { written, digest: actual } = await this.#writeLast(target, session, body, algorithmOf(digest));
    if (actual !== digest) {
      await this.#rewind(session, written);
      this.#follower.left(session, written);
      throw wrongDigest(digest, actual);
    }
    await this.#commit(target, session, digest, written);
  }

  async #finishWithout(target: Target, digest: Digest): Promise<void> {
    const { database } = this.#options;
    const session = await getSession(database, target.id, target.repository);
    if (session.committedDigest !== null) return await this.#repeat(session, target, digest);
    const known = prefixOf(session, algorithmOf(digest));
    // Before it is taken: a wrong request must not stop a writer that is at work.
    if (known !== undefined && known !== digest) throw wrongDigest(digest, known);
    const whole = session.segments.every((segment) => segment.objectSize !== null);
    if (known !== undefined && whole && session.body !== null)
      return await this.#commit(target, { ...session, body: session.body }, digest);

    const taken = await this.#take(target, 'offset', false);
    if (taken.committedDigest !== null) return await this.#repeat(taken, target, digest);
    const algorithm = algorithmOf(digest);
    const actual = await this.#holders.hold(taken, async ({ signal }) => {
      await recoverSegments(this.#options, taken);
      return await this.#follower.digestOf(taken, algorithm, signal);
    });
    if (actual !== digest) throw wrongDigest(digest, actual);
    await this.#commit(target, taken, digest);
  }

  /** Writes the last bytes of a session. @returns with the digest of all; if they were not hashed, the row names them then. */
  async #writeLast(target: Target, session: TakenSession, body: UploadBody, algorithm: DigestAlgorithm) {
    return await this.#holders.hold(session, async (controller) => {
      const written = await this.#write(session, body, algorithm, controller);
      if (written.running) return { written, digest: written.running.digest() };
      await written.record(false);
      const { epoch, committedDigest, ...grown } = await getSession(
        this.#options.database,
        target.id,
        target.repository,
      );
      if (epoch !== session.epoch || committedDigest !== null) throw takenUpload();
      const { body: named, segment } = session;
      const whole = { ...grown, epoch, committedDigest, body: named, segment };
      return { written, digest: await this.#follower.digestOf(whole, algorithm, controller.signal) };
    });
  }

  /** A final PUT that was already answered once: the same answer, if it still holds. */
  async #repeat(session: UploadSession, target: Target, digest: Digest): Promise<void> {
    const holds =
      session.committedDigest === digest && (await isLinked(this.#options.database, target.repository, digest));
    if (!holds) throw committedUpload();
  }

  async #take(target: Target, from: number | 'offset' | undefined, bringsBytes: boolean) {
    const { database, lifetimeSeconds, pause } = this.#options;
    const request = { id: target.id, repository: target.repository, from, bringsBytes, lifetimeSeconds };
    const isFirst = bringsBytes && (typeof from !== 'number' || from === 0);
    const session =
      (isFirst && (await takeFreshSession(database, request))) ||
      (await database.transaction((transaction) => takeSession(transaction, request)));
    if (session.committedDigest === null) this.oust(session.id, session.epoch);
    await pause('upload:taken');
    return session;
  }

  /** Stops the request of this process that holds the session in an epoch before `epoch`, if there is one. */
  oust(id: string, epoch: number): void {
    this.#holders.oust(id, epoch);
  }

  /** Follows no session any more. Requests should have ended. */
  async stop(): Promise<void> {
    await this.#follower.stop();
  }

  /** Streams the bytes into the request's segment, which is sealed at the end, and hashes them as they pass. */
  async #write(
    session: TakenSession,
    body: UploadBody,
    algorithm: DigestAlgorithm,
    controller: AbortController,
  ): Promise<SegmentWriter> {
    await recoverSegments(this.#options, session);
    const hashing = await this.#follower.begin(session, algorithm, controller.signal);
    const writer = new SegmentWriter(session, hashing, body.length, this.#options);
    try {
      await writer.write(body, controller);
    } catch (error) {
      if (isFailure(error, 'SizeInvalid', 'BlobTooLarge')) await this.#rewind(session, writer);
      this.#follower.left(session, writer);
      throw error;
    }
    return writer;
  }

  async #rewind(session: TakenSession, writer: SegmentWriter): Promise<void> {
    await this.#options.database.transaction((transaction) => rewindSession(transaction, session, writer));
  }

  /** @param written by the request itself, if it brought anything; recorded in the same transaction, unless it is already. */
  async #commit(
    target: Target,
    session: UploadSession & { body: number },
    digest: Digest,
    written?: SegmentWriter,
  ): Promise<void> {
    const { database, observers, pause, readGraceSeconds, lifetimeSeconds } = this.#options;
    const { repository, actor } = target;
    const { id, body, epoch } = session;
    const size = written?.offset ?? session.offset;
    const progress = written && !written.recorded ? written.progress(true) : undefined;
    await pause('upload:before-commit');
    await database.transaction(async (transaction) => {
      if (progress) await recordProgress(transaction, session, progress, lifetimeSeconds);
      const commit = { id, repository, body, epoch, digest, size, readGraceSeconds };
      const healed = await commitSession(transaction, commit);
      await announce(observers, { kind: 'blob-pushed', repository, digest, size }, actor, transaction);
      if (healed) await announce(observers, { kind: 'blob-healed', digest, size, source: 'push' }, actor, transaction);
      await pause('upload:in-commit');
    });
    this.#follower.forget(id);
    this.oust(id, epoch + 1);
    await pause('upload:committed');
  }
}
