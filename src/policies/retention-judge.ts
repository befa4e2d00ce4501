import { fitsWildcard } from '../auth/wildcard.js';
import type { Queries } from '../database/connect.js';
import { type Keep, keepOf, type KeptBy, type Retention, type RetentionRule } from './retention.js';
import type { Policies } from './rules.js';

export interface JudgeOptions {
  /** A condition of SQL on a deployment `d` that holds while it needs its release. */
  readonly isLive: string;
  /** Whether a tag is a name that somebody gave, such as `prod`: no release, and none of another tool's. */
  isAlias(tag: string): boolean;
  /** What was tagged less long ago stays under every rule, in seconds. */
  readonly newSeconds: number;
}

/** A model some of whose releases may go. */
export interface RuledModel {
  readonly repository: number;
  readonly name: string;
  readonly rule: RetentionRule;
}

/** A release, and what keeps it; with nothing it goes. */
export interface JudgedRelease {
  readonly repository: number;
  readonly release_id: string;
  readonly model_id: string;
  readonly version: string;
  readonly quantization: string | null;
  readonly tag: string;
  readonly digest: string;
  readonly size_bytes: number;
  /** When its tag was set. */
  readonly set_at: Date;
  readonly pulls: number;
  /** Null: never, as far as is known. */
  readonly last_pulled_at: Date | null;
  readonly kept_by: readonly KeptBy[];
}

/** Where a walk through all models is: the repository and the tag behind which it goes on. */
export interface Place {
  readonly repository: number;
  readonly tag: string;
}

export const START: Place = { repository: 0, tag: '' };

/**
 * The next models in the order of their repositories, and their rules: a model's own, else that of the policies.
 * @param from the first repository
 * @param model only this one
 * @returns those of them that have a rule, and the repository behind which there are more; undefined: there are none
 */
export async function ruledModels(
  queries: Queries,
  policies: Policies,
  { from, limit, model }: { readonly from: number; readonly limit: number; readonly model?: string | undefined },
  proposed?: { readonly model: string; readonly retention: Retention | null },
): Promise<{ readonly models: RuledModel[]; readonly last: number | undefined }> {
  const rows = await queries.query<{ repository: number; name: string; id: string; retention: Retention | null }>(
    `select m.repository_id as repository, m.storage_path as name, m.id, m.retention from models m
      where m.repository_id >= $1 and ($2::uuid is null or m.id = $2) order by m.repository_id limit $3`,
    [from, model ?? null, limit],
  );
  const models = rows.flatMap(({ repository, name, id, retention }) => {
    const own = proposed?.model === id ? proposed.retention : retention;
    const rule = ruleOf(policies, name, id, own);
    return rule ? [{ repository, name, rule }] : [];
  });
  return { models, last: rows.length < limit ? undefined : rows.at(-1)?.repository };
}

function ruleOf(policies: Policies, name: string, id: string, own: Retention | null): RetentionRule | undefined {
  if (own) {
    const keep = keepOf(own);
    return keep && { keep, by: { model_id: id } };
  }
  return policies.retentionOf(name);
}

/**
 * What keeps each release of some models, by the rows as they are now.
 * @param only these releases, by their ids; what the others are counts all the same
 * @returns them in the order of repositories and tags; of a release that several tags mean, its own counts
 */
export async function judgeReleases(
  queries: Queries,
  policies: Policies,
  models: readonly RuledModel[],
  { isLive, isAlias, newSeconds }: JudgeOptions,
  only?: readonly string[],
): Promise<JudgedRelease[]> {
  if (models.length === 0) return [];
  const rows = await queries.query<JudgedRelease & { words: readonly string[] }>(judging(isLive), [
    models.map(({ repository }) => repository),
    models.map(({ rule }) => JSON.stringify(rule.keep)),
    newSeconds,
    only ?? null,
  ]);
  const of = new Map(models.map((model) => [model.repository, model]));
  return rows.map(({ words, ...row }) => {
    const model = of.get(row.repository);
    if (!model) throw new Error(`release ${row.release_id}: repository ${row.repository} was not asked for`);
    const alias = words.some(isAlias) ? (['alias'] as const) : [];
    return { ...row, kept_by: [...row.kept_by, ...alias, ...keptByTag(policies, model, row.tag)] };
  });
}

function keptByTag(policies: Policies, { name, rule }: RuledModel, tag: string): KeptBy[] {
  const patterns: Keep['tags'] = rule.keep.tags ?? [];
  return [
    ...(patterns.some((pattern) => fitsWildcard(pattern, tag)) ? (['tag'] as const) : []),
    ...(policies.protectionOf(name, tag) ? (['protected'] as const) : []),
  ];
}

const judging = (isLive: string) => `
  with rules as materialized (select k.repository, k.keep::jsonb as keep from unnest($1::bigint[], $2::text[]) as k (repository, keep)),
  placed as (
    select r.id, r.model_id, r.version, r.quantization, r.tag, r.digest, r.size_bytes, k.repository, k.keep, m.immutable,
           case when r.status <> 'withdrawn' then
             row_number() over (partition by r.model_id, lower(coalesce(r.quantization, '')), r.status <> 'withdrawn'
                                order by r.version_order desc, r.created_at desc, r.id) end as place
      from rules k join models m on m.repository_id = k.repository join releases r on r.model_id = m.id
     where r.digest is not null),
  known as (
    select r.*, t.updated_at as set_at, p.pulls, p.pulled_at,
           greatest(t.updated_at, p.pulled_at, coalesce((select pulls_since from installation), now())) as used_at
      from placed r join tags t on t.repository = r.repository and t.name = r.tag
      left join manifest_pulls p on p.repository = r.repository and p.digest = r.digest
     where $4::uuid[] is null or r.id = any($4))
  select repository, id as release_id, model_id, version, quantization, tag, digest, size_bytes, set_at,
         coalesce(pulls, 0)::bigint as pulls, pulled_at as last_pulled_at,
         to_json(array_remove(array[
           case when place <= (keep->>'last')::int then 'last' end,
           case when set_at > now() - make_interval(days => (keep->>'younger_than_days')::int) then 'young' end,
           case when used_at > now() - make_interval(days => (keep->>'pulled_within_days')::int) then 'pulled' end,
           case when (keep->>'deployed')::boolean
                 and exists (select from deployments d where d.release_id = r.id) then 'deployed' end,
           case when set_at > now() - make_interval(secs => $3) then 'new' end,
           case when exists (select from deployments d where d.release_id = r.id and ${isLive}) then 'live' end,
           case when immutable then 'immutable' end], null)) as kept_by,
         -- Most tags that are no words are releases.
         coalesce((select json_agg(a.name) from tags a where a.repository = r.repository and a.digest = r.digest
                      and a.name !~ '^[vV]?[0-9]'), '[]') as words
    from known r order by repository, tag`;
