import type { Queries } from '../database/connect.js';
import { regexOf } from './rules.js';

/** The largest number that JSON carries whole; sums are cut to it. */
export const MOST = String(Number.MAX_SAFE_INTEGER);

/** Whoever counts or sums does so alone until its transaction ends: the last one has seen what all before it wrote. */
export async function holdSums(transaction: Queries): Promise<void> {
  await transaction.query(`select pg_advisory_xact_lock(hashtextextended('weighhouse usage', 0))`);
}

/** Sums what the repositories of each quota are charged. The caller holds the sums. */
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
