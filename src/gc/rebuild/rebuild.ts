import { catchUpRecords, writeRecords } from '../records.js';
import { forgetPulls } from '../retention.js';
import { setComplete } from '../record-log.js';
import { rebuildBlobs } from './blobs.js';
import { hashLeftovers } from './leftovers.js';
import { rebuildLinks, rebuildUnlinks } from './links.js';
import { rebuildManifests, rebuildRemovals } from './manifests.js';
import type { RebuildOptions } from './options.js';
import { clearStaged, stageRecords } from './staging.js';
import { rebuildTags } from './tags.js';

/**
 * Brings a database up to what is written down beside the bytes: an empty one, or one restored from a backup. Each step
 * finds what an earlier, broken run of it has done. Nobody else may work on the database.
 * @param accept whether what can't come back is given up, so that the store is tidied again
 * @returns whether the database has all that the store knows; otherwise nothing is removed from the store, as before
 */
export async function rebuild(options: RebuildOptions, accept: boolean): Promise<boolean> {
  const { database, records, report, dryRun } = options;
  if (!dryRun) {
    await catchUpRecords(database, records);
    await writeRecords(database, records);
    // Also where the records don't show it: until this is over, nothing is to be removed.
    await database.query('update record_log set behind = true');
    // What the collector had decided it decides anew, by all that is known then.
    await database.query(
      'update repository_blobs set condemned_at = null, linked_at = now() where condemned_at is not null',
    );
    await database.query('update manifests set condemned_at = null where condemned_at is not null');
  }
  report.step('reading the records');
  await stageRecords(options);
  report.step('looking for the objects of blobs');
  await rebuildBlobs(options);
  await hashLeftovers(options);
  await rebuildLinks(options);
  report.step('putting manifests');
  await rebuildManifests(options);
  report.step('setting tags');
  await rebuildTags(options);
  await rebuildRemovals(options);
  await rebuildUnlinks(options);
  await clearStaged(database);
  await database.query('truncate rebuilt_uploads');
  const complete = report.faults.length === 0;
  if (dryRun) return complete;
  await writeRecords(database, records);
  // Pulls are not written down.
  await forgetPulls(database);
  if (complete || accept) {
    await setComplete(database);
    await database.query('truncate rebuilt_objects');
  }
  return complete;
}
