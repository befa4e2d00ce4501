import type { Database } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';

/** A manifest that names another as its subject, as it stands in the list of referrers. */
export interface Referrer {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType: string | null;
  readonly annotations: Readonly<Record<string, string>> | null;
}

/** What a descriptor takes in JSON beside its annotations, in bytes, about. */
const DESCRIPTOR_BYTES = 400;
const MAX_PAGE = 1_000;

/**
 * The referrers of a digest after `last`, in byte order of their digests, as many as fit into `maxBytes`, but at least one
 * (distribution-spec, "Listing Referrers"). Also for a subject or a repository that is not there: an empty list.
 */
export async function listReferrers(
  database: Database,
  query: {
    repository: RepositoryName;
    subject: Digest;
    artifactType: string | undefined;
    last: string;
    maxBytes: number;
  },
): Promise<{ referrers: Referrer[]; more: boolean }> {
  const rows = await database.query<Referrer & { first: boolean; before: number; known: number }>(
    `select p.digest, p.media_type as "mediaType", p.size, p.artifact_type as "artifactType", p.annotations, p.before, p.known from (
       select m.*, row_number() over w as known,
              (sum($5 + coalesce(octet_length(m.annotations::text), 0)) over w)::bigint as before
         from (select m.digest, m.media_type, m.size, m.artifact_type, m.annotations
                 from repositories r join manifests m on m.repository = r.id
                where r.name = $1 and m.subject = $2 and m.digest > $3 and ($4::text is null or m.artifact_type = $4) and m.condemned_at is null
                order by m.digest limit $6) m
       window w as (order by m.digest)) p
      where p.before <= $7 or p.known = 1
      order by p.digest`,
    [
      query.repository,
      query.subject,
      query.last,
      query.artifactType ?? null,
      DESCRIPTOR_BYTES,
      MAX_PAGE,
      query.maxBytes,
    ],
  );
  const referrers = rows.map(({ mediaType, digest, size, artifactType, annotations }) => ({
    mediaType,
    digest,
    size,
    artifactType,
    annotations,
  }));
  const last = referrers.at(-1)?.digest;
  if (last === undefined) return { referrers, more: false };
  const following = await database.query(
    `select from repositories r join manifests m on m.repository = r.id
      where r.name = $1 and m.subject = $2 and m.digest > $3 and ($4::text is null or m.artifact_type = $4) and m.condemned_at is null limit 1`,
    [query.repository, query.subject, last, query.artifactType ?? null],
  );
  return { referrers, more: following.length > 0 };
}
