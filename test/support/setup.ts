import { stopSharedPostgres } from './postgres.js';

/** What the whole run shares is taken down after the last test; a test that leaves a process behind keeps the run alive. */
export async function mochaGlobalTeardown(): Promise<void> {
  await stopSharedPostgres();
}
