// How the cost of small requests grows with what a registry holds: 1,000, 10,000 and 100,000 manifests, each a tag and
// a release, with ten blobs to each, so a million in the end. One client asks for one thing after the other. Nothing is
// asserted.
//
//   npm run bench:growth -- [--steps 1000,10000,100000] [--times 300]
//
// A line for each operation: the median and the 99th percentile in milliseconds at each step. The rows are written by
// SQL into the registry's own PostgreSQL, in a folder that is removed in the end.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from '../../bin/build.js';
import { Connection } from './support/connection.mjs';
import { digestOf, expectStatus, MANIFEST, pushArtifact, quantile } from './support/load.mjs';
import { memoryOf } from './support/processes.mjs';
import { makeFolder, ours } from './support/registries.mjs';
import { BLOBS_PER_MANIFEST, grow, LARGEST, manifestOf, REPOSITORIES, repositoryOf, tagOf } from './support/rows.mjs';
import { printTable } from './support/table.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PUSHES = 100;
const WARM_UPS = 20;

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '1000,10000,100000' },
    times: { type: 'string', default: '300' },
  },
});
const steps = values.steps.split(',').map(Number);
const times = Number(values.times);

await build('src');
const { connect } = await import('../../dist/src/database/connect.js');
const { findRunning } = await import('../../dist/src/database/embedded.js');
const { versionOrder } = await import('../../dist/src/weights/version.js');

/** What is asked, given how many manifests there are: of any of them. */
function operationsOf(connection, headers, count) {
  const some = () => Math.floor(Math.random() * count);
  const ask = (method, path) =>
    expectStatus(connection, 200, { method, path, headers: { ...headers, accept: MANIFEST } });
  const json = (path) => expectStatus(connection, 200, { method: 'GET', path, headers });
  const get = (path) => async () => {
    const { body } = await json(path());
    if (Object.values(JSON.parse(body)).every((value) => value?.length === 0)) throw new Error(`${path()}: nothing`);
  };
  return {
    'manifest GET by tag': () => {
      const n = some();
      return ask('GET', `/v2/${repositoryOf(n)}/manifests/${tagOf(n)}`);
    },
    'manifest HEAD by digest': () => {
      const n = some();
      return ask('HEAD', `/v2/${repositoryOf(n)}/manifests/${digestOf(manifestOf(n))}`);
    },
    'blob HEAD': () => {
      const n = some();
      const blob = n * BLOBS_PER_MANIFEST + (n % BLOBS_PER_MANIFEST);
      return ask('HEAD', `/v2/${repositoryOf(n)}/blobs/${digestOf(`blob ${blob}`)}`);
    },
    'small push, new repository': () => pushArtifact(connection, { repository: `pushed/to-${count}`, headers }),
    'small push, largest repository': () => pushArtifact(connection, { repository: LARGEST, headers }),
    'page of 100 tags': get(() => `/v2/${LARGEST}/tags/list?n=100&last=${tagOf(some())}`),
    'page of 100 repositories': get(() => `/v2/_catalog?n=100&last=grown/model-${Math.floor(Math.random() * 300)}`),
    'page of 50 models': get(() => '/api/v1/models?limit=50'),
    'models, a search': get(() => `/api/v1/models?limit=50&q=model-${some() % REPOSITORIES}`),
    'a page of releases': get(() => `/api/v1/models/${encodeURIComponent(LARGEST)}/releases?limit=50`),
  };
}

async function timed(work, count) {
  for (let warm = 0; warm < WARM_UPS; warm++) await work();
  const spent = [];
  for (let run = 0; run < count; run++) {
    const begun = performance.now();
    await work();
    spent.push(performance.now() - begun);
  }
  return { median: quantile(spent, 0.5), p99: quantile(spent, 0.99) };
}

const folder = await makeFolder();
const data = join(folder.path, 'data');
const registry = ours('weighhouse', ROOT, { REGISTRY_DATA_DIR: data }, true);
/** By operation, by step. */
const found = {};
const memory = [];
try {
  await registry.start();
  const database = connect({ url: await findRunning(data), pool: 1, timeout: 900 });
  let have = 0;
  for (const step of steps) {
    const begun = performance.now();
    await grow(database, have, step, versionOrder);
    have = step;
    console.error(`${step} manifests are there after ${Math.round((performance.now() - begun) / 1000)} s`);
    const connection = new Connection(registry.port);
    const headers = registry.basic;
    for (const [name, work] of Object.entries(operationsOf(connection, headers, step))) {
      found[name] ??= {};
      found[name][step] = await timed(work, /push/.test(name) ? PUSHES : times);
    }
    connection.close();
    memory.push(memoryOf(registry.pid).all);
  }
  await database.close();
  const cell = ({ median, p99 }) => `${median.toFixed(2)} (${p99.toFixed(1)})`;
  const last = steps.at(-1);
  printTable(
    {
      'ms: median (p99)': ([name]) => name,
      ...Object.fromEntries(steps.map((step) => [`${step} manifests`, ([, by]) => cell(by[step])])),
      'last : first': ([, by]) => (by[last].median / by[steps[0]].median).toFixed(2),
    },
    Object.entries(found),
  );
  console.log(`memory, MiB: ${memory.map((mib) => mib.toFixed(0)).join(', ')}`);
} finally {
  await registry.stop();
  await folder.remove();
}
