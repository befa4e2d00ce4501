import type { Config } from '../config.js';
import type { Queries } from '../database/connect.js';
import type { Log } from '../log.js';
import { checkMarkers } from '../registry/installation.js';
import { FilesystemStore } from '../storage/filesystem.js';
import { checkFolder, roomOf } from '../storage/folder-check.js';
import { MemoryBudget } from '../storage/memory-budget.js';
import { FilesystemRecords, type RecordStore } from '../storage/record-store.js';
import type { PausePoint, SegmentStore } from '../storage/segment-store.js';

/** A store of which is known how much its downloads hold. */
export type ServingStore = SegmentStore & { readonly readAheadBytes: number };

/** The store that the settings name, as a process that serves uses it. */
export async function openStore(config: Config, budget: MemoryBudget, pause: PausePoint): Promise<ServingStore> {
  return config.storage === 's3' ? await openS3(config, budget, pause) : openFolder(config, budget);
}

/**
 * Makes the store ready, and sure that it is this database's and can hold blobs, for the process that starts the others.
 * @param agree makes sure that the two belong together
 * @throws Error in words for the operator.
 */
export async function prepareStore(
  config: Config,
  queries: Queries,
  log: Log,
  agree: (queries: Queries, store: SegmentStore) => Promise<void> = checkMarkers,
): Promise<{ store: SegmentStore; records: RecordStore }> {
  try {
    // Here only what is written anew is written.
    const budget = new MemoryBudget(config.uploadMemory);
    if (config.storage === 's3') {
      const store = await openS3(config, budget, () => undefined);
      await store.prepare();
      await agree(queries, store);
      return { store, records: store };
    }
    const store = openFolder(config, budget);
    await lookAtFolder(config, log);
    await agree(queries, store);
    await store.prepare();
    return { store, records: new FilesystemRecords(config.filesystemRoot) };
  } catch (cause) {
    throw new Error(`the storage ${placeOfBlobs(config)} can't be used`, { cause });
  }
}

/** A folder that can't hold blobs is refused; one that is full is not, since what it holds can be read. */
async function lookAtFolder({ filesystemRoot: folder, healthFreeBytes }: Config, log: Log): Promise<void> {
  if (!(await checkFolder(folder))) log.warn({ folder }, 'the folder of the blobs is full: nothing can be pushed');
  const { free, takesFiles } = await roomOf(folder);
  if (free < healthFreeBytes)
    log.warn({ folder, free, wanted: healthFreeBytes }, 'the folder of the blobs has little room left');
  if (!takesFiles) log.warn({ folder }, 'the folder of the blobs takes no further file: nothing can be pushed');
}

/** Where the blobs are, in words. */
export function placeOfBlobs(config: Config): string {
  return config.storage === 's3'
    ? `s3://${config.s3Bucket}/${config.s3Prefix}${config.s3Endpoint && ` at ${config.s3Endpoint}`}`
    : config.filesystemRoot;
}

function openFolder(config: Config, budget: MemoryBudget): FilesystemStore {
  return new FilesystemStore({ root: config.filesystemRoot, budget, downloadMemory: config.downloadMemory });
}

async function openS3(config: Config, budget: MemoryBudget, pause: PausePoint) {
  // Loaded only where it is used: the SDK is large.
  const { S3Store } = await import('../storage/s3/store.js');
  return new S3Store({
    endpoint: config.s3Endpoint,
    publicEndpoint: config.s3PublicEndpoint,
    region: config.s3Region,
    bucket: config.s3Bucket,
    accessKeyId: config.s3AccessKeyId,
    secretAccessKey: config.s3SecretAccessKey,
    prefix: config.s3Prefix,
    forcePathStyle: config.s3ForcePathStyle === 'true',
    timeoutSeconds: config.s3Timeout,
    budget,
    downloadMemory: config.downloadMemory,
    pause,
  });
}
