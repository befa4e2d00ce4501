import { isRepositoryName } from '../../oci/name.js';

/** What a token is asked for. */
export interface Scopes {
  readonly repositories: readonly string[];
  readonly catalog: boolean;
}

/** Of all names together: the token has to fit into the head of a request. */
const MAX_CHARACTERS = 4_096;

/**
 * Reads scopes as clients write them: several, each `repository:<name>:<actions>` or `registry:catalog:*`, also several in
 * one by blanks. What is none is passed over, as the specification wants: the token is for less then. The actions don't
 * matter: a token carries all that its holder may do in the repository.
 */
export function parseScopes(scopes: readonly string[]): Scopes {
  const repositories = new Set<string>();
  let characters = 0;
  let catalog = false;
  for (const scope of scopes.flatMap((text) => text.split(' '))) {
    if (scope === 'registry:catalog:*') catalog = true;
    const name = /^repository(?:\([a-z]+\))?:(.+):[a-z,*]*$/.exec(scope)?.[1];
    if (name === undefined || repositories.has(name) || !isRepositoryName(name)) continue;
    characters += name.length;
    if (characters <= MAX_CHARACTERS) repositories.add(name);
  }
  return { repositories: [...repositories], catalog };
}
