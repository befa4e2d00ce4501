// Three nodes on one bucket of a real Ceph behind nginx, beside distribution on the same gateway.
import { build } from '../../../bin/build.js';
import { bucketStorage, distribution } from '../support/peers.mjs';
import { memoryOf } from '../support/processes.mjs';
import { makeFolder } from '../support/registries.mjs';

const MiB = 1024 * 1024;
const MOST_MIB = 1024;
const REPOSITORY = 'bench/model';
const WARM_UPS = 6;
const WARM_UP_BYTES = 16 * MiB;
const PLACE = "Ceph's gateway";

export default {
  name: 'cluster',
  title: 'Three nodes behind nginx',
  about:
    'Three nodes of one process each, with a PostgreSQL of their own, on the gateway of a Ceph of one OSD, behind ' +
    'nginx as `deploy/nginx` has it: one PUT and one GET. Redirecting: the client reads from the gateway ' +
    'itself. distribution alone, without nginx. All on loopback.',
  figures: {
    push: { unit: 'MiB/s' },
    'to 201': { unit: 'ms', less: true },
    pull: { unit: 'MiB/s' },
    'memory of the nodes': { unit: 'MiB', less: true },
  },

  async run({ client, rounds, size, measured }) {
    await build('all');
    const { cephMissing, sharedCeph, stopCeph } = await import('../../../dist/test/ceph/support/ceph.js');
    const { Cluster, clusterMissing } = await import('../../../dist/test/cluster/support/cluster.js');
    const missing = cephMissing() ?? clusterMissing();
    if (missing) return { lacking: [`three nodes behind nginx: ${missing}`] };
    const mib = Math.min(size, MOST_MIB);

    async function measure(at) {
      for (let count = 0; count < WARM_UPS; count++) {
        await client.tell('make', { length: WARM_UP_BYTES });
        await client.tell('push', at);
        await client.tell('pull', at);
      }
      await client.tell('make', { length: mib * MiB });
      const push = await client.tell('push', at);
      const pull = await client.tell('pull', at);
      await client.tell('pull', { ...at, check: true });
      return { push: mib / push.seconds, 'to 201': push.afterLastByte * 1000, pull: mib / pull.seconds };
    }

    async function nodes(redirect) {
      const environment = { REGISTRY_ANONYMOUS: 'push', REGISTRY_REDIRECT: redirect, REGISTRY_S3_TIMEOUT: '15' };
      const cluster = await Cluster.start({ nodes: 3, workers: 1, environment });
      try {
        const figures = await measure({ port: Number(cluster.host.split(':')[1]), repository: REPOSITORY });
        const memory = memoryOf(...cluster.nodes.map(({ server }) => server.process.pid)).all;
        return {
          name: redirect === 'always' ? 'weighhouse, redirecting' : 'weighhouse',
          figures: { ...figures, 'memory of the nodes': memory },
        };
      } finally {
        await cluster.dispose();
      }
    }

    async function peer() {
      const { endpoint } = await sharedCeph();
      const folder = await makeFolder();
      const bucket = { endpoint, bucket: 'dev', accessKeyId: 'cephdev', secretAccessKey: 'cephdevsecret' };
      const registry = distribution(folder.path, bucketStorage(bucket));
      try {
        await registry.start();
        const figures = await measure({ port: registry.port, repository: REPOSITORY });
        return { name: registry.name, figures: { ...figures, 'memory of the nodes': memoryOf(registry.pid).all } };
      } finally {
        await registry.stop();
        await folder.remove();
      }
    }

    const turns = [() => nodes('never'), () => nodes('always'), peer];
    try {
      for (let round = 1; round <= rounds; round++)
        for (const turn of round % 2 === 1 ? turns : turns.toReversed()) {
          const one = { place: PLACE, round, ...(await turn()) };
          console.error(one);
          measured.push(one);
        }
    } finally {
      await stopCeph();
    }
    return {};
  },
};
