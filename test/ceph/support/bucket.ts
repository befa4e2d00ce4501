import { randomUUID } from 'node:crypto';
import { MemoryBudget } from '../../../src/storage/memory-budget.js';
import { S3Store } from '../../../src/storage/s3/store.js';
import { S3Bucket } from '../../../src/storage/s3/bucket.js';
import type { S3Options } from '../../../src/storage/s3/client.js';
import type { PausePoint } from '../../../src/storage/segment-store.js';
import type { Ceph } from './ceph.js';

// Otherwise the SDK tells on stderr which Node its later versions need.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';

const MiB = 1024 * 1024;

/** A part of the bucket for one test. */
export function placeIn(ceph: Ceph): S3Options {
  return {
    endpoint: ceph.endpoint,
    region: 'us-east-1',
    bucket: 'dev',
    accessKeyId: 'cephdev',
    secretAccessKey: 'cephdevsecret',
    prefix: `${randomUUID()}/`,
    forcePathStyle: true,
    timeoutSeconds: 5,
  };
}

/** Settings of a registry that has its bytes there. */
export function settingsOf(place: S3Options): Record<string, string> {
  return {
    REGISTRY_STORAGE: 's3',
    REGISTRY_S3_ENDPOINT: place.endpoint,
    REGISTRY_S3_BUCKET: place.bucket,
    REGISTRY_S3_ACCESS_KEY_ID: place.accessKeyId,
    REGISTRY_S3_SECRET_ACCESS_KEY: place.secretAccessKey,
    REGISTRY_S3_PREFIX: place.prefix,
    REGISTRY_S3_TIMEOUT: '5',
    REGISTRY_JOB_INTERVAL: '1',
    REGISTRY_REMOVAL_DELAY: '0',
    REGISTRY_REMOVAL_SHARE: '100',
  };
}

export interface OpenedStore {
  readonly store: S3Store;
  readonly budget: MemoryBudget;
}

/** A store as a process of its own would have it. */
export function openStore(
  place: S3Options,
  options: { memory?: number; pause?: PausePoint; endpoint?: string; timeoutSeconds?: number } = {},
): OpenedStore {
  const { memory = 64 * MiB, ...others } = options;
  const budget = new MemoryBudget(memory);
  return { budget, store: new S3Store({ downloadMemory: 64 * MiB, ...place, ...others, budget }) };
}

/** Removes all that is below the place. */
export async function empty(place: S3Options): Promise<void> {
  const bucket = new S3Bucket(place);
  for await (const { name, upload } of bucket.uploads('')) await bucket.abort(name, upload);
  for await (const name of bucket.names('')) await bucket.remove(name);
  bucket.close();
}
