import { refuseProtected } from '../policies/protection.js';
import type { Change, ChangeObserver } from '../registry/changes.js';

/**
 * Keeps protected tags from everybody but admins, at every door, since all of them announce what became of tags. What the
 * registry does by itself is not asked: its jobs look at the policies before they choose a tag.
 */
export const guardTags: ChangeObserver = Object.assign(
  (async (change, actor, transaction) => {
    if (actor.admin !== false || !('repository' in change)) return;
    const tags = lostBy(change);
    if (tags.length > 0) await refuseProtected(transaction, change.repository, tags);
  }) satisfies ChangeObserver,
  { rowsOf: ({ kind }: Change) => (kind.startsWith('blob-') ? [] : undefined) },
);

/** The tags that mean something else after a change, or nothing. */
function lostBy(change: Change): readonly string[] {
  switch (change.kind) {
    case 'manifest-pushed':
      return change.moved.filter(({ previous }) => previous !== null).map(({ tag }) => tag);
    case 'manifest-removed':
      return change.tags;
    case 'tag-set':
      return change.previous === null ? [] : [change.tag];
    case 'tag-removed':
      return [change.tag];
    case 'blob-pushed':
    case 'blob-mounted':
    case 'blob-removed':
    case 'blob-quarantined':
    case 'blob-healed':
      return [];
  }
}
