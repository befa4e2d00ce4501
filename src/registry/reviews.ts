import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';

/** Blobs of a repository that are condemned are seen again. The caller holds their links. */
export async function reviveLinks(transaction: Queries, repository: number, digests: readonly Digest[]): Promise<void> {
  if (digests.length === 0) return;
  await transaction.query(
    'update repository_blobs set condemned_at = null where repository = $1 and digest = any($2::text[]) and condemned_at is not null',
    [repository, digests],
  );
}

/**
 * Holds manifests of a repository until the transaction ends, in one order, and revives those that are condemned: they are
 * being named. @returns those that are there
 */
export async function holdManifests(
  transaction: Queries,
  repository: number,
  digests: readonly Digest[],
): Promise<Digest[]> {
  if (digests.length === 0) return [];
  const rows = await transaction.query<{ digest: Digest; condemned: boolean }>(
    `select digest, condemned_at is not null as condemned from manifests
      where repository = $1 and digest = any($2::text[]) order by digest for key share`,
    [repository, digests],
  );
  const condemned = rows.filter((row) => row.condemned).map((row) => row.digest);
  if (condemned.length > 0)
    await transaction.query(
      'update manifests set condemned_at = null where repository = $1 and digest = any($2::text[])',
      [repository, condemned],
    );
  return rows.map((row) => row.digest);
}

/**
 * Asks the collector to look at blobs of one repository, by its id, of which a name was taken away: in the transaction that
 * takes it. Requests are only added, as often as there is reason to: no two who change something wait for each other here.
 */
export async function reviewBlobs(transaction: Queries, repository: number, digests: readonly Digest[]): Promise<void> {
  await transaction.query(
    `insert into review_requests (kind, repository, digest) select distinct 'blob', $1::bigint, digest from unnest($2::text[]) as d (digest)`,
    [repository, digests],
  );
}
