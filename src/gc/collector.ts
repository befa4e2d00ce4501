import { setTimeout as sleep } from 'node:timers/promises';
import { backgroundActor } from '../actor.js';
import type { Database } from '../database/connect.js';
import { KnownByAll } from '../database/versions.js';
import type { Log } from '../log.js';
import type { RepositoryName } from '../oci/name.js';
import { announce, type ChangeObserver } from '../registry/changes.js';
import { removeManifest } from '../registry/manifest-rows.js';
import type { PausePoint } from '../storage/segment-store.js';
import type { Job } from './jobs.js';
import { reviewLinks } from './review-links.js';
import {
  type ManifestReview,
  type ManifestReviewOptions,
  type ProtectedTags,
  reviewManifests,
} from './review-manifests.js';
import { dueReviews, type Review, settle, takeRequests } from './review-queue.js';

/** Versions before this migration don't revive what tags attach to a manifest that comes back. */
const MIGRATION = '0016';
const BATCH = 100;

/** Who it is in the audit log. */
const COLLECTOR = backgroundActor('collector');

/** Told of what the collector did. */
export interface CollectorObserver {
  reviewed(count: number): void;
  condemned(kind: 'blob' | 'manifest', count: number): void;
  removed(kind: 'link' | 'blob' | 'manifest', count: number): void;
  /** Bytes of blobs that went. */
  freed(bytes: number): void;
}

/** How long a manifest that nothing names stays in a repository, in seconds; undefined: it is kept. */
export type UntaggedRule = (repository: RepositoryName) => number | undefined;

export interface CollectorOptions {
  readonly database: Database;
  readonly log: Log;
  readonly pause: PausePoint;
  /** Told of the removals, as of anybody's, inside their transactions. */
  readonly observers: readonly ChangeObserver[];
  readonly observer: CollectorObserver;
  readonly everyMs: number;
  /** How long what was pushed, mounted or condemned stays, in seconds: at least the longest life of a session. */
  readonly graceSeconds: number;
  /** How long a manifest that was condemned stays, in seconds. */
  readonly manifestGraceSeconds: number;
  readonly readGraceSeconds: number;
  /** A condition of SQL on a manifest `m` that holds where the metadata needs it. */
  readonly pinned: string;
  /** Read for each batch. */
  readonly untagged: () => Promise<UntaggedRule>;
  readonly protectedTags: ProtectedTags;
  /** Reviews, and bytes of blobs that go, in a second, at most. */
  readonly objectsPerSecond: number;
  readonly bytesPerSecond: number;
}

/**
 * Takes what nothing names any more, in two steps, while everybody pushes (decision 0030). One in the cluster; safe if two
 * run.
 */
export function collectorJob(options: CollectorOptions): Job {
  const collector = new Collector(options);
  return { name: 'collector', everyMs: options.everyMs, run: (signal) => collector.run(signal) };
}

class Collector {
  readonly #options: CollectorOptions;
  readonly #known: KnownByAll;

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#known = new KnownByAll(options.database, MIGRATION);
  }

  /** Decides a batch of reviews. @returns whether more are due. */
  async run(signal?: AbortSignal): Promise<boolean> {
    const { database, observer } = this.#options;
    if (!(await this.#known.isSo())) return false;
    await takeRequests(database);
    const due = await dueReviews(database, BATCH);
    if (due.length === 0) return false;
    const began = performance.now();
    await this.#options.pause('collector:chosen');
    const bytes = await this.#links(due.filter(({ kind }) => kind === 'blob'));
    await this.#manifests(due.filter(({ kind }) => kind === 'manifest'));
    observer.reviewed(due.length);
    await this.#pace(due.length, bytes, began, signal);
    return due.length === BATCH;
  }

  /** @returns the bytes of blobs that went. */
  async #links(reviews: readonly Review[]): Promise<number> {
    if (reviews.length === 0) return 0;
    const { database, observers, observer, pause } = this.#options;
    const result = await database.transaction(async (transaction) => {
      const done = await reviewLinks(transaction, reviews, this.#options);
      for (const { name, digest } of done.gone) {
        if (name === null) continue;
        await announce(observers, { kind: 'blob-removed', repository: name, digest }, COLLECTOR, transaction);
      }
      await pause('collector:links-decided');
      await settle(transaction, reviews, done.verdicts);
      return done;
    });
    observer.condemned('blob', result.condemned);
    observer.removed('link', result.gone.length);
    observer.removed('blob', result.blobs);
    observer.freed(result.bytes);
    return result.bytes;
  }

  async #manifests(reviews: readonly Review[]): Promise<void> {
    if (reviews.length === 0) return;
    const { database, observer, manifestGraceSeconds, pinned, protectedTags, untagged, pause } = this.#options;
    const untaggedSeconds = await untagged();
    const rules = reviews.map((review) => ({
      review,
      keepSeconds: review.name === null ? 0 : untaggedSeconds(review.name),
    }));
    const options = { graceSeconds: manifestGraceSeconds, pinned, protectedTags };
    const { condemned, going } = await database.transaction(async (transaction) => {
      const done = await reviewManifests(transaction, rules, options);
      await pause('collector:manifests-decided');
      const leaving = new Set(done.going.map(({ review }) => review.id));
      await settle(
        transaction,
        reviews.filter(({ id }) => !leaving.has(id)),
        done.verdicts,
      );
      return done;
    });
    observer.condemned('manifest', condemned);
    for (const one of going) await this.#remove(one, options);
  }

  /** Removes a manifest as a client's DELETE does. What forbids it, such as a deployment of this moment, is asked again later. */
  async #remove(one: ManifestReview, options: ManifestReviewOptions): Promise<void> {
    const { database, log, observers, observer, pause } = this.#options;
    const { review } = one;
    const { name, digest } = review;
    if (name === null) throw new Error(`the review of manifest ${digest} has no repository`);
    await pause('collector:before-removal');
    const removed = await database
      .transaction(async (transaction) => {
        // The first lock of all who change what is in a repository.
        await transaction.query('select from repositories where name = $1 for key share', [name]);
        const { verdicts, going } = await reviewManifests(transaction, [one], options);
        await pause('collector:manifest-decided');
        if (going.length > 0) {
          const gone = await removeManifest(transaction, name, digest, COLLECTOR);
          const change = { kind: 'manifest-removed', repository: name, digest, ...gone } as const;
          await announce(observers, change, COLLECTOR, transaction);
        }
        await settle(transaction, [review], verdicts);
        return going.length;
      })
      .catch((error: unknown) => {
        log.warn({ err: error, repository: name, digest }, 'a manifest was not collected; it is tried again');
        return undefined;
      });
    if (removed !== undefined) observer.removed('manifest', removed);
    else await database.transaction((transaction) => settle(transaction, [review], new Map([[review.id, 'busy']])));
  }

  async #pace(reviews: number, bytes: number, began: number, signal?: AbortSignal): Promise<void> {
    const { objectsPerSecond, bytesPerSecond } = this.#options;
    const seconds = Math.max(reviews / objectsPerSecond, bytesPerSecond === 0 ? 0 : bytes / bytesPerSecond);
    const ms = seconds * 1000 - (performance.now() - began);
    if (ms > 0) await sleep(ms, undefined, signal && { signal }).catch(() => undefined);
  }
}
