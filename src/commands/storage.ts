import { mkdir } from 'node:fs/promises';
import type { Config } from '../config.js';
import type { Queries } from '../database/connect.js';
import { checkMarkers } from '../registry/installation.js';
import { FilesystemStore } from '../storage/filesystem.js';
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
 * Makes the store ready, and sure that it is this database's, for the process that starts the others.
 * @throws Error in words for the operator.
 */
export async function prepareStore(
  config: Config,
  queries: Queries,
): Promise<{ store: SegmentStore; records: RecordStore }> {
  const budget = new MemoryBudget(0);
  if (config.storage === 's3') {
    const store = await openS3(config, budget, () => undefined);
    await store.prepare();
    await checkMarkers(queries, store);
    return { store, records: store };
  }
  const store = openFolder(config, budget);
  await mkdir(config.filesystemRoot, { recursive: true, mode: 0o750 });
  await checkMarkers(queries, store);
  await store.prepare();
  return { store, records: new FilesystemRecords(config.filesystemRoot) };
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
    pause,
  });
}
