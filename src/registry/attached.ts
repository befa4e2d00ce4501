import type { Queries } from '../database/connect.js';
import { attachedTags } from '../oci/attached-tags.js';
import type { Digest } from '../oci/digest.js';
import { OCI_IMAGE_INDEX } from '../oci/media-types.js';

/**
 * Asks the collector to look at what refers to a manifest that is being removed: what names it as its subject, and what tags
 * attach to it, as cosign's do. It goes with its subject, if neither is put again by then. Under the tag of the
 * fallback only an index counts: some mirrors give images tags of that form.
 * @param repository its id
 */
export async function orphanReferrers(transaction: Queries, repository: number, subject: Digest): Promise<void> {
  const { index, others } = attachedTags(subject);
  await transaction.query(
    `insert into review_requests (kind, repository, digest, orphaned)
     select 'manifest', $1::bigint, digest, true from (
       select digest from manifests where repository = $1 and subject = $2
       union
       select m.digest from tags t join manifests m on m.repository = t.repository and m.digest = t.digest
        where t.repository = $1 and t.name = any($3::text[]) and (t.name <> $4 or m.media_type = $5)) r`,
    [repository, subject, [index, ...others], index, OCI_IMAGE_INDEX],
  );
}
