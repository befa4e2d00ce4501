import type { Queries } from '../database/connect.js';
import { ATTACHED_LENGTH, ATTACHED_TAG } from '../oci/attached-tags.js';
import { OCI_IMAGE_INDEX } from '../oci/media-types.js';
import { SUBJECT_OF_TAG } from './names.js';
import type { ProtectedTags } from './review-manifests.js';

/**
 * Makes the tables `orphaned`, of manifests whose subject is known to have been removed, and `attached`, of those that tags
 * alone attach to a `subject` (the beginning of its digest), which is there or is known to have been removed: they go with it.
 * The rules are those of `manifestIsNamed` and `orphanReferrers`.
 */
export async function makeAttached(transaction: Queries, protectedTags: ProtectedTags): Promise<void> {
  const run = (text: string, values: readonly unknown[] = []) => transaction.query(text, values, { prepare: false });
  await run(ORPHANED);
  await run('analyze orphaned');
  await run(ATTACHED);
  await run('analyze attached');
  const tags = await transaction.query<{ repository: number; digest: string; name: string; tag: string }>(
    `select a.repository, a.digest, r.name, t.name as tag from attached a join repositories r on r.id = a.repository
       join tags t on t.repository = a.repository and t.digest = a.digest`,
    [],
    { prepare: false },
  );
  const isProtected = await protectedTags(transaction);
  const kept = tags.filter(({ name, tag }) => isProtected(name, tag));
  await run(
    `delete from attached a using unnest($1::bigint[], $2::text[]) as k (repository, digest)
      where a.repository = k.repository and a.digest = k.digest`,
    [kept.map(({ repository }) => repository), kept.map(({ digest }) => digest)],
  );
}

/** What was asked for last counts. */
const ORPHANED = `
  create temp table orphaned on commit drop as
  select repository, digest from (
    select distinct on (repository, digest) repository, digest, orphaned from (
      select repository, digest, orphaned, id, 1 as step from review_requests where kind = 'manifest'
      union all
      select repository, digest, orphaned, id, 0 from reviews where kind = 'manifest') v
     order by repository, digest, step desc, id desc) v where orphaned`;

const ATTACHED = `
  create temp table attached on commit drop as
  with told as (
    select t.repository, t.digest, t.name, case when t.name ~ '${ATTACHED_TAG}' then ${SUBJECT_OF_TAG} end as subject from tags t),
  alone as (
    select m.repository, m.digest, min(t.subject) as subject
      from told t join manifests m on m.repository = t.repository and m.digest = t.digest
     group by m.repository, m.digest
    having bool_and(t.subject is not null) and min(t.subject) = max(t.subject) and min(t.subject) <> left(m.digest, ${ATTACHED_LENGTH})
       and coalesce(left(m.subject, ${ATTACHED_LENGTH}) = min(t.subject), true)
       -- Under the tag of the fallback only an index.
       and (m.subject is not null or m.media_type = '${OCI_IMAGE_INDEX}' or max(length(t.name)) > ${ATTACHED_LENGTH}))
  select a.* from alone a
   where exists (select from orphaned o where o.repository = a.repository and o.digest = a.digest)
      or exists (select from manifests s where s.repository = a.repository and left(s.digest, ${ATTACHED_LENGTH}) = a.subject)`;
