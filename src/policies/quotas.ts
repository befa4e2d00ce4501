import type { Lease } from '../auth/lease.js';
import { RegistryError } from '../errors.js';
import type { Policies, Quota } from './rules.js';

/** What is about to come into a repository: bytes, as far as somebody says how many, or a manifest of what is there. */
export type Arriving = { readonly what: 'bytes'; readonly bytes: number | undefined } | { readonly what: 'manifest' };

/**
 * Refuses what does not fit into a repository's quotas, by sums as they were counted last; asks the database at most once in
 * a lease. A manifest that belongs to bytes which just fill a quota is let through.
 * @throws 'Denied', naming the quota
 */
export function quotaGuard(policies: Lease<Policies>) {
  return async (repository: string, arriving: Arriving): Promise<void> => {
    const quotas = (await policies.get()).quotasOf(repository);
    const full = quotas.find((quota) => isFull(quota, arriving));
    if (full) throw over(full, arriving);
  };
}

/** Whether something does not fit. */
export function isFull({ limitBytes, usedBytes }: Quota, arriving: Arriving): boolean {
  if (arriving.what === 'manifest') return usedBytes > limitBytes;
  return usedBytes >= limitBytes || usedBytes + (arriving.bytes ?? 0) > limitBytes;
}

function over({ pattern, limitBytes, usedBytes }: Quota, arriving: Arriving): RegistryError {
  const more = arriving.what === 'bytes' && arriving.bytes !== undefined ? `; ${arriving.bytes} more don't fit` : '';
  return new RegistryError(
    'Denied',
    `the quota of the repositories ${pattern} is ${limitBytes} bytes, of which ${usedBytes} are used${more}`,
    { detail: { quota: pattern, limit_bytes: limitBytes, used_bytes: usedBytes } },
  );
}
