import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import { readTag } from '../weights/tag.js';
import { storedContent } from './release-content.js';
import { type FollowedModel, releaseTag, setRelease } from './release-rows.js';

const PAGE = 1_000;

/**
 * Makes the releases of all tags that a model's repository has. The caller holds the repository alone, so that no tag comes
 * or goes meanwhile. Of several spellings the one that was set last is the release.
 */
export async function adoptTags(transaction: Queries, model: FollowedModel, actor: Actor): Promise<void> {
  const newest = new Map<string, { name: string; digest: Digest; at: string }>();
  for (let last = ''; ; ) {
    const rows = await transaction.query<{ name: string; digest: Digest; at: string }>(
      `select t.name, t.digest, to_char(t.updated_at at time zone 'UTC', 'YYYYMMDDHH24MISSUS') as at
         from tags t join manifests m on m.repository = t.repository and m.digest = t.digest
        where t.repository = $1 and t.name > $2 and m.subject is null order by t.name limit ${PAGE}`,
      [model.repository_id, last],
    );
    for (const row of rows) {
      const meaning = readTag(row.name);
      if (meaning.kind !== 'release') continue;
      const key = `${meaning.version}\n${meaning.quantization ?? ''}`.toLowerCase();
      const known = newest.get(key);
      if (!known || row.at > known.at) newest.set(key, row);
    }
    const end = rows.at(-1);
    if (!end || rows.length < PAGE) break;
    last = end.name;
  }
  for (const { name, digest } of newest.values()) {
    const content = await storedContent(transaction, model.repository_id, digest);
    if (content) await setRelease(transaction, { ...model, immutable: false }, releaseTag(name), content, actor);
  }
}
