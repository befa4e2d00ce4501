import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import { type Insert, insertRows } from '../database/insert.js';
import type { Change, ChangeRecorder } from '../registry/changes.js';

/** What an audit row says, besides who did it and when. */
export interface AuditEntry {
  /** `<what>.<verb>`, such as `release.create`. */
  readonly action: string;
  readonly resourceType: string;
  readonly resourceId: string;
  /** The name of the repository it was done in, if any. */
  readonly repository?: string | undefined;
  /** Facts, before and after; never a secret. Kept as JSON. */
  readonly details: Readonly<Record<string, unknown>>;
}

/** Writes one row of the record, in the transaction of what it speaks of. */
export async function writeAudit(transaction: Queries, actor: Actor, entry: AuditEntry): Promise<void> {
  await insertRows(transaction, [auditRows([{ actor, entry }])]);
}

/** Rows of the record as an insert, for one that writes more than them. */
export function auditRows(written: readonly { actor: Actor; entry: AuditEntry }[]): Insert {
  return {
    into: 'audit_logs',
    columns: COLUMNS,
    rows: written.map(({ actor, entry }) => [
      actor.key,
      actor.name,
      entry.action,
      entry.resourceType,
      entry.resourceId,
      entry.repository ?? null,
      JSON.stringify(entry.details),
      actor.address,
      actor.userAgent,
      actor.requestId,
    ]),
  };
}

const COLUMNS = [
  ['actor', 'text'],
  ['actor_name', 'text'],
  ['action', 'text'],
  ['resource_type', 'text'],
  ['resource_id', 'text'],
  ['repository', 'text'],
  ['details', 'jsonb'],
  ['ip_address', 'text'],
  ['user_agent', 'text'],
  ['request_id', 'text'],
] as const;

/** One row for each change of the registry. */
export const auditChanges: ChangeRecorder = (change, actor) => auditRows([{ actor, entry: entryOf(change) }]);

function entryOf(change: Change): AuditEntry {
  switch (change.kind) {
    case 'blob-quarantined': {
      const { digest, size, repositories, fault } = change;
      return entry('blob', 'quarantine', digest, undefined, { digest, size, fault, repositories });
    }
    case 'blob-healed': {
      const { digest, size, source } = change;
      return entry('blob', 'heal', digest, undefined, { digest, size, source });
    }
    case 'blob-pushed':
      return entry('blob', 'push', change.digest, change.repository, { digest: change.digest, size: change.size });
    case 'blob-mounted':
      return entry('blob', 'mount', change.digest, change.repository, { digest: change.digest, from: change.from });
    case 'blob-removed':
      return entry('blob', 'delete', change.digest, change.repository, { digest: change.digest });
    case 'manifest-pushed': {
      const { repository, digest, manifest, size, moved } = change;
      const before = new Map(moved.map(({ tag, previous }) => [tag, previous]));
      return entry('manifest', 'push', digest, repository, {
        digest,
        media_type: manifest.mediaType,
        artifact_type: manifest.artifactType ?? null,
        size,
        tags: [...new Set(change.tags)].map((tag) => {
          const previous = before.get(tag);
          return { tag, before: previous === undefined ? digest : previous, after: digest };
        }),
      });
    }
    case 'manifest-removed': {
      const { repository, digest, mediaType, size, tags } = change;
      const gone = tags.map((tag) => ({ tag, before: digest, after: null }));
      return entry('manifest', 'delete', digest, repository, { digest, media_type: mediaType, size, tags: gone });
    }
    case 'tag-set':
      return entry('tag', 'set', change.tag, change.repository, {
        tag: change.tag,
        before: change.previous,
        after: change.digest,
      });
    case 'tag-removed':
      return entry('tag', 'delete', change.tag, change.repository, {
        tag: change.tag,
        before: change.digest,
        after: null,
        ...(change.cause && { cause: change.cause }),
      });
  }
}

function entry(
  resourceType: string,
  verb: string,
  resourceId: string,
  repository: string | undefined,
  details: Record<string, unknown>,
): AuditEntry {
  return { action: `${resourceType}.${verb}`, resourceType, resourceId, repository, details };
}
