import { brokenConstraint, type Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName, Tag } from '../oci/name.js';
import { setTags } from '../registry/tag-rows.js';
import { invalidField } from './failures.js';
import type { Caller } from './rights.js';

/** Points a tag to a manifest that is there. @returns what it meant before. @throws 'Invalid', naming the field `digest` */
export async function putTag(
  transaction: Queries,
  caller: Caller,
  repository: { readonly repository_id: number; readonly name: RepositoryName },
  tag: Tag,
  digest: Digest,
): Promise<{ readonly moved: boolean; readonly previous: Digest | null }> {
  const [move] = await setTags(transaction, repository.repository_id, digest, [tag], caller.actor).catch(
    (error: unknown) => {
      if (brokenConstraint(error) !== 'tags_manifest') throw error;
      throw invalidField('digest', "no manifest of the model's repository has this digest");
    },
  );
  if (!move) return { moved: false, previous: digest };
  await caller.record(transaction, { kind: 'tag-set', repository: repository.name, digest, ...move });
  return { moved: true, previous: move.previous };
}
