import type { RepositoryName } from '../oci/name.js';
import { type Action, type Grant, matches } from './grants.js';
import type { Visibility } from './visibility.js';

/** Who asks. */
export interface Identity {
  readonly kind: 'key' | 'workload' | 'anonymous';
  /** What is written down as the actor of changes. */
  readonly id: string;
  readonly name: string;
  readonly grants: readonly Grant[];
  /** Held to pull, and to reading where `admin` is asked. */
  readonly readOnly: boolean;
  /** Of a key: a fingerprint of the secret that it had when it was shown. */
  readonly secret?: string;
  /** Of a key that came by its session: which one, so that what began in it can be ended with it. */
  readonly session?: string;
}

/** What may be done by everybody, also without a key. */
export interface OpenPolicy {
  readonly anonymous: 'none' | 'pull' | 'push';
  readonly visibility: Visibility;
}

/** The token with which somebody came, narrower than who it was given to. */
export interface TokenBounds {
  /** The repositories in which it counts; of a workload's own token all. */
  readonly repositories: ReadonlySet<string> | 'all';
  readonly catalog: boolean;
  /** In seconds since 1970. */
  readonly expiresAt: number;
  readonly expired: boolean;
}

export const ANONYMOUS: Identity = {
  kind: 'anonymous',
  id: 'anonymous',
  name: 'anonymous',
  grants: [],
  readOnly: false,
};

/** `challenge`: 401, other credentials could help; `denied`: 403. */
export type Decision = 'allowed' | 'challenge' | 'denied';

/** What one request may do. The only place where that is decided (spec/access.md). */
export class Access {
  constructor(
    readonly identity: Identity,
    readonly open: OpenPolicy,
    readonly token?: TokenBounds | undefined,
  ) {}

  /** Whether an action is allowed in a repository, by its name alone. */
  decide(action: Action, repository: RepositoryName): Decision {
    // Nobody in particular may go on; who is somebody must show it anew, or would be written down as the actor.
    if (this.token?.expired && this.identity.kind !== 'anonymous') return 'challenge';
    if (this.#openTo(action, repository)) return 'allowed';
    if (!this.#granted(action, repository)) return this.identity.kind === 'anonymous' ? 'challenge' : 'denied';
    return this.#counts(repository) ? 'allowed' : 'challenge';
  }

  may(action: Action, repository: RepositoryName): boolean {
    return this.decide(action, repository) === 'allowed';
  }

  /** Whether it may be asked for at all: /v2/ as a log-in, and what no route knows. */
  decideBase(): Decision {
    const came = this.identity.kind !== 'anonymous' || this.token !== undefined;
    return came && !this.token?.expired ? 'allowed' : 'challenge';
  }

  /** Whether lists over repositories may be asked for; each name in them is asked of `maySee`. */
  decideCatalog(): Decision {
    if (this.token) return this.token.catalog && !this.token.expired ? 'allowed' : 'challenge';
    if (this.identity.kind !== 'anonymous') return 'allowed';
    return this.open.anonymous === 'none' ? 'challenge' : 'allowed';
  }

  /** Whether the registry as a whole may be changed, or only read (`'read'`). */
  decideAdmin(what: 'read' | 'change'): Decision {
    const { kind, readOnly } = this.identity;
    // A token of the token endpoint is for repositories.
    if (kind === 'anonymous' || this.token?.expired || (this.token && this.token.repositories !== 'all'))
      return 'challenge';
    return this.#isAdmin && (what === 'read' || !readOnly) ? 'allowed' : 'denied';
  }

  /** May read what concerns the registry as a whole. */
  get isAdmin(): boolean {
    return this.decideAdmin('read') === 'allowed';
  }

  /**
   * Whether an admin asks, who may do what policies keep others from. A token that is for repositories does not bound this, as
   * `decide` has by then: clients show nothing else.
   */
  get isOfAdmin(): boolean {
    return this.#isAdmin && !this.identity.readOnly && !this.token?.expired;
  }

  /** Whether a name may appear in a list that this request gets. */
  maySee(repository: RepositoryName): boolean {
    return this.#openTo('pull', repository) || this.#granted('pull', repository);
  }

  /** Whether every repository may be read, whatever its name. */
  get seesAll(): boolean {
    const { token } = this;
    if (token && (token.expired || token.repositories !== 'all')) return false;
    return this.identity.grants.some(
      ({ repository, actions }) => repository === '**' && (actions.includes('pull') || actions.includes('admin')),
    );
  }

  /**
   * Whether a blob whose digest is known may be linked from there. A token does not bound this: clients without the scope
   * of the source, or with no source to name, would have to send the bytes again.
   */
  mayMountFrom(repository: RepositoryName): boolean {
    return this.maySee(repository);
  }

  /**
   * Whether an upload that this identity began may be finished although `push` is no longer allowed: the token has
   * expired since, or the grant was taken away.
   * @param begun when the session began, in seconds since 1970
   */
  mayFinish(repository: RepositoryName, actor: string, begun: number): boolean {
    if (this.identity.kind === 'anonymous' || actor !== this.identity.id) return false;
    return this.#counts(repository) && (this.token === undefined || this.token.expiresAt >= begun);
  }

  get #isAdmin(): boolean {
    return this.identity.grants.some((grant) => grant.actions.includes('admin'));
  }

  #counts(repository: string): boolean {
    const repositories = this.token?.repositories ?? 'all';
    return repositories === 'all' || repositories.has(repository);
  }

  #openTo(action: Action, repository: string): boolean {
    if (action !== 'pull' && (action !== 'push' || this.identity.readOnly)) return false;
    const said = this.open.visibility.of(repository);
    if (said === 'private') return false;
    const { anonymous } = this.open;
    return action === 'pull' ? said === 'public' || anonymous !== 'none' : anonymous === 'push';
  }

  #granted(action: Action, repository: string): boolean {
    const { grants, readOnly } = this.identity;
    if (readOnly && action !== 'pull') return false;
    return grants.some(
      (grant) =>
        (grant.actions.includes(action) || grant.actions.includes('admin')) && matches(grant.repository, repository),
    );
  }
}
