import type { Database } from '../database/connect.js';
import type { Log } from '../log.js';
import type { PausePoint, SegmentStore } from '../storage/segment-store.js';
import type { Admission } from './admission.js';
import { Blobs } from './blobs.js';
import type { ChangeObserver } from './changes.js';
import { Lists } from './lists.js';
import { Manifests, type PushInspector } from './manifests.js';
import { Tags } from './tags.js';
import { Uploads } from './uploads.js';

export interface RegistryOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly log: Log;
  readonly observers: readonly ChangeObserver[];
  /** Looks at pushes of manifests; made for the blobs of the registry that is being wired. */
  readonly inspectPushes?: ((blobs: Blobs) => PushInspector) | undefined;
  /** Refuses what may not come in; without it everything may. */
  readonly admit?: Admission | undefined;
  readonly pause: PausePoint;
  readonly blobMaxBytes: number;
  readonly uploadLifetimeSeconds: number;
  /** Open upload sessions that one key may have. */
  readonly sessionsPerKey: number;
  readonly readGraceSeconds: number;
  readonly storageTimeoutSeconds: number;
  /** See UploadsOptions. */
  readonly recordBytes?: number | undefined;
  readonly inlineMaxBytes?: number | undefined;
  /** See UploadsOptions. */
  readonly followMs?: number | undefined;
  /** See UploadsOptions. */
  readonly patienceMs?: number | undefined;
  /** See UploadsOptions. */
  readonly sliceBytes?: number | undefined;
}

/** The verbs of the registry, where bytes and rows meet. */
export interface Registry {
  readonly blobs: Blobs;
  readonly uploads: Uploads;
  readonly manifests: Manifests;
  readonly tags: Tags;
  readonly lists: Lists;
}

/** Wires the verbs to a database and a store. */
export function createRegistry(options: RegistryOptions): Registry {
  const tags = new Tags(options);
  const blobs = new Blobs(options);
  return {
    blobs,
    uploads: new Uploads({
      ...options,
      maxBytes: options.blobMaxBytes,
      lifetimeSeconds: options.uploadLifetimeSeconds,
    }),
    manifests: new Manifests({ ...options, inspect: options.inspectPushes?.(blobs) }),
    tags,
    lists: new Lists(options.database, tags),
  };
}
