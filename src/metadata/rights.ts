import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import type { RepositoryName } from '../oci/name.js';
import type { Change } from '../registry/changes.js';

/** What may be asked for in a repository. */
export type Right = 'pull' | 'push' | 'delete' | 'deploy';

/** What one caller may do, decided by the door (ARCHITECTURE, "Errors": who may not read a thing is told that it is not there). */
export interface Rights {
  /** Whether every repository may be read, so that lists need no filter. */
  readonly seesAll: boolean;
  /** Whether something in this repository may be read. */
  maySee(repository: string): boolean;
  /** @throws 'Unauthorized' or 'Denied' */
  require(right: Right, repository: RepositoryName): void;
  /** @throws 'Unauthorized' or 'Denied' */
  requireAdmin(): void;
}

/** Who changes something, what it may do, and what it believes to be there. */
export interface Caller {
  readonly actor: Actor;
  readonly rights: Rights;
  /** Told the resource as it is, locked, before it changes. @throws 'PreconditionFailed' if the caller saw another. */
  expect(current: object): void;
  /** Notes what became of tags and manifests for the records beside the bytes, as the registry's own door does. */
  record(transaction: Queries, change: Change): Promise<void>;
}
