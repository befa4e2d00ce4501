// What it costs that a session wanders: one blob in chunks, to one node and to several in turn, over a real Ceph.
//
//   npm run bench:wandering -- --mebibytes 1024 --chunk 16 --nodes 3
import { parseArgs } from 'node:util';
import { stopCeph } from '../ceph/support/ceph.js';
import { Cluster } from '../cluster/support/cluster.js';
import { beginAt, chunksInTurn } from '../cluster/support/turns.js';
import { Content } from '../faults/support/bytes.js';
import { pull, send } from '../faults/support/exchange.js';
import { memoryOf } from '../faults/support/processes.js';

const MiB = 1024 * 1024;

const { values } = parseArgs({
  options: {
    mebibytes: { type: 'string', default: '1024' },
    chunk: { type: 'string', default: '16' },
    nodes: { type: 'string', default: '3' },
  },
});
const size = Number(values.mebibytes) * MiB;
const chunk = Number(values.chunk) * MiB;

async function wander(cluster: Cluster, count: number): Promise<string> {
  const nodes = cluster.nodes.slice(0, count);
  const hosts = nodes.map(({ server }) => server.host);
  const content = new Content(`over ${count}`, size);
  // The client's own hash is not what is measured.
  const { digest } = content;
  const before = nodes.map(({ gateway }) => gateway?.bytes.read ?? 0);
  const begun = performance.now();
  const path = await beginAt(hosts[0] ?? '', 'bench/wandering');
  await chunksInTurn(hosts, path, content, chunk);
  const sent = performance.now();
  const answer = await send(hosts.at(-1) ?? '', 'PUT', `${path}?digest=${digest}`);
  const ended = performance.now();
  if (answer?.status !== 201) throw new Error(`the commit was answered ${answer?.status}`);
  const read = nodes.map(({ gateway }, index) => Math.round(((gateway?.bytes.read ?? 0) - (before[index] ?? 0)) / MiB));
  const pids = (await Promise.all(nodes.map(({ server }) => server.workers()))).flat();
  const peaks = await Promise.all(pids.map(async (pid) => (await memoryOf(pid)).peak));
  const pulled = await pull(hosts[0] ?? '', `/v2/bench/wandering/blobs/${digest}`);
  if (pulled?.digest !== digest) throw new Error('another digest came back');
  const seconds = ((sent - begun) / 1000).toFixed(1);
  return `| ${count} | ${seconds} s | ${Math.round(ended - sent)} ms | ${read.join(' + ')} MiB | ${Math.max(...peaks)} MiB |`;
}

const cluster = await Cluster.start({ nodes: Number(values.nodes), workers: 1, watched: true });
try {
  console.log(`${values.mebibytes} MiB in chunks of ${values.chunk} MiB`);
  console.log('| nodes | all chunks | 201 | read back, by node | peak memory of a worker |\n|---|---|---|---|---|');
  for (const count of [1, Number(values.nodes)]) console.log(await wander(cluster, count));
} finally {
  await cluster.dispose();
  await stopCeph();
}
