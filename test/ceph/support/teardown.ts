import { stopSharedPostgres } from '../../support/postgres.js';
import { stopCeph } from './ceph.js';

export async function mochaGlobalTeardown(): Promise<void> {
  await Promise.all([stopCeph(), stopSharedPostgres()]);
}
