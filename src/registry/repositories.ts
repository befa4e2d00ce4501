import type { Queries } from '../database/connect.js';
import type { RepositoryName } from '../oci/name.js';

/**
 * The repository's id; makes the repository if there is none of that name. Its row is held FOR KEY SHARE, the first lock of
 * whoever changes what is in it, or FOR UPDATE by who must be alone there (spec/metadata.md, "Order of locks").
 */
export async function ensureRepository(
  queries: Queries,
  name: RepositoryName,
  strength: 'key share' | 'update' = 'key share',
): Promise<number> {
  for (;;) {
    const [row] = await queries.query<{ id: number }>(
      `with known as (select id from repositories where name = $1 for ${strength}),
            made as (insert into repositories (name) select $1 where not exists (select from known) on conflict (name) do nothing returning id)
       select id from known union all select id from made`,
      [name],
    );
    // Neither: another transaction made it after this statement's snapshot; the next one sees it.
    if (row) return row.id;
  }
}

/** The repository's id, its row held FOR KEY SHARE; undefined if there is none of that name. */
export async function findRepository(queries: Queries, name: RepositoryName): Promise<number | undefined> {
  const [row] = await queries.query<{ id: number }>('select id from repositories where name = $1 for key share', [
    name,
  ]);
  return row?.id;
}

/** At most `limit` names of repositories that hold a manifest, after `last`, in byte order. */
export async function listRepositories(queries: Queries, last: string, limit: number): Promise<string[]> {
  const rows = await queries.query<{ name: string }>(
    // Not "exists": PostgreSQL makes a join of it, and may begin that with all manifests there are.
    `select name from repositories r
      where name > $1 and (select true from manifests m where m.repository = r.id and m.condemned_at is null limit 1)
      order by name limit $2`,
    [last, limit],
  );
  return rows.map((row) => row.name);
}
