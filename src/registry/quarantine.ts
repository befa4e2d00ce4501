import type { Database, Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { outlast } from './remembered.js';
import { nameReplacement, type Replacement } from './replacements.js';

/** A blob with the body that it had when it was looked at. */
export interface BodyOfBlob {
  readonly digest: Digest;
  readonly body: number;
}

/** How many repositories of a blob are named where it is told of. */
const MAX_REPOSITORIES = 100;

/**
 * Takes a blob out of use whose bytes are wrong: GET of it fails, to HEAD, mounts and manifests it is not there, and the
 * next push of the same digest puts its bytes in the place of these.
 *
 * Races: commit, mount, compaction and the collector change or lock the blob's row, too. Whoever gave it another body, took
 * it away or condemned it since it was looked at has won, and nothing is done.
 * @returns whether it is quarantined now, and was not before.
 */
export async function quarantine(transaction: Queries, { digest, body }: BodyOfBlob): Promise<boolean> {
  const rows = await transaction.query(
    `update blobs set quarantined_at = now()
      where digest = $1 and body = $2 and quarantined_at is null returning digest`,
    [digest, body],
  );
  if (rows.length === 0) return false;
  // Nobody is sent to its bytes any more when this is said to have happened.
  outlast(transaction);
  return true;
}

/** Puts a blob to use again whose body was found to be right after all. @returns whether it had that body, in quarantine. */
export async function endQuarantine(transaction: Queries, { digest, body }: BodyOfBlob): Promise<boolean> {
  const rows = await transaction.query(
    `update blobs set quarantined_at = null
      where digest = $1 and body = $2 and quarantined_at is not null returning digest`,
    [digest, body],
  );
  return rows.length > 0;
}

/**
 * Names a new body for a quarantined blob, which is filled from elsewhere and put in its place by `finishReplacement`.
 * @returns undefined if it is not quarantined (any more), if any of its bytes are in a row, which nobody else has, or if
 *   somebody replaces its body already.
 */
export async function startHealing(database: Database, digest: Digest): Promise<Replacement | undefined> {
  return await nameReplacement(database, digest, true, (segments) => segments.every(({ bytes }) => bytes === null));
}

/** Whether any blob is quarantined. */
export async function isAnyQuarantined(queries: Queries): Promise<boolean> {
  return (await queries.query('select from blobs where quarantined_at is not null limit 1')).length > 0;
}

/** How many blobs are quarantined. */
export async function countQuarantined(queries: Queries): Promise<number> {
  const [row] = await queries.query<{ count: number }>(
    'select count(*) as count from blobs where quarantined_at is not null',
  );
  return row?.count ?? 0;
}

/** The repositories that have a blob, by name, the first of them. */
export async function repositoriesOf(queries: Queries, digest: Digest): Promise<RepositoryName[]> {
  const rows = await queries.query<{ name: RepositoryName }>(
    `select r.name from repository_blobs l join repositories r on r.id = l.repository
      where l.digest = $1 order by r.name limit ${MAX_REPOSITORIES}`,
    [digest],
  );
  return rows.map(({ name }) => name);
}
