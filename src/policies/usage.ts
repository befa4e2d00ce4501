import type { Queries } from '../database/connect.js';
import { Conditions, type Page, type PageQuery, readPage, type Sort } from '../database/pages.js';
import { MOST } from './quota-sums.js';
import { readPolicies } from './policies.js';

/** What a caller may read. */
export interface Sight {
  readonly seesAll: boolean;
  maySee(repository: string): boolean;
}

/** Sums over repositories. Bytes as of the last count. */
export interface UsageTotal {
  readonly repositories: number;
  readonly manifests: number;
  readonly tags: number;
  /** Over all repositories each once; null: nobody knows who may not read all of them. */
  readonly blobs: number | null;
  readonly named_bytes: number;
  /** As `blobs`. */
  readonly stored_bytes: number | null;
}

export interface Usage {
  /** What had changed by then is counted in all figures. */
  readonly as_of: Date;
  readonly total: UsageTotal;
  readonly quotas: readonly { readonly pattern: string; readonly limit_bytes: number; readonly used_bytes: number }[];
}

/** What a repository holds, and the model that it is. */
export interface RepositoryUsage {
  readonly repository: string;
  readonly model_id: string | null;
  readonly model_name: string | null;
  readonly named_bytes: number;
  readonly stored_bytes: number;
  readonly charged_bytes: number;
  readonly manifests: number;
  readonly tags: number;
  readonly blobs: number;
  /** Of the manifests that it has now, some seconds behind. */
  readonly pulls: number;
  /** When any of them was last pulled or asked for by a tag; null: never known. */
  readonly last_pulled_at: Date | null;
}

const EMPTY: UsageTotal = { repositories: 0, manifests: 0, tags: 0, blobs: 0, named_bytes: 0, stored_bytes: 0 };

/** The totals of what a caller may read, and the quotas all of whose repositories it may read. */
export async function readUsage(queries: Queries, sight: Sight): Promise<Usage> {
  // First: figures that are newer than they are said to be are no lie.
  const asOf = await readAsOf(queries);
  const total = sight.seesAll ? await readTotal(queries) : await sumSeen(queries, sight);
  const { quotas } = await readPolicies(queries);
  return {
    as_of: asOf,
    total,
    quotas: quotas
      .filter(({ pattern }) => sight.seesAll || (!pattern.includes('*') && sight.maySee(pattern)))
      .map(({ pattern, limitBytes, usedBytes }) => ({ pattern, limit_bytes: limitBytes, used_bytes: usedBytes })),
  };
}

async function readAsOf(queries: Queries): Promise<Date> {
  const [row] = await queries.query<{ asOf: Date }>(
    `select least(now(), (select at from records order by id limit 1), (select min(since) from usage_blobs_due),
                  (select min(since) from usage_repositories_due)) as "asOf"`,
  );
  return row?.asOf ?? new Date();
}

/** Of the whole registry. */
async function readTotal(queries: Queries): Promise<UsageTotal> {
  const [row] = await queries.query<UsageTotal>(
    `select repositories, manifests, tags, blobs, named_bytes, stored_bytes from usage_days order by day desc limit 1`,
  );
  return row ?? EMPTY;
}

async function sumSeen(queries: Queries, sight: Sight): Promise<UsageTotal> {
  const [row] = await queries.query<UsageTotal>(
    `select count(*) filter (where manifests > 0 or blobs > 0)::bigint as repositories,
            coalesce(sum(manifests), 0)::bigint as manifests, coalesce(sum(tags), 0)::bigint as tags,
            least(coalesce(sum(named_bytes), 0), ${MOST})::bigint as named_bytes, null as blobs, null as stored_bytes
       from repository_usage where repository = any($1::bigint[])`,
    [await idsSeen(queries, sight)],
  );
  return row ?? EMPTY;
}

/** The repositories that a caller may read; one query, whatever the number of grants. */
async function idsSeen(queries: Queries, sight: Sight): Promise<number[]> {
  const rows = await queries.query<{ id: number; name: string }>(
    'select r.id, r.name from repository_usage u join repositories r on r.id = u.repository',
  );
  return rows.filter(({ name }) => sight.maySee(name)).map(({ id }) => id);
}

const SORTS: Readonly<Record<string, Sort>> = {
  stored_bytes: { expression: 'u.stored_bytes', type: 'bigint' },
  named_bytes: { expression: 'u.named_bytes', type: 'bigint' },
  charged_bytes: { expression: 'u.charged_bytes', type: 'bigint' },
};
const FROM = {
  repositories: `repository_usage u join repositories r on r.id = u.repository left join models m on m.repository_id = r.id`,
  models: `models m join repositories r on r.id = m.repository_id join repository_usage u on u.repository = r.id`,
} as const;

/** A page of what repositories hold, or those of them that are models; the largest first. @throws 'PageInvalid' */
export async function listUsage(
  queries: Queries,
  sight: Sight,
  of: keyof typeof FROM,
  page: PageQuery,
): Promise<Page<RepositoryUsage>> {
  const seen = sight.seesAll ? undefined : await idsSeen(queries, sight);
  const found = await readPage<Omit<RepositoryUsage, keyof typeof NEVER>>(queries, page, {
    columns: `r.name as repository, m.id as model_id, m.name as model_name, u.named_bytes, u.stored_bytes, u.charged_bytes,
      u.manifests, u.tags, u.blobs`,
    from: FROM[of],
    conditions: new Conditions().say('(u.manifests > 0 or u.blobs > 0)').add('u.repository = any(?::bigint[])', seen),
    sorts: SORTS,
    defaultSort: '-stored_bytes',
    id: 'u.repository',
    idType: 'bigint',
  });
  const pulls = await readPulls(
    queries,
    found.items.map(({ repository }) => repository),
  );
  return { ...found, items: found.items.map((item) => ({ ...item, ...(pulls.get(item.repository) ?? NEVER) })) };
}

const NEVER = { pulls: 0, last_pulled_at: null };

/** Of the repositories of a page: each by the index of its rows. */
async function readPulls(queries: Queries, repositories: readonly string[]) {
  const rows = await queries.query<Pick<RepositoryUsage, 'repository' | keyof typeof NEVER>>(
    `select r.name as repository, sum(p.pulls)::bigint as pulls, max(p.pulled_at) as last_pulled_at
       from repositories r join manifest_pulls p on p.repository = r.id where r.name = any($1::text[]) group by r.name`,
    [repositories],
  );
  return new Map(rows.map((row) => [row.repository, row]));
}
