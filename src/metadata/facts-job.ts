import type { Database } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import type { Blobs } from '../registry/blobs.js';
import { factsOf, filesOf } from '../weights/packaging.js';
import { readTag } from '../weights/tag.js';
import { putLayers } from './artifact-rows.js';
import { readConfigBlob } from './config-blob.js';
import { readManifest } from './release-content.js';

/** A release whose config nobody has read yet. */
interface Unread {
  readonly id: string;
  readonly digest: Digest;
  readonly repository: RepositoryName;
  readonly repository_id: number;
  readonly tag: string;
  readonly created_by: string;
}

const BATCH = 20;

/**
 * Reads the configs of releases that were made of tags which were there before their model, or whose config could not be
 * read when they were pushed.
 */
export function factsJob(database: Database, blobs: Blobs, everyMs: number) {
  return { name: 'facts', everyMs, run: async () => (await readFacts(database, blobs)) === BATCH };
}

async function readFacts(database: Database, blobs: Blobs): Promise<number> {
  const due = await database.query<Unread>(
    `select r.id, r.digest, m.storage_path as repository, m.repository_id, r.tag, r.created_by
       from releases r join models m on m.id = r.model_id
      where r.facts is null and r.digest is not null order by r.id limit ${BATCH}`,
  );
  for (const release of due) await readFactsOf(database, blobs, release);
  return due.length;
}

/** The config first, the transaction after it; if the release has moved by then, its push has read the new one. */
async function readFactsOf(database: Database, blobs: Blobs, release: Unread): Promise<void> {
  const manifest = await readManifest(database, release.repository_id, release.digest);
  const config = manifest && (await readConfigBlob(blobs, release.repository, manifest));
  const facts = manifest ? factsOf(manifest, config, readTag(release.tag)) : {};
  await database.transaction(async (transaction) => {
    const held = await transaction.query(
      'update releases set facts = $3 where id = $1 and digest = $2 and facts is null returning id',
      [release.id, release.digest, JSON.stringify(facts)],
    );
    // Some configs name the files.
    if (held.length > 0 && manifest && manifest.kind === 'image' && config !== undefined)
      await putLayers(transaction, release.id, filesOf(manifest, config), { key: release.created_by });
  });
}
