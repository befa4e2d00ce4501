import { RegistryError } from '../errors.js';
import { quote } from '../oci/quote.js';
import { fitsWildcard } from './wildcard.js';

/** What may be done with a repository. */
export const ACTIONS = ['pull', 'push', 'delete', 'deploy'] as const;
export type Action = (typeof ACTIONS)[number];

/** Actions in the repositories that a pattern matches. `admin` is every action, and the registry as a whole. */
export interface Grant {
  readonly repository: string;
  readonly actions: readonly (Action | 'admin')[];
}

const MAX_GRANTS = 1_000;
const MAX_PATTERN = 255;
const PATTERN = /^[a-z0-9._*-]+(\/[a-z0-9._*-]+)*$/;

/**
 * Reads a pattern of repository names: `*` stands for any characters within a part, a part `**` for any number of parts.
 * @throws 'ParameterInvalid'
 */
export function parsePattern(text: unknown): string {
  const parts = typeof text === 'string' && text.length <= MAX_PATTERN && PATTERN.test(text) ? text.split('/') : [];
  if (parts.length === 0 || parts.some((part) => part.includes('**') && part !== '**'))
    throw new RegistryError(
      'ParameterInvalid',
      `the repository pattern ${quote(String(text))} is not a name in which * may stand for characters of a part, and ** for parts`,
    );
  return parts.join('/');
}

/** Reads grants as they come from outside. @throws 'ParameterInvalid' that names the field. */
export function parseGrants(value: unknown): Grant[] {
  if (!Array.isArray(value) || value.length > MAX_GRANTS)
    throw new RegistryError('ParameterInvalid', `grants must be a list of at most ${MAX_GRANTS}`);
  return value.map((item: unknown, index) => {
    const { repository, actions } = (item ?? {}) as Record<string, unknown>;
    const pattern = parsePattern(repository);
    if (!Array.isArray(actions) || actions.length === 0)
      throw new RegistryError('ParameterInvalid', `grants[${index}].actions must be a list of actions`);
    const known = actions.map((action: unknown) => parseAction(action, `grants[${index}].actions`));
    if (known.includes('admin') && pattern !== '**')
      throw new RegistryError('ParameterInvalid', `grants[${index}]: admin goes only with the repository **`);
    return { repository: pattern, actions: [...new Set(known)] };
  });
}

function parseAction(value: unknown, field: string): Action | 'admin' {
  const action = [...ACTIONS, 'admin' as const].find((known) => known === value);
  if (action === undefined)
    throw new RegistryError(
      'ParameterInvalid',
      `${field}: ${quote(String(value))} is none of ${ACTIONS.join(', ')}, admin`,
    );
  return action;
}

/** Whether a name matches a pattern; in time bounded by the product of their lengths, whatever the pattern. */
export function matches(pattern: string, name: string): boolean {
  if (!pattern.includes('*')) return pattern === name;
  const wanted = pattern.split('/');
  const parts = name.split('/');
  // How many parts of the name the pattern so far can have used up.
  let used = new Set([0]);
  for (const [index, part] of wanted.entries()) {
    const next = new Set<number>();
    if (part === '**') {
      // At the end it stands for at least one part: `team/**` is what lies below `team`.
      const least = Math.min(...used) + (index === wanted.length - 1 ? 1 : 0);
      for (let count = least; count <= parts.length; count++) next.add(count);
    } else {
      for (const count of used) {
        const name = parts[count];
        if (name !== undefined && fitsWildcard(part, name)) next.add(count + 1);
      }
    }
    used = next;
  }
  return used.has(parts.length);
}
