// What the tests of retention share: the job by hand, and rows as if days had passed.
import type { Database } from '../../src/database/connect.js';
import { recordChanges } from '../../src/gc/records.js';
import { type RetentionOptions, retentionJob } from '../../src/gc/retention.js';
import { auditChanges } from '../../src/metadata/audit.js';
import { followChanges } from '../../src/metadata/follow.js';
import { IS_LIVE } from '../../src/metadata/live.js';
import { createPolicy, type PolicyChanges } from '../../src/policies/policies.js';
import type { JudgeOptions } from '../../src/policies/retention-judge.js';
import { recordBy } from '../../src/registry/changes.js';
import { readTag } from '../../src/weights/tag.js';
import { silent } from './postgres.js';
import { ACTOR } from './rooms.js';

export const DAY_SECONDS = 24 * 3600;

export const JUDGE: JudgeOptions = {
  isLive: IS_LIVE,
  isAlias: (tag) => readTag(tag).kind === 'alias',
  newSeconds: DAY_SECONDS,
};

/** The job of a process: `round` goes through all models. @returns how many releases went */
export function retentionOf(database: Database, options: Partial<RetentionOptions> = {}) {
  let removed = 0;
  const job = retentionJob({
    ...JUDGE,
    database,
    log: silent,
    pause: () => undefined,
    observers: [followChanges, recordBy(recordChanges, auditChanges)],
    observer: {
      removed: (releases) => {
        removed += releases;
      },
    },
    everyMs: 1_000,
    objectsPerSecond: 1_000_000,
    ...options,
  });
  return {
    round: async () => {
      removed = 0;
      while (await job.run());
      return removed;
    },
  };
}

/** Makes a policy. */
export async function say(database: Database, pattern: string, said: PolicyChanges): Promise<string> {
  const announced = { actor: ACTOR, observers: [] };
  const { id } = await database.transaction((transaction) => createPolicy(transaction, pattern, said, 1000, announced));
  return id;
}

/** As if a tag had been set so many days ago; and as if pulls were known since before. */
export async function age(database: Database, tag: string, days: number): Promise<void> {
  await knowPulls(database, 1000);
  const text = 'update tags set updated_at = now() - make_interval(secs => $2) where name = $1';
  await database.query(text, [tag, days * DAY_SECONDS]);
}

/** As if pulls were known since so many days. */
export async function knowPulls(database: Database, days: number): Promise<void> {
  await database.query(
    `insert into installation (id, pulls_since) values (gen_random_uuid(), now() - make_interval(days => $1))
     on conflict (only_one) do update set pulls_since = excluded.pulls_since`,
    [days],
  );
}

/** As if a release's manifest had been pulled last so many days ago. */
export async function pulled(database: Database, tag: string, days: number): Promise<void> {
  await database.query(
    `insert into manifest_pulls (repository, digest, pulls, pulled_at)
     select repository, digest, 3, now() - make_interval(secs => $2) from tags where name = $1
     on conflict (repository, digest) do update set pulled_at = excluded.pulled_at`,
    [tag, days * DAY_SECONDS],
  );
}

export async function tagsOf(database: Database): Promise<string[]> {
  const rows = await database.query<{ name: string }>('select name from tags order by name');
  return rows.map(({ name }) => name);
}
