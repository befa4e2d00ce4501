import { brokenConstraint, type Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName, Tag } from '../oci/name.js';
import { holdManifests } from '../registry/reviews.js';
import { setTags } from '../registry/tag-rows.js';
import { invalidField } from './failures.js';
import type { Caller } from './rights.js';

/** Where a tag is put. */
export interface TagPlace {
  readonly repository_id: number;
  readonly name: RepositoryName;
}

/** @throws 'Invalid', naming the field `digest`, if the repository has no such manifest; that it stays is `putTag`'s to see */
export async function checkThere(queries: Queries, { repository_id }: TagPlace, digest: Digest): Promise<void> {
  const rows = await queries.query(
    'select from manifests where repository = $1 and digest = $2 and condemned_at is null',
    [repository_id, digest],
  );
  if (rows.length === 0) throw absent();
}

function absent() {
  return invalidField('digest', "no manifest of the model's repository has this digest");
}

/** Points a tag to a manifest that is there. @returns what it meant before. @throws 'Invalid', naming the field `digest` */
export async function putTag(
  transaction: Queries,
  caller: Caller,
  repository: TagPlace,
  tag: Tag,
  digest: Digest,
): Promise<{ readonly moved: boolean; readonly previous: Digest | null }> {
  await holdManifests(transaction, repository.repository_id, [digest]);
  const [move] = await setTags(transaction, repository.repository_id, digest, [tag], caller.actor).catch(
    (error: unknown) => {
      if (brokenConstraint(error) !== 'tags_manifest') throw error;
      throw absent();
    },
  );
  if (!move) return { moved: false, previous: digest };
  await caller.record(transaction, { kind: 'tag-set', repository: repository.name, digest, ...move });
  return { moved: true, previous: move.previous };
}
