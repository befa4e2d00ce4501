import { localActor } from '../actor.js';
import type { AccessChange, AccessObserver, Announced, KeyFacts } from '../auth/changes.js';
import { type AuditEntry, writeAudit } from '../metadata/audit.js';
import { endSessionsOf } from '../registry/upload-sessions.js';

const ALL_SESSIONS = 1_000_000;

/** Who types a command, with all that happens in the transaction of what it changes. */
export function locally(): Announced {
  return { actor: localActor(), observers: [auditAccess, endSessions] };
}

/** One row of the record for each change of who may do what. */
export const auditAccess: AccessObserver = async (change, actor, transaction) => {
  await writeAudit(transaction, actor, entryOf(change));
};

/** Ends the uploads of a key with the key. */
export const endSessions: AccessObserver = async (change, _actor, transaction) => {
  if (change.kind === 'key-revoked' || change.kind === 'key-removed')
    await endSessionsOf(transaction, [change.id], ALL_SESSIONS);
};

function entryOf(change: AccessChange): AuditEntry {
  switch (change.kind) {
    case 'key-created':
      return ofKey('create', change.id, { before: null, after: describe(change.after) });
    case 'key-changed': {
      const { id, before, after, secretReplaced } = change;
      return ofKey('update', id, { before: describe(before), after: describe(after), secret_replaced: secretReplaced });
    }
    case 'key-revoked':
      return ofKey('revoke', change.id, { before: describe(change.before), after: describe(change.after) });
    case 'key-removed':
      return ofKey('delete', change.id, { before: describe(change.before), after: null });
    case 'visibility-set': {
      const { pattern, before, after } = change;
      const action = after === null ? 'visibility.unset' : 'visibility.set';
      const details = { pattern, before: word(before), after: word(after) };
      return { action, resourceType: 'visibility', resourceId: pattern, details };
    }
    case 'session-begun': {
      const details = { key: change.key, expires_at: change.expiresAt.toISOString() };
      return { action: 'session.begin', resourceType: 'session', resourceId: change.id, details };
    }
    case 'session-ended': {
      const details = { key: change.key };
      return { action: 'session.end', resourceType: 'session', resourceId: change.id, details };
    }
    case 'tokens-revoked':
      return { action: 'token.revoke_all', resourceType: 'token', resourceId: '*', details: {} };
  }
}

function ofKey(verb: string, id: string, details: Record<string, unknown>): AuditEntry {
  return { action: `key.${verb}`, resourceType: 'key', resourceId: id, details };
}

/** Field by field: what a key gets beyond these, later, is not written down by accident. */
function describe({ name, grants, readOnly, active, expiresAt }: KeyFacts): Record<string, unknown> {
  return { name, grants, read_only: readOnly, is_active: active, expires_at: expiresAt?.toISOString() ?? null };
}

function word(isPublic: boolean | null): 'public' | 'private' | null {
  return isPublic === null ? null : isPublic ? 'public' : 'private';
}
