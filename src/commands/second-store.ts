import { resolve } from 'node:path';
import type { Config } from '../config.js';
import { FilesystemStore } from '../storage/filesystem.js';
import { MemoryBudget } from '../storage/memory-budget.js';
import type { SegmentStore } from '../storage/segment-store.js';

/** Bytes that are read ahead of it; one blob at a time is read. */
const READ_AHEAD = 16 * 1024 * 1024;

/** The store with a copy of the bytes that the settings name, undefined if none. Nothing is asked of it yet. */
export async function openSecondStore(config: Config): Promise<SegmentStore | undefined> {
  // Nothing is written there, so nothing needs memory for that.
  const budget = new MemoryBudget(0);
  if (config.secondStore === 'none') return undefined;
  if (config.secondStore === 'filesystem')
    return new FilesystemStore({ root: resolve(config.secondStoreRoot), budget, downloadMemory: READ_AHEAD });
  // Loaded only where it is used: the SDK is large.
  const { S3Store } = await import('../storage/s3/store.js');
  return new S3Store({
    endpoint: config.secondStoreS3Endpoint,
    region: config.secondStoreS3Region,
    bucket: config.secondStoreS3Bucket,
    accessKeyId: config.secondStoreS3AccessKeyId,
    secretAccessKey: config.secondStoreS3SecretAccessKey,
    prefix: config.secondStoreS3Prefix,
    forcePathStyle: config.secondStoreS3ForcePathStyle === 'true',
    timeoutSeconds: config.s3Timeout,
    budget,
    downloadMemory: READ_AHEAD,
  });
}
