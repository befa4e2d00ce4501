import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { Tag } from '../oci/name.js';
import type { Actor, MovedTag } from './changes.js';
import { outlast } from './remembered.js';

/**
 * Parts of a statement that points tags to a manifest: `$1` the repository, `$2` the digest, `$3` the tags, `$4` the actor's
 * key. `moved` tells those that are new or moved.
 * @param after a part that is to be done before, if any
 */
export function setTagsParts(after?: string): string {
  return `wanted as (select name from unnest($3::text[]) as w (name) order by name collate "C"),
          moved as (insert into tags (repository, name, digest, updated_at)
                    select $1, name, $2, clock_timestamp() from wanted${after ? `, (select count(*) from ${after}) as done` : ''}
                    on conflict (repository, name)
                    do update set digest = excluded.digest, previous = tags.digest, updated_at = excluded.updated_at
                    where tags.digest <> excluded.digest returning name, previous),
          noted as (insert into tag_events (repository, name, digest, previous, actor)
                    select $1, name, $2, previous, $4 from moved),
          queued as (insert into review_requests (kind, repository, digest)
                     select distinct 'manifest', $1::bigint, previous from moved where previous is not null)`;
}

/**
 * Points tags to a manifest of the repository, in one order for all, and notes which of them moved from where. Of two who
 * move one tag at once the later is told what the earlier set: `tags.previous` is filled by the row's own update. The time
 * is that of the statement, so that tags which were set one after the other are told apart.
 * @param repository its id, the row held FOR KEY SHARE
 * @returns those that are new or moved, in byte order.
 */
export async function setTags(
  transaction: Queries,
  repository: number,
  digest: Digest,
  tags: readonly Tag[],
  actor: Actor,
): Promise<MovedTag[]> {
  if (tags.length === 0) return [];
  const moved = await transaction.query<MovedTag>(
    `with ${setTagsParts()}
     select name as tag, previous from moved order by name`,
    [repository, digest, [...new Set(tags)], actor.key],
  );
  if (moved.some(({ previous }) => previous !== null)) outlast(transaction);
  return moved;
}

/**
 * Removes tags of a repository; their manifests stay, and go to the collector's queue.
 * @param repository its id, the row held FOR KEY SHARE
 * @returns those that were there, in byte order, with what they meant.
 */
export async function removeTags(
  transaction: Queries,
  repository: number,
  tags: readonly string[],
  actor: Actor,
): Promise<{ tag: Tag; digest: Digest }[]> {
  const removed = await transaction.query<{ tag: Tag; digest: Digest }>(
    `with wanted as (select repository, name from tags where repository = $1 and name = any($2::text[]) order by name for update),
          gone as (delete from tags t using wanted w where t.repository = w.repository and t.name = w.name
                   returning t.name, t.digest),
          noted as (insert into tag_events (repository, name, previous, actor) select $1, name, digest, $3 from gone),
          queued as (insert into review_requests (kind, repository, digest)
                     select distinct 'manifest', $1::bigint, digest from gone)
     select name as tag, digest from gone order by name`,
    [repository, [...tags], actor.key],
  );
  if (removed.length > 0) outlast(transaction);
  return removed;
}
