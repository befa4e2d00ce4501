import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFailure } from '../errors.js';
import type { Digest, DigestAlgorithm, RunningDigest } from '../oci/digest.js';
import { Turns } from '../storage/turns.js';
import type { Segment } from './bodies.js';
import { FollowedSessions } from './followed-sessions.js';
import {
  type FollowedSession,
  findFollowed,
  leavePlaces,
  lookAtFollowed,
  lookAtPrefix,
  type PrefixOwner,
  recordPrefix,
  takePlace,
} from './follower-rows.js';
import { SessionReader } from './session-reader.js';
import { recordProgress } from './upload-progress.js';
import { prefixOf, type TakenSession } from './upload-sessions.js';
import type { Hashing, SegmentWriter } from './upload-writer.js';
import type { UploadsOptions } from './uploads.js';

const MiB = 1024 * 1024;
/** How much is read of a session before the digest is recorded, and another session has its turn. */
const SLICE_BYTES = 64 * MiB;
/** A follower that is no further behind reads that before it takes a chunk, as then it can hash the chunk as it passes. */
const NEAR_BYTES = 64 * MiB;
/** How many sessions are read for others at a time; the rest wait in line, and each has one slice a turn. */
const READERS = 4;
/** How often who waits for a follower looks how far it is. */
const WAIT_MS = 25;
/** A follower that lives but records nothing for so long, as its store hangs or others have their turn, is waited for no more. */
const PATIENCE_MS = 30_000;

/**
 * This process' part in the digests of sessions that several processes serve (decision 0021). Of each session one process
 * keeps the running digest: its follower. It reads what others write, behind them, and records the digest of as much as it
 * has; the others do not hash what they take. A final request waits for it, or takes its place.
 */
export class DigestFollower {
  /** By which rows name this process. */
  readonly #name: string = randomUUID();
  readonly #options: UploadsOptions;
  readonly #reader: SessionReader;
  readonly #followed: FollowedSessions;
  /** Sessions that are read for others, or wait for their turn. */
  readonly #following = new Map<string, Promise<void>>();
  readonly #turns = new Turns(READERS);
  readonly #sliceBytes: number;

  constructor(options: UploadsOptions) {
    this.#options = options;
    this.#reader = new SessionReader(options.store);
    this.#followed = new FollowedSessions(() => this.#look(), options.followMs);
    this.#sliceBytes = options.sliceBytes ?? SLICE_BYTES;
  }

  /** How a request goes about the digest of the session that it took. @throws what reading does. */
  async begin(session: TakenSession, algorithm: DigestAlgorithm, signal: AbortSignal): Promise<Hashing> {
    const start = this.#reader.resume(session, algorithm);
    const lag = session.offset - start.size;
    if (lag === 0) return { start, follower: this.#name };
    const isFree = session.follower === null || session.followerSilent;
    const mayFollow = (isFree || session.follower === this.#name) && !this.#followed.isGivenUp(session.id);
    // Nobody follows a session in two algorithms.
    if (algorithm !== session.algorithm || (mayFollow && lag <= NEAR_BYTES))
      return { start: await this.#catchUp(session, algorithm, signal), follower: this.#name };
    return { start: undefined, follower: mayFollow ? this.#name : undefined };
  }

  /** A request that wrote leaves the session open. */
  left(session: TakenSession, { running, recorded, follower }: SegmentWriter): void {
    // Of bytes that the row does not name no digest is kept.
    if (running && recorded) this.#reader.digests.keep(session.id, session.epoch, running);
    if (follower === this.#name) this.#followed.add(session.id);
  }

  /** The session is no more, or committed. */
  forget(id: string): void {
    this.#reader.digests.forget(id);
    this.#followed.delete(id);
  }

  /**
   * The digest of all that a session holds, whose segments are all recovered: from its row, at once or as soon as its
   * follower has read it; or from its bytes, and then its row knows it.
   * @throws 'UploadTaken', or what reading does.
   */
  async digestOf(session: TakenSession, algorithm: DigestAlgorithm, signal: AbortSignal): Promise<Digest> {
    const known = prefixOf(session, algorithm) ?? (await this.#waitFor(session, algorithm, signal));
    if (known !== undefined) return known;
    const { database, lifetimeSeconds } = this.#options;
    if (session.follower !== this.#name) await takePlace(database, session, this.#name);
    this.#followed.add(session.id);
    const running = await this.#catchUp(session, algorithm, signal);
    // Recorded before the answer: a second PUT, wherever it arrives, compares strings.
    const prefix = { algorithm, size: running.size, digest: running.digest() };
    const progress = { offset: session.offset, segment: undefined, prefix, follower: this.#name, told: false };
    await recordProgress(database, session, progress, lifetimeSeconds);
    return prefix.digest;
  }

  /** @returns the digest that the follower records; undefined if this process has to see to it. */
  async #waitFor(session: TakenSession, algorithm: DigestAlgorithm, signal: AbortSignal): Promise<Digest | undefined> {
    // The last segment was unsealed when it was taken: a follower may not read it.
    const isOpen = session.segments.at(-1)?.objectSize === null;
    const isOurs = session.follower === this.#name || algorithm !== session.algorithm || isOpen;
    if (isOurs || this.#reader.resume(session, algorithm).size === session.offset) return undefined;
    const { database, patienceMs = PATIENCE_MS } = this.#options;
    let reached = -1;
    let movedAt = 0;
    for (;;) {
      const { digest, size, silent } = await lookAtPrefix(database, session, algorithm);
      if (digest !== null) return digest;
      const now = performance.now();
      if (size > reached) {
        reached = size;
        movedAt = now;
      }
      if (silent || now - movedAt > patienceMs) return undefined;
      await this.#options.pause('upload:waiting');
      await sleep(WAIT_MS, undefined, { signal }).catch(() => undefined);
      signal.throwIfAborted();
    }
  }

  /** The running digest of all that the session holds; reads what this process has not seen pass. */
  async #catchUp(session: TakenSession, algorithm: DigestAlgorithm, signal: AbortSignal): Promise<RunningDigest> {
    return await this.#reader.alone(session.id, signal, async () => {
      const running = this.#reader.resume(session, algorithm);
      if (running.size === session.offset) return running;
      await this.#options.pause('upload:catching-up');
      for (;;) {
        const end = Math.min(session.offset, running.size + this.#sliceBytes);
        await this.#reader.read(session, running, end, signal);
        if (end === session.offset) return running;
        // Whoever takes the session from this request sees that somebody is on the way, and waits.
        if (algorithm === session.algorithm) await this.#record(session, running);
      }
    });
  }

  /** Looks at the sessions that are due, and begins to read those that others have written. */
  async #look(): Promise<void> {
    const due = this.#followed.due();
    if (due.length === 0) return;
    try {
      const rows = await lookAtFollowed(this.#options.database, this.#name, due);
      const open = new Map(rows.map((row) => [row.id, row]));
      for (const id of due) {
        const row = open.get(id);
        if (!row) this.#followed.delete(id);
        else this.#followed.saw(id, row);
        if (row?.behind && !this.#following.has(id)) this.#follow(id);
      }
    } catch (error) {
      // While the database is away nobody writes either.
      if (!isFailure(error, 'Unavailable'))
        this.#options.log.warn({ err: error }, 'the uploads that this process follows could not be looked at');
    }
  }

  /** Reads a slice of a session when its turn has come, or all that it lacks of it, and records the digest. */
  #follow(id: string): void {
    const following = this.#turns
      .take(async () => {
        // A request reads it at this moment; the next look finds what it leaves.
        if (this.#reader.isReading(id)) return;
        const signal = this.#reader.stopping;
        if (await this.#reader.alone(id, signal, () => this.#readSlice(id, signal))) this.#followed.moved(id);
      })
      .catch((error: unknown) => this.#stopFollowing(id, error))
      .finally(() => this.#following.delete(id));
    this.#following.set(id, following);
  }

  /** Never rejects. */
  async #stopFollowing(id: string, error: unknown): Promise<void> {
    if (this.#reader.stopping.aborted || isFailure(error, 'Unavailable')) return;
    this.#options.log.warn({ err: error, upload: id }, 'an upload could not be read back, and is no longer followed');
    this.#followed.giveUp(id);
    await leavePlaces(this.#options.database, this.#name, [id]).catch(() => undefined);
  }

  /** @returns whether there may be more. */
  async #readSlice(id: string, signal: AbortSignal): Promise<boolean> {
    signal.throwIfAborted();
    const { database, pause } = this.#options;
    const session = await findFollowed(database, this.#name, id);
    // A request of this process may have read and hashed all, which it keeps in a moment.
    if (!session || session.prefixSize === session.offset) return false;
    const running = this.#reader.resume(session, session.algorithm);
    const begin = running.size;
    const end = Math.min(sealedBytes(session.segments), begin + this.#sliceBytes);
    if (begin < end) {
      await pause('upload:following');
      try {
        await this.#reader.read(session, running, end, signal);
      } catch (error) {
        if (await this.#isSwallowed(session)) return true;
        throw error;
      }
    }
    if (running.size <= session.prefixSize) return begin < end;
    await this.#record(session, running);
    return true;
  }

  async #record(session: PrefixOwner, running: RunningDigest): Promise<void> {
    const { database, pause } = this.#options;
    const { size } = running;
    const digest = running.digest();
    await pause('upload:followed');
    await recordPrefix(database, this.#name, session, size, digest);
  }

  /** Whether segments went while they were read, as another request swallowed them or the session ended. */
  async #isSwallowed(session: FollowedSession): Promise<boolean> {
    const now = await findFollowed(this.#options.database, this.#name, session.id);
    const keys = new Set(now?.segments.map(({ key }) => key));
    return session.segments.some(({ key }) => !keys.has(key));
  }

  /** Reads no more and leaves its places to others. */
  async stop(): Promise<void> {
    const ids = this.#followed.stop();
    await this.#reader.stop();
    await Promise.all(this.#following.values());
    if (ids.length > 0)
      await leavePlaces(this.#options.database, this.#name, ids).catch((error: unknown) =>
        this.#options.log.warn({ err: error }, 'the uploads that this process followed could not be left to others'),
      );
  }
}

/** How many bytes nobody writes any more: all but those of a last segment that is not sealed. */
function sealedBytes(segments: readonly Segment[]): number {
  let bytes = 0;
  for (const [index, { length, objectSize }] of segments.entries())
    if (objectSize !== null || index < segments.length - 1) bytes += length;
  return bytes;
}
