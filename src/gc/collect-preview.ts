import type { Database, Queries } from '../database/connect.js';
import type { UntaggedRule } from './collector.js';
import type { Digest } from '../oci/digest.js';
import { ATTACHED_LENGTH } from '../oci/attached-tags.js';
import type { RepositoryName } from '../oci/name.js';
import { makeAttached } from './preview-attached.js';
import type { ProtectedTags } from './review-manifests.js';

export interface PreviewOptions {
  readonly graceSeconds: number;
  readonly manifestGraceSeconds: number;
  /** A condition of SQL on a manifest `m` that holds where the metadata needs it. */
  readonly pinned: string;
  readonly untagged: () => Promise<UntaggedRule>;
  readonly protectedTags: ProtectedTags;
}

/** A manifest that goes if nobody names it again. */
export interface GoingManifest {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly artifactType: string | null;
  readonly why: 'its subject was removed' | 'it refers to what goes' | 'only what goes lists it' | 'nothing names it';
  /** Since when the collector knows, and when it goes at the earliest; null: it has not been looked at yet. */
  readonly since: Date | null;
  readonly goes: Date | null;
}

/** What goes from a repository. A blob that goes from several is counted with its bytes in the first of them. */
export interface GoingOf {
  readonly repository: RepositoryName;
  readonly model: string | null;
  readonly manifests: number;
  /** Blobs that this repository will not have any more. */
  readonly links: number;
  /** Those of them that no other will have, and their bytes. */
  readonly blobs: number;
  readonly bytes: number;
}

export interface Preview {
  /** In the order of repositories and digests, as many as were asked for. */
  readonly manifests: readonly GoingManifest[];
  readonly repositories: readonly GoingOf[];
}

/**
 * What the collector would take if nothing else happened, by the same rules as it decides, over all rows at once: a manifest
 * stays if a name leads to it from a tag, a release, a live deployment or a policy, a blob if such a manifest or a draft has
 * it. Changes nothing; what is not pushed to its end yet is in it, too.
 * @param limit how many manifests are told one by one; null: all
 */
export async function previewCollection(
  database: Database,
  options: PreviewOptions,
  limit: number | null,
): Promise<Preview> {
  const rule = await options.untagged();
  return await database.transaction(async (transaction) => {
    const run = (text: string, values: readonly unknown[] = []) => transaction.query(text, values, { prepare: false });
    await run('set transaction isolation level repeatable read');
    // All rows at once, by sorting and hashing.
    await run(`set local work_mem = '256MB'`);
    await run('set local jit = off');
    const rules = await rulesOf(transaction, rule);
    await run('create temp table keeps (repository bigint primary key, seconds float8) on commit drop');
    await run('insert into keeps select * from unnest($1::bigint[], $2::float8[])', [
      rules.map(({ id }) => id),
      rules.map(({ seconds }) => seconds ?? null),
    ]);
    await makeAttached(transaction, options.protectedTags);
    await run(keptManifests(options.pinned));
    await run('analyze kept');
    await run(GOING_MANIFESTS);
    await run('analyze going');
    await run(LINKS);
    await run('analyze links');
    return {
      manifests: await goingManifests(transaction, options.manifestGraceSeconds, limit),
      repositories: await goingOf(transaction),
    };
  });
}

async function rulesOf(queries: Queries, untaggedSeconds: UntaggedRule) {
  const rows = await queries.query<{ id: number; name: RepositoryName }>('select id, name from repositories');
  return rows.map(({ id, name }) => ({ id, seconds: untaggedSeconds(name) }));
}

/**
 * From what is named from outside, to what an index lists and what refers to it. What goes with a subject does so also where
 * a policy keeps what nothing names.
 */
const keptManifests = (pinned: string) => `
  create temp table kept on commit drop as
  with recursive kept (repository, digest) as (
    select m.repository, m.digest from manifests m join keeps k on k.repository = m.repository
      left join attached a on a.repository = m.repository and a.digest = m.digest
      left join orphaned o on o.repository = m.repository and o.digest = m.digest
      left join manifests s on s.repository = m.repository and s.digest = m.subject
     where (k.seconds is null and a.digest is null and o.digest is null and s.digest is null)
        or (a.digest is null and exists (select from tags t where t.repository = m.repository and t.digest = m.digest))
        or ${pinned}
    union
    select n.repository, n.digest from kept k cross join lateral (
      select c.repository, c.digest from manifest_references f
        join manifests c on c.repository = f.repository and c.digest = f.digest
       where f.repository = k.repository and f.manifest = k.digest and f.kind = 'manifest'
      union all
      select c.repository, c.digest from manifests c where c.repository = k.repository and c.subject = k.digest
      union all
      select a.repository, a.digest from attached a
       where a.repository = k.repository and a.subject = left(k.digest, ${ATTACHED_LENGTH})) n)
  select * from kept`;

const GOING_MANIFESTS = `
  create temp table going on commit drop as
  select repository, digest from manifests except select repository, digest from kept`;

/** Every link, and whether it stays. */
const LINKS = `
  create temp table links on commit drop as
  select l.repository, l.digest, n.digest is not null as stays from repository_blobs l left join (
    select f.repository, f.digest from kept k
      join manifest_references f on f.repository = k.repository and f.manifest = k.digest and f.kind <> 'manifest'
    union
    select a.repository, a.blob from artifacts a where a.blob is not null) n
   on n.repository = l.repository and n.digest = l.digest`;

async function goingManifests(queries: Queries, graceSeconds: number, limit: number | null): Promise<GoingManifest[]> {
  return await queries.query<GoingManifest>(
    `select m.name as repository, m.digest, m.artifact_type as "artifactType", v.queued_at as since,
            case when m.condemned_at is not null then m.condemned_at + g.grace
                 else v.queued_at + g.grace + case when v.orphaned then interval '0' else make_interval(secs => m.seconds) end end as goes,
            case when v.orphaned then 'its subject was removed'
                 when exists (select from manifests s where s.repository = m.repository and s.digest = m.subject)
                   or exists (select from attached a where a.repository = m.repository and a.digest = m.digest) then 'it refers to what goes'
                 when exists (select from manifest_references f
                               where f.repository = m.repository and f.digest = m.digest and f.kind = 'manifest') then 'only what goes lists it'
                 else 'nothing names it' end as why
       from (select r.name, k.seconds, m.* from going n
               join manifests m on m.repository = n.repository and m.digest = n.digest
               join repositories r on r.id = m.repository join keeps k on k.repository = m.repository
              order by r.name, m.digest limit $2) m
       left join lateral (
         select at as queued_at, orphaned from review_requests v
          where v.kind = 'manifest' and v.repository = m.repository and v.digest = m.digest
         union all
         select queued_at, orphaned from reviews v
          where v.kind = 'manifest' and v.repository = m.repository and v.digest = m.digest
          order by queued_at desc limit 1) v on true
      cross join make_interval(secs => $1) as g (grace)
      order by m.name, m.digest`,
    [graceSeconds, limit],
    { prepare: false },
  );
}

async function goingOf(queries: Queries): Promise<GoingOf[]> {
  return await queries.query<GoingOf>(
    `with alone as (
       select min(r.name) as name, l.digest from links l join repositories r on r.id = l.repository
        group by l.digest having not bool_or(l.stays)),
     blobs as (select a.name, count(*)::int as blobs, sum(b.size)::bigint as bytes
                 from alone a join blobs b on b.digest = a.digest group by a.name),
     gone as (select repository, count(*)::int as links from links where not stays group by repository),
     manifests as (select repository, count(*)::int as manifests from going group by repository)
     select r.name as repository, o.name as model, coalesce(m.manifests, 0) as manifests, coalesce(l.links, 0) as links,
            coalesce(b.blobs, 0) as blobs, coalesce(b.bytes, 0)::bigint as bytes
       from repositories r left join gone l on l.repository = r.id left join manifests m on m.repository = r.id
       left join blobs b on b.name = r.name left join models o on o.repository_id = r.id
      where l.links > 0 or m.manifests > 0 order by coalesce(b.bytes, 0) desc, r.name`,
    [],
    { prepare: false },
  );
}
