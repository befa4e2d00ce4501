import { stopSharedPostgres } from '../../support/postgres.js';
import { stopCeph } from './ceph.js';

// Otherwise the SDK tells on stderr which Node its later versions need.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';

export async function mochaGlobalTeardown(): Promise<void> {
  await Promise.all([stopCeph(), stopSharedPostgres()]);
}
