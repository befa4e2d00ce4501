import { stopSharedPostgres } from './postgres.js';

// Folders that servers make are as open as on most machines: PostgreSQL's own account has to pass, where root runs the suite.
process.umask(0o022);

/** What the whole run shares is taken down after the last test; a test that leaves a process behind keeps the run alive. */
export async function mochaGlobalTeardown(): Promise<void> {
  await stopSharedPostgres();
}
