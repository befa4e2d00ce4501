import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';

/** So many manifests are hashed by a statement; the largest have some MiB. */
const PAGE = 100;

/** A manifest whose payload has another digest than it is found by. */
export interface ManifestFault {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly found: Digest;
}

/** Has PostgreSQL hash the payload of every manifest, page by page. */
export async function* wrongManifests(queries: Queries): AsyncGenerator<ManifestFault, void> {
  let [repository, digest] = [0, ''];
  for (;;) {
    const [page] = await queries.query<{ last: [number, string] | null; wrong: ManifestFault[] }>(
      `with page as materialized (
         select repository, digest, split_part(digest, ':', 1) || ':' || encode(case split_part(digest, ':', 1)
                  when 'sha512' then sha512(payload) else sha256(payload) end, 'hex') as found
           from manifests where (repository, digest) > ($1::bigint, $2::text) order by repository, digest limit $3)
       select (select json_build_array(repository, digest) from page order by repository desc, digest desc limit 1) as last,
              coalesce((select json_agg(json_build_object('repository', r.name, 'digest', p.digest, 'found', p.found))
                          from page p join repositories r on r.id = p.repository where p.found <> p.digest), '[]') as wrong`,
      [repository, digest, PAGE],
    );
    yield* page?.wrong ?? [];
    if (!page?.last) return;
    [repository, digest] = page.last;
  }
}
