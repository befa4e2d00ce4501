import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';

/** How many releases of a blob are named. */
const MAX_RELEASES = 20;

/** The releases that have a blob as a file or as their config, as `model:tag`, the first of them. */
export async function releasesWith(queries: Queries, digest: Digest): Promise<string[]> {
  const rows = await queries.query<{ release: string }>(
    `select distinct m.name || ':' || r.tag as release
       from repository_blobs l
       join manifest_references f on f.repository = l.repository and f.blob = l.digest
       join models m on m.repository_id = l.repository
       join releases r on r.model_id = m.id and r.digest = f.manifest
      where l.digest = $1 order by 1 limit ${MAX_RELEASES}`,
    [digest],
  );
  return rows.map(({ release }) => release);
}
