import type { Queries } from '../database/connect.js';
import { matches } from '../auth/grants.js';
import { regexOf } from './rules.js';

/** The largest number that JSON carries whole; sums are cut to it. */
export const MOST = String(Number.MAX_SAFE_INTEGER);

/** Whoever counts or sums does so alone until its transaction ends: the last one has seen what all before it wrote. */
export async function holdSums(transaction: Queries): Promise<void> {
  await transaction.query(`select pg_advisory_xact_lock(hashtextextended('weighhouse usage', 0))`);
}

/** A repository that was counted, and by how many bytes more (or less) it is charged now. */
export interface Charge {
  readonly name: string;
  readonly more: number;
}

/** Sums what the repositories of each quota are charged, which takes a look at all of them. The caller holds the sums. */
export async function sumQuotas(transaction: Queries): Promise<void> {
  const quotas = await transaction.query<{ id: string; pattern: string }>(
    'select id, pattern from policies where quota_bytes is not null order by id for key share',
  );
  const ids = quotas.map(({ id }) => id);
  await transaction.query('delete from quota_usage where policy <> all($1::uuid[])', [ids]);
  if (quotas.length === 0) return;
  await transaction.query(
    `insert into quota_usage (policy, used_bytes)
     select q.id, (select least(coalesce(sum(u.charged_bytes), 0), ${MOST})
                     from repository_usage u join repositories r on r.id = u.repository
                    where u.charged_bytes > 0 and r.name ~ q.regex)
       from unnest($1::uuid[], $2::text[]) as q (id, regex)
     on conflict (policy) do update set used_bytes = excluded.used_bytes
      where quota_usage.used_bytes <> excluded.used_bytes`,
    [ids, quotas.map(({ pattern }) => regexOf(pattern))],
  );
}

/** Adds to the sums what was counted just now. The caller holds the sums. */
export async function addToQuotas(transaction: Queries, charges: readonly Charge[]): Promise<void> {
  const changed = charges.filter(({ more }) => more !== 0);
  if (changed.length === 0) return;
  const quotas = await transaction.query<{ id: string; pattern: string }>(
    'select p.id, p.pattern from policies p join quota_usage u on u.policy = p.id order by p.id for key share of p',
  );
  const sums = quotas.map(({ id, pattern }) => {
    const counted = changed.filter(({ name }) => matches(pattern, name));
    return { id, more: counted.reduce((sum, { more }) => sum + BigInt(more), 0n) };
  });
  const moved = sums.filter(({ more }) => more !== 0n);
  await transaction.query(
    `update quota_usage u set used_bytes = least(greatest(u.used_bytes + m.more, 0), ${MOST})
       from unnest($1::uuid[], $2::numeric[]) as m (id, more) where u.policy = m.id`,
    [moved.map(({ id }) => id), moved.map(({ more }) => String(more))],
  );
}
