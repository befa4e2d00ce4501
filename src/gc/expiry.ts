import type { Database } from '../database/connect.js';
import { endSessionsOf, expireSessions } from '../registry/upload-sessions.js';
import type { Job } from './jobs.js';

const BATCH = 100;

/** Ends upload sessions of which the last byte is too long ago; their bytes go by way of the removals. */
export function expiryJob(database: Database, everyMs: number): Job {
  return {
    name: 'expiry',
    everyMs,
    run: async () => (await database.transaction((transaction) => expireSessions(transaction, BATCH))) === BATCH,
  };
}

/**
 * Ends upload sessions of keys that are revoked or removed. Revoking ends those that there are; this finds what a request
 * that was let in a moment before has opened since.
 */
export function revokedJob(database: Database, everyMs: number): Job {
  return {
    name: 'revoked',
    everyMs,
    run: async () =>
      await database.transaction(async (transaction) => {
        const rows = await transaction.query<{ actor: string }>(
          // Workloads of other issuers have a colon in their names.
          `select distinct u.actor from uploads u left join api_keys k on k.key_prefix = u.actor
            where (not k.is_active or (k.id is null and u.actor ~ '^[a-z0-9]+$' and u.actor <> 'anonymous'))
              and u.committed_digest is null limit $1`,
          [BATCH],
        );
        if (rows.length === 0) return false;
        return (
          (await endSessionsOf(
            transaction,
            rows.map((row) => row.actor),
            BATCH,
          )) === BATCH
        );
      }),
  };
}
