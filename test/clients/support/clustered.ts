// With CLIENTS_CLUSTER=1 every registry of these suites is three nodes on a real Ceph behind nginx, each request at the next.
import { stopCeph } from '../../ceph/support/ceph.js';
import { Cluster, clusterMissing } from '../../cluster/support/cluster.js';
import { ADMIN_KEY } from '../../support/server.js';
import { certificateFiles, hostName, listenAddress, scheme } from './tls.js';
import type { RunningRegistry } from './weighhouse.js';

export const clustered = process.env.CLIENTS_CLUSTER === '1';

/** Why there can be no such registry here, if it is wanted. */
export function clusteredMissing(): string | undefined {
  return clustered ? clusterMissing() : undefined;
}

/** @param workers processes that serve, on each node */
export async function startClustered(
  workers: number,
  environment: Readonly<Record<string, string>>,
): Promise<RunningRegistry> {
  const cluster = await Cluster.start({
    workers,
    environment,
    address: listenAddress,
    certificate: certificateFiles,
  });
  const host = `${hostName}:${cluster.host.split(':')[1]}`;
  return { host, url: `${scheme}://${host}`, user: 'admin', key: ADMIN_KEY, stop: () => cluster.dispose() };
}

/** After the last registry of a run. */
export async function stopClustered(): Promise<void> {
  await stopCeph();
}
