import { setTimeout as sleep } from 'node:timers/promises';
import { backgroundActor } from '../actor.js';
import type { Database, Queries } from '../database/connect.js';
import { KnownByAll } from '../database/versions.js';
import type { Log } from '../log.js';
import type { RepositoryName } from '../oci/name.js';
import { readPolicies } from '../policies/policies.js';
import {
  judgeReleases,
  type JudgedRelease,
  type JudgeOptions,
  type RuledModel,
  ruledModels,
} from '../policies/retention-judge.js';
import { announce, type ChangeObserver } from '../registry/changes.js';
import { removeTags } from '../registry/tag-rows.js';
import type { PausePoint } from '../storage/segment-store.js';
import { spellings } from '../weights/tag.js';
import type { Job } from './jobs.js';

/** Versions before this migration don't count pulls. */
const MIGRATION = '0016';
/** Models that are judged at once, and releases that go in one transaction. */
const PAGE = 200;
const BATCH = 50;

/** Who it is in the audit log. */
const RETENTION = backgroundActor('retention');

export interface RetentionOptions extends JudgeOptions {
  readonly database: Database;
  readonly log: Log;
  readonly pause: PausePoint;
  /** Told of the removals, as of anybody's, inside their transactions. */
  readonly observers: readonly ChangeObserver[];
  readonly observer: RetentionObserver;
  readonly everyMs: number;
  /** Releases that go in a second, at most. */
  readonly objectsPerSecond: number;
}

/** Told of what retention did. */
export interface RetentionObserver {
  removed(releases: number): void;
}

/**
 * Takes the tags of releases away that no rule keeps (decision 0031); what nothing names then is the collector's. One in the
 * cluster; safe if two run.
 */
export function retentionJob(options: RetentionOptions): Job {
  const retention = new RetentionWalk(options);
  return { name: 'retention', everyMs: options.everyMs, run: (signal) => retention.run(signal) };
}

class RetentionWalk {
  readonly #options: RetentionOptions;
  readonly #known: KnownByAll;
  #from = 0;

  constructor(options: RetentionOptions) {
    this.#options = options;
    this.#known = new KnownByAll(options.database, MIGRATION);
  }

  /** Judges a page of models. @returns whether there are more in this round. */
  async run(signal?: AbortSignal): Promise<boolean> {
    const { database, objectsPerSecond } = this.#options;
    if (!(await this.#known.isSo())) {
      await forgetPulls(database);
      return false;
    }
    const policies = await readPolicies(database);
    const { models, last } = await ruledModels(database, policies, { from: this.#from, limit: PAGE });
    const judged = await judgeReleases(database, policies, models, this.#options);
    await this.#options.pause('retention:judged');
    for (const model of models) {
      const going = judged.filter((one) => one.repository === model.repository && one.kept_by.length === 0);
      for (let at = 0; at < going.length && !signal?.aborted; at += BATCH) {
        const batch = going.slice(at, at + BATCH);
        await this.#remove(model, batch);
        const ms = (batch.length * 1000) / objectsPerSecond;
        await sleep(ms, undefined, signal && { signal }).catch(() => undefined);
      }
    }
    this.#from = last === undefined ? 0 : last + 1;
    return last !== undefined;
  }

  /** All of them together, and if that fails each by itself: what stands in the way of one holds up no other. */
  async #remove(model: RuledModel, going: readonly JudgedRelease[]): Promise<void> {
    const { database, log, observer } = this.#options;
    try {
      observer.removed(await database.transaction((transaction) => this.#removeIn(transaction, model, going)));
    } catch (error) {
      const [one, ...others] = going;
      if (others.length === 0) {
        const { release_id, tag } = one ?? {};
        log.warn(
          { err: error, repository: model.name, release_id, tag },
          'a release was not removed by its rule; it is tried again',
        );
        return;
      }
      for (const each of going) await this.#remove(model, [each]);
    }
  }

  /**
   * Removes the tags of releases, in every spelling, if no rule keeps them now.
   *
   * Races: policies are locked against changes, then the repository, manifests, tags, the model and releases in the order of
   * all who change them; what keeps a release is asked after that by later statements, which see everybody who let go before.
   * Who deploys a release holds it FOR SHARE, who gives its manifest a name the manifest, who moves a tag its row, who changes a
   * rule its policy or its model.
   * @returns how many releases went
   */
  async #removeIn(transaction: Queries, seen: RuledModel, going: readonly JudgedRelease[]): Promise<number> {
    const { observers, pause } = this.#options;
    await transaction.query('lock table policies in share mode');
    await transaction.query('select from repositories where id = $1 for key share', [seen.repository]);
    await transaction.query(
      'select from manifests where repository = $1 and digest = any($2::text[]) order by digest for update',
      [seen.repository, going.map(({ digest }) => digest)],
    );
    const tags = going.flatMap(({ version, quantization }) => spellings(version, quantization));
    await transaction.query(
      'select from tags where repository = $1 and lower(name) = any($2::text[]) order by name for update',
      [seen.repository, tags],
    );
    const [held] = await transaction.query<{ id: string }>('select id from models where repository_id = $1 for share', [
      seen.repository,
    ]);
    if (!held) return 0;
    const ids = going.map(({ release_id }) => release_id);
    await transaction.query('select from releases where id = any($1::uuid[]) order by id for update', [ids]);
    const policies = await readPolicies(transaction);
    const page = { from: seen.repository, limit: 1, model: held.id };
    const { models } = await ruledModels(transaction, policies, page);
    const [ruled] = models;
    if (!ruled) return 0;
    const judged = await judgeReleases(transaction, policies, models, this.#options, ids);
    await pause('retention:decided');
    const gone = judged.filter(({ kept_by }) => kept_by.length === 0);
    for (const release of gone) await this.#removeOne(transaction, ruled, release, observers);
    return gone.length;
  }

  async #removeOne(
    transaction: Queries,
    { repository, name, rule }: RuledModel,
    release: JudgedRelease,
    observers: readonly ChangeObserver[],
  ): Promise<void> {
    const spelled = await transaction.query<{ name: string }>(
      'select name from tags where repository = $1 and lower(name) = any($2::text[])',
      [repository, spellings(release.version, release.quantization)],
    );
    const names = spelled.map((tag) => tag.name);
    const { release_id, last_pulled_at } = release;
    const cause = { ...rule.by, retention: rule.keep, release_id, last_pulled_at };
    for (const gone of await removeTags(transaction, repository, names, RETENTION)) {
      const change = { kind: 'tag-removed', repository: name as RepositoryName, ...gone, cause } as const;
      await announce(observers, change, RETENTION, transaction);
    }
  }
}

/** Says that what was pulled before now is not known. */
export async function forgetPulls(queries: Queries): Promise<void> {
  await queries.query('update installation set pulls_since = now()');
}
