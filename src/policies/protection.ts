import type { Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import { readPolicies } from './policies.js';
import type { Policies } from './rules.js';

/** What a transaction has read: one that removes many tags asks once. */
const seen = new WeakMap<Queries, Policies>();

/**
 * Refuses that tags are moved or removed which a policy protects. Asked in the transaction that does it, which holds the tags'
 * rows, by its own connection: what was decided by then holds.
 * @throws 'Denied', naming the tag and the patterns
 */
export async function refuseProtected(
  transaction: Queries,
  repository: string,
  tags: readonly string[],
): Promise<void> {
  const policies = seen.get(transaction) ?? (await readPolicies(transaction));
  seen.set(transaction, policies);
  for (const tag of tags) {
    const protection = policies.protectionOf(repository, tag);
    if (!protection) continue;
    const { pattern, tagPattern } = protection;
    throw new RegistryError(
      'Denied',
      `the tag ${tag} is protected (${tagPattern} in the repositories ${pattern}): only an admin may move or remove it`,
      { detail: { tag, protected_by: tagPattern, policy: pattern } },
    );
  }
}
