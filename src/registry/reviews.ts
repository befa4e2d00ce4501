import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';

/**
 * The end of a statement that puts rows (kind, repository, digest) into the collector's queue, each once and in order: one that
 * waits there already begins anew. Who takes a name away does it in his transaction; a review that the collector is just
 * ending is waited for, and put in again.
 */
export const QUEUED_ANEW = 'on conflict on constraint reviews_once do update set queued_at = now(), not_before = now()';

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

/** Queues blobs of one repository, by its id, of which a name was taken away. */
export async function reviewBlobs(transaction: Queries, repository: number, digests: readonly Digest[]): Promise<void> {
  await transaction.query(
    `insert into reviews (kind, repository, digest)
     select 'blob', $1, d.digest from (select distinct digest from unnest($2::text[]) as u (digest)) d
      order by d.digest collate "C" ${QUEUED_ANEW}`,
    [repository, digests],
  );
}
