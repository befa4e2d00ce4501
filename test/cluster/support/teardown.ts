import { stopCeph } from '../../ceph/support/ceph.js';
import { disposeClusters } from './cluster.js';

/** Also of a run that was broken off. */
export async function mochaGlobalTeardown(): Promise<void> {
  await disposeClusters();
  await stopCeph();
}
