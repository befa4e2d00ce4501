import type { Database } from '../../database/connect.js';
import type { Actor, ChangeObserver } from '../../registry/changes.js';
import type { PushInspector } from '../../registry/manifests.js';
import type { RecordStore } from '../../storage/record-store.js';
import type { SegmentStore } from '../../storage/segment-store.js';
import type { RebuildReport } from './report.js';

/** What a rebuild works with. */
export interface RebuildOptions {
  readonly database: Database;
  readonly store: SegmentStore;
  readonly records: RecordStore;
  /** Told of manifests and tags as of a push. */
  readonly observers: readonly ChangeObserver[];
  readonly inspect: PushInspector;
  readonly actor: Actor;
  readonly report: RebuildReport;
  /** Whether only to say what would be done. */
  readonly dryRun: boolean;
  /** Called between batches. @throws when others have begun to work on the database */
  readonly check: () => Promise<void>;
}
