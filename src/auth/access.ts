import type { RepositoryName } from '../oci/name.js';
import type { AuthenticatedKey } from './keys.js';

/** What a request wants to do with a repository. */
export type Action = 'pull' | 'push' | 'delete';

/** What the holder of a key may do. One admin key for now: everything. */
export interface Access {
  readonly key: AuthenticatedKey;
  may(action: Action, repository: RepositoryName): boolean;
  /** Which of the repositories it may see in lists. */
  maySee(repository: RepositoryName): boolean;
}

/** The access that a key gives. */
export function accessOf(key: AuthenticatedKey): Access {
  return { key, may: () => true, maySee: () => true };
}
