import type { Database } from '../database/connect.js';
import { expireSessions } from '../registry/upload-sessions.js';
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
