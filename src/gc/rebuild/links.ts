import type { Digest } from '../../oci/digest.js';
import type { RepositoryName } from '../../oci/name.js';
import type { RebuildOptions } from './options.js';

const PAGE = 1_000;

interface Link {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly linked: boolean;
  readonly blob: boolean;
  /** The last that was written down of the blob is that it was gone, and no manifest needs it. */
  readonly gone: boolean;
}

/** Links blobs as the records say. What is not there, and should be, is a fault, one for each blob. */
export async function rebuildLinks({ database, report, dryRun, check }: RebuildOptions): Promise<void> {
  const missing = new Map<Digest, RepositoryName[]>();
  const count = report.counts.links;
  for (let after: readonly [string, string] = ['', '']; ; ) {
    await check();
    const links = await database.query<Link>(
      `select t.repository, t.digest,
              exists (select from repository_blobs l join repositories r on r.id = l.repository
                       where r.name = t.repository and l.digest = t.digest) as linked,
              exists (select from blobs b where b.digest = t.digest)
                or exists (select from rebuilt_bodies b where b.digest = t.digest and b.whole) as blob,
              coalesce((select b.segments is null from rebuilt_bodies b where b.digest = t.digest
                         order by b.generation desc, b.id desc, b.segments is null limit 1), false)
                and not exists (select from rebuilt_needs n where n.digest = t.digest) as gone
         from rebuilt_things t where t.thing = 'link' and t.digest is not null and (t.repository, t.name) > ($1, $2)
        order by t.repository, t.name limit ${PAGE}`,
      after,
    );
    const last = links.at(-1);
    if (!last) break;
    after = [last.repository, last.digest];
    count.recorded += links.length;
    const made = links.filter(({ linked, blob }) => blob && !linked);
    count.made += made.length;
    count.there += links.filter(({ linked }) => linked).length;
    for (const { linked, blob, gone, repository, digest } of links) {
      if (linked || blob) continue;
      if (gone) count.removed += 1;
      else missing.set(digest, [...(missing.get(digest) ?? []), repository]);
    }
    if (dryRun || made.length === 0) continue;
    await database.transaction(async (transaction) => {
      const values = [made.map(({ repository }) => repository), made.map(({ digest }) => digest)];
      await transaction.query(
        'insert into repositories (name) select distinct name from unnest($1::text[]) as n (name) order by 1 on conflict do nothing',
        [values[0]],
      );
      await transaction.query(
        `insert into repository_blobs (repository, digest, linked_at)
         select r.id, t.digest, t.at from unnest($1::text[], $2::text[]) as m (repository, digest)
           join repositories r on r.name = m.repository
           join rebuilt_things t on t.thing = 'link' and t.repository = m.repository and t.name = m.digest
          order by 1, 2 on conflict (repository, digest) do nothing`,
        values,
      );
    });
  }
  for (const [digest, repositories] of missing) {
    count.missing += repositories.length;
    report.counts.blobs.missing += 1;
    const why = report.reasons.get(digest) ?? 'nothing tells where its bytes are';
    const [first, ...others] = repositories;
    report.fault(`blob ${digest} of ${first}${others.length > 0 ? ` and ${others.length} more` : ''}: ${why}`);
  }
}

/**
 * Takes blobs out of repositories out of which they were taken, unless a manifest or a draft of the repository has them by
 * now; their bytes are the collector's affair. After the manifests.
 */
export async function rebuildUnlinks({ database, report, dryRun, check }: RebuildOptions): Promise<void> {
  await check();
  const doomed = `select l.repository, l.digest from rebuilt_things t join repositories r on r.name = t.repository
      join repository_blobs l on l.repository = r.id and l.digest = t.name
     where t.thing = 'link' and t.digest is null
       and not exists (select from manifest_references m where m.repository = l.repository and m.blob = l.digest)
       and not exists (select from artifacts a where a.repository = l.repository and a.blob = l.digest)`;
  const rows = dryRun
    ? await database.query(doomed)
    : await database.query(
        `with doomed as (${doomed}), gone as (
           delete from repository_blobs l using doomed d where l.repository = d.repository and l.digest = d.digest
           returning l.repository, l.digest),
         queued as (insert into review_requests (kind, repository, digest) select 'blob', repository, digest from gone)
         select digest from gone`,
      );
  report.counts.links.removed += rows.length;
}
