import type { Queries } from '../database/connect.js';
import { MOST } from './quota-sums.js';

/** How it was at the end of a day (UTC). */
export interface UsageDay {
  /** `2026-05-04` */
  readonly day: string;
  readonly named_bytes: number;
  /** Of a repository its blobs each once; of the whole registry all blobs each once. */
  readonly stored_bytes: number;
}

/** Of the whole registry, or of one repository, day by day; a day before the first count is left out. */
export async function readUsageDays(
  queries: Queries,
  since: string,
  until: string,
  repository?: string,
): Promise<UsageDay[]> {
  const of =
    repository === undefined
      ? 'usage_days where'
      : 'repository_usage_days where repository = (select id from repositories where name = $3) and';
  return await queries.query<UsageDay>(
    `select to_char(d.day, 'YYYY-MM-DD') as day, f.named_bytes, f.stored_bytes
       from generate_series($1::date, $2::date, interval '1 day') as d (day)
      cross join lateral (
        select named_bytes, stored_bytes from ${of} day <= d.day order by day desc limit 1) f
      order by d.day`,
    [since, until, ...(repository === undefined ? [] : [repository])],
  );
}

/** What a release comes to. */
export interface ReleaseUsage {
  /** Everything that a client pulls that wants all of it: its manifests, and their blobs each once. */
  readonly named_bytes: number;
  /** Those of its blobs that no other manifest of its repository names, and no other repository holds. */
  readonly alone_bytes: number;
  /** Of its manifest alone, some seconds behind; what an index lists has pulls of its own. */
  readonly pulls: number;
  /** When that was last pulled or asked for by its tag; null: never known. */
  readonly last_pulled_at: Date | null;
}

/** Of what has no manifest. */
export const NO_USAGE: ReleaseUsage = { named_bytes: 0, alone_bytes: 0, pulls: 0, last_pulled_at: null };

/** By the indexes, as it is now. @param digest of its manifest; an index counts with what it lists */
export async function readReleaseUsage(queries: Queries, repository: string, digest: string): Promise<ReleaseUsage> {
  const [row] = await queries.query<ReleaseUsage>(
    `with recursive place as (select id from repositories where name = $1),
       tree (digest) as (
         select $2::text collate "C"
         union
         select f.digest from tree t join manifest_references f on f.repository = (select id from place)
            and f.manifest = t.digest and f.kind = 'manifest'),
       held as (
         select distinct f.blob as digest from tree t join manifest_references f
             on f.repository = (select id from place) and f.manifest = t.digest where f.blob is not null),
       sized as (
         select b.size,
                not exists (select from manifest_references o where o.repository = (select id from place) and o.blob = h.digest
                               and o.manifest not in (select digest from tree))
                and not exists (select from repository_blobs l where l.digest = h.digest and l.repository <> (select id from place))
                as alone
           from held h join blobs b on b.digest = h.digest)
     select least((select coalesce(sum(size), 0) from sized) + (
              select coalesce(sum(m.size), 0) from tree t join manifests m on m.repository = (select id from place) and m.digest = t.digest),
              ${MOST})::bigint as named_bytes,
            least((select coalesce(sum(size), 0) from sized where alone), ${MOST})::bigint as alone_bytes,
            coalesce(p.pulls, 0) as pulls, p.pulled_at as last_pulled_at
       from place left join manifest_pulls p on p.repository = place.id and p.digest = $2`,
    [repository, digest],
  );
  return row ?? NO_USAGE;
}
