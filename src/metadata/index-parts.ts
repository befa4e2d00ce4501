import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import { putLayers } from './artifact-rows.js';
import { storedContent } from './release-content.js';
import type { FollowedModel } from './release-rows.js';

/** The indexes of a repository that list a manifest, also by way of others. */
export async function indexesOf(queries: Queries, repository: number, digest: Digest): Promise<Digest[]> {
  const rows = await queries.query<{ manifest: Digest }>(
    `with recursive wholes (manifest) as (
       select manifest from manifest_references where repository = $1 and digest = $2 and kind = 'manifest'
       union
       select f.manifest from wholes w join manifest_references f on f.digest = w.manifest
        where f.repository = $1 and f.kind = 'manifest')
     select manifest from wholes`,
    [repository, digest],
  );
  return rows.map((row) => row.manifest);
}

/** Gives the releases that are one of these indexes the files of what it lists and what of it is there now. */
export async function putParts(
  transaction: Queries,
  model: FollowedModel,
  indexes: readonly Digest[],
  actor: Actor,
): Promise<void> {
  if (indexes.length === 0) return;
  const releases = await transaction.query<{ id: string; digest: Digest }>(
    'select id, digest from releases where model_id = $1 and digest = any($2::text[]) order by id for update',
    [model.id, indexes],
  );
  for (const { id, digest } of releases) {
    const content = await storedContent(transaction, model.repository_id, digest);
    if (!content) continue;
    await transaction.query('update releases set size_bytes = $2, updated_at = now() where id = $1', [
      id,
      content.size,
    ]);
    await putLayers(transaction, id, content.files, actor);
  }
}
