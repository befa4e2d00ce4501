import type { Database } from '../database/connect.js';
import { addToQuotas, type Charge, holdSums, MOST } from './quota-sums.js';

/** How many blobs find their home, and how many repositories are counted, in one transaction. */
const BLOBS = 2_000;
const REPOSITORIES = 20;
/** A batch ends early at about so many manifests and blobs, which its first repository alone may pass. */
const ROWS = 100_000;

/**
 * The first repository of those that hold a blob is its home, to which its bytes are charged. Where that has changed both are
 * counted anew.
 */
const HOMES = `
  with due as (
    delete from usage_blobs_due where digest in (
      select digest from usage_blobs_due order by since, digest limit $1 for update skip locked)
    returning digest, since),
  found as materialized (
    select d.digest, d.since, h.repository as before,
           (select min(l.repository) from repository_blobs l where l.digest = d.digest) as after
      from due d left join blob_homes h on h.digest = d.digest),
  changed as (select * from found where before is distinct from after),
  gone as (delete from blob_homes h using changed c where h.digest = c.digest and c.after is null),
  put as (
    insert into blob_homes (digest, repository) select digest, after from changed where after is not null
    on conflict (digest) do update set repository = excluded.repository),
  marked as (
    insert into usage_repositories_due (repository, since)
    select repository, min(since) from (
      select before as repository, since from changed union all select after, since from changed) both_of
     where repository is not null group by repository order by repository
    on conflict (repository) do update set since = least(usage_repositories_due.since, excluded.since))
  select count(*)::bigint as done from due`;

const COUNT = `
  with first as materialized (
    select repository, since from usage_repositories_due where repository <> all($3::bigint[])
     order by since, repository limit $1 for update skip locked),
  placed as (
    select f.repository, sum(coalesce(u.manifests + u.blobs, 0)) over (
             order by f.since, f.repository rows between unbounded preceding and 1 preceding) as before
      from first f left join repository_usage u on u.repository = f.repository),
  due as (
    delete from usage_repositories_due
     where repository in (select repository from placed where coalesce(before, 0) < $2) returning repository),
  put as (
    insert into repository_usage (repository, named_bytes, stored_bytes, charged_bytes, manifests, tags, blobs)
    select d.repository, least(m.bytes + n.bytes, ${MOST}), least(b.bytes, ${MOST}), least(b.charged, ${MOST}), m.rows,
           (select count(*) from tags t where t.repository = d.repository), b.rows
      from due d
      cross join lateral (
        select count(*) as rows, coalesce(sum(b.size), 0) as bytes,
               coalesce(sum(b.size) filter (where h.repository = d.repository), 0) as charged
          from repository_blobs l join blobs b on b.digest = l.digest left join blob_homes h on h.digest = l.digest
         where l.repository = d.repository) b
      cross join lateral (
        select count(*) as rows, coalesce(sum(size), 0) as bytes from manifests where repository = d.repository) m
      cross join lateral (
        select coalesce(sum(b.size), 0) as bytes from manifest_references f join blobs b on b.digest = f.blob
         where f.repository = d.repository and f.blob is not null) n
    on conflict (repository) do update
       set named_bytes = excluded.named_bytes, stored_bytes = excluded.stored_bytes, charged_bytes = excluded.charged_bytes,
           manifests = excluded.manifests, tags = excluded.tags, blobs = excluded.blobs
    returning repository, named_bytes, stored_bytes, charged_bytes, manifests + blobs as rows),
  noted as (
    insert into repository_usage_days (repository, day, named_bytes, stored_bytes, charged_bytes)
    select repository, (now() at time zone 'UTC')::date, named_bytes, stored_bytes, charged_bytes from put
    on conflict (repository, day) do update
       set named_bytes = excluded.named_bytes, stored_bytes = excluded.stored_bytes, charged_bytes = excluded.charged_bytes)
  select r.id, r.name, p.rows, (p.charged_bytes - coalesce(f.charged_bytes, 0))::bigint as "more"
    from put p join repositories r on r.id = p.repository left join repository_usage f on f.repository = p.repository`;

const TOTAL = `
  insert into usage_days (day, named_bytes, stored_bytes, repositories, manifests, tags, blobs)
  select (now() at time zone 'UTC')::date, least(coalesce(sum(named_bytes), 0), ${MOST}),
         least(coalesce(sum(charged_bytes), 0), ${MOST}), count(*) filter (where manifests > 0 or blobs > 0),
         coalesce(sum(manifests), 0), coalesce(sum(tags), 0), (select count(*) from blob_homes)
    from repository_usage
  on conflict (day) do update
     set named_bytes = excluded.named_bytes, stored_bytes = excluded.stored_bytes, repositories = excluded.repositories,
         manifests = excluded.manifests, tags = excluded.tags, blobs = excluded.blobs`;

/**
 * Counts what has changed. Each statement sees the changes whose marks it sees, and a mark that it does not see stays. Rows that
 * somebody marks at the moment are left for the next time, so that nobody waits in a circle. A repository whose count takes
 * long, and that changes all the time, is counted for a tenth of the time only.
 */
export function usageJob(database: Database, everyMs: number) {
  const resting = new Resting();
  return {
    name: 'usage',
    everyMs,
    run: async () => {
      const began = performance.now();
      const { counted, more } = await countBatch(database, resting.now(began));
      resting.add(counted, performance.now() - began);
      return more;
    },
  };
}

/** One of fewer manifests and blobs, or whose count took less, is counted again at once. */
const LARGE_ROWS = 10_000;
const QUICK_MS = 200;
/** So many times as long as its count took a repository rests, */
const REST = 9;
/** and never longer than this. */
const LONGEST_REST_MS = 300_000;

interface Counted {
  /** The repository's. */
  readonly id: number;
  /** Its manifests and blobs. */
  readonly rows: number;
}

/** Repositories that are not to be counted yet, by the monotonic clock. */
export class Resting {
  readonly #until = new Map<number, number>();

  now(moment: number): number[] {
    for (const [repository, until] of this.#until) if (until <= moment) this.#until.delete(repository);
    return [...this.#until.keys()];
  }

  add(counted: readonly Counted[], tookMs: number): void {
    if (tookMs < QUICK_MS) return;
    const until = performance.now() + Math.min(REST * tookMs, LONGEST_REST_MS);
    for (const { id, rows } of counted) if (rows >= LARGE_ROWS) this.#until.set(id, until);
  }
}

/**
 * @param resting repositories that are not counted
 * @returns those that were, and whether there may be more to do
 */
export async function countBatch(
  database: Database,
  resting: readonly number[] = [],
): Promise<{ counted: Counted[]; more: boolean }> {
  const homes = await database.transaction(async (transaction) => {
    await holdSums(transaction);
    const [row] = await transaction.query<{ done: number }>(HOMES, [BLOBS]);
    return row?.done ?? 0;
  });
  if (homes === BLOBS) return { counted: [], more: true };
  return await database.transaction(async (transaction) => {
    await holdSums(transaction);
    // With statistics that lag behind PostgreSQL has read all links there are, once for each repository.
    await transaction.query('set local enable_seqscan = off');
    const charges = await transaction.query<Charge & Counted>(COUNT, [REPOSITORIES, ROWS, resting]);
    await addToQuotas(transaction, charges);
    const left = await transaction.query(
      'select from usage_repositories_due where repository <> all($1::bigint[]) limit 1',
      [resting],
    );
    // As long as there are more, the next batch will sum.
    if (charges.length > 0 && left.length === 0) await transaction.query(TOTAL);
    return { counted: charges, more: charges.length > 0 && left.length > 0 };
  });
}
