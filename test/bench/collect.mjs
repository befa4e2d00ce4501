// What the collector costs. First rows alone: how long `weighhouse collect --dry-run` takes over manifests and blobs of
// 400 GB, of which all are named, and then none. Then bytes: so many GB are pushed and deleted, and it is told when their
// room is back, and how fast a pull is before, beside and after it. Nothing is asserted.
//
//   npm run bench:collect -- [--manifests 100000] [--gigabytes 20] [--only rows|bytes]
import { execFile } from 'node:child_process';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { build } from '../../bin/build.js';
import { startClient } from './support/client.mjs';
import { Connection } from './support/connection.mjs';
import { expectStatus, pushBlob, pushManifest, quantile } from './support/load.mjs';
import { makeFolder, ours } from './support/registries.mjs';
import { BLOBS_PER_MANIFEST, grow } from './support/rows.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const GB = 1e9;
const GiB = 1024 ** 3;
const BYTES_OF_ROWS = 400 * GB;
/** Of each blob that is deleted, and of the one that is pulled. */
const BLOB_BYTES = 2 * GiB;
const PULLS = 8;
const REPOSITORY = 'bench/collected';
/** Nothing waits for anybody. */
const HASTE = {
  REGISTRY_UPLOAD_LIFETIME: '60',
  REGISTRY_COLLECT_GRACE: '60',
  REGISTRY_COLLECT_INTERVAL: '1',
  REGISTRY_COLLECT_BYTES_RATE: '0',
  REGISTRY_READ_GRACE: '0',
  REGISTRY_REMOVAL_DELAY: '0',
  REGISTRY_JOB_INTERVAL: '1',
};

const { values } = parseArgs({
  options: {
    manifests: { type: 'string', default: '100000' },
    gigabytes: { type: 'string', default: '20' },
    only: { type: 'string', default: '' },
  },
});

await build('src');
const { connect } = await import('../../dist/src/database/connect.js');
const { findRunning } = await import('../../dist/src/database/embedded.js');
const { versionOrder } = await import('../../dist/src/weights/version.js');

async function withRegistry(settings, work) {
  const folder = await makeFolder();
  const data = join(folder.path, 'data');
  const registry = ours('weighhouse', ROOT, { REGISTRY_DATA_DIR: data, ...settings }, true);
  try {
    await registry.start();
    const database = connect({ url: await findRunning(data), pool: 1, timeout: 900 });
    await work({ registry, database, data });
    await database.close();
  } finally {
    await registry.stop();
    await folder.remove();
  }
}

/** @returns the last line that it prints, and the seconds that it took. */
async function preview(data) {
  const begun = performance.now();
  const { PATH, HOME } = process.env;
  const { stdout } = await promisify(execFile)(process.execPath, ['bin/weighhouse.js', 'collect', '--dry-run'], {
    cwd: ROOT,
    env: { PATH, HOME, REGISTRY_DATA_DIR: data },
    maxBuffer: 2 ** 26,
  });
  return { last: stdout.trim().split('\n').at(-1), seconds: (performance.now() - begun) / 1000 };
}

async function rows({ database, data }) {
  const count = Number(values.manifests);
  await grow(database, 0, count, versionOrder);
  const run = (text) => database.query(text, [], { prepare: false });
  await run(`update blobs set size = ${Math.round(BYTES_OF_ROWS / (count * BLOBS_PER_MANIFEST))}`);
  await run('vacuum analyze');
  const tell = async (what) => {
    const { last, seconds } = await preview(data);
    console.log(`${count} manifests, ${count * BLOBS_PER_MANIFEST} blobs, ${what}: ${seconds.toFixed(1)} s (${last})`);
  };
  await tell('all of them named');
  await run('delete from releases');
  await run('delete from tags');
  await run('vacuum analyze');
  await tell('none of them named');
}

async function bytes({ registry, database, data }) {
  const at = { port: registry.port, repository: REPOSITORY, headers: registry.basic };
  const connection = new Connection(registry.port);
  const pusher = startClient();
  const puller = startClient();
  try {
    const config = await pushBlob(connection, at, Buffer.from('{}'));
    const push = async (client, tag) => {
      const { digests } = await client.tell('make', { length: BLOB_BYTES });
      await client.tell('push', at);
      const layer = { mediaType: 'application/octet-stream', digest: digests[0], size: BLOB_BYTES };
      return await pushManifest(connection, at, { config, layers: [layer] }, tag);
    };
    await push(puller, 'kept');
    const doomed = [];
    for (let left = Number(values.gigabytes) * GB; left > 0; left -= BLOB_BYTES)
      doomed.push(await push(pusher, `v${doomed.length}`));
    const pulls = async (until) => {
      const speeds = [];
      while (until ? !until.aborted : speeds.length < PULLS)
        speeds.push(BLOB_BYTES / GB / (await puller.tell('pull', at)).seconds);
      return quantile(speeds, 0.5);
    };
    const room = async () => {
      const { bavail, bsize } = await statfs(data);
      return bavail * bsize;
    };
    await pulls();
    const before = await pulls();
    const full = await room();
    for (const { digest } of doomed)
      await expectStatus(connection, 202, {
        method: 'DELETE',
        path: `/v2/${REPOSITORY}/manifests/${digest}`,
        headers: at.headers,
      });
    // As if they had been pushed and condemned long ago: what is measured is how they go.
    const age = () =>
      database.query(
        `with links as (update repository_blobs set linked_at = linked_at - interval '1 hour', condemned_at = condemned_at - interval '1 hour')
         update reviews set not_before = now(), queued_at = queued_at - interval '1 hour'`,
        [],
        { prepare: false },
      );
    const over = new AbortController();
    const beside = pulls(over.signal);
    const begun = performance.now();
    const wanted = doomed.length * BLOB_BYTES * 0.999;
    while ((await room()) - full < wanted) {
      await age();
      await sleep(250);
    }
    const seconds = (performance.now() - begun) / 1000;
    over.abort();
    const during = await beside;
    const after = await pulls();
    console.log(
      `${((doomed.length * BLOB_BYTES) / GB).toFixed(1)} GB in ${doomed.length} blobs deleted: their room was back after ${seconds.toFixed(1)} s`,
    );
    console.log(
      `a pull of 2 GiB, GB/s (medians): ${before.toFixed(2)} before, ${during.toFixed(2)} beside it, ${after.toFixed(2)} after; beside : before and after ${(during / ((before + after) / 2)).toFixed(2)}`,
    );
  } finally {
    connection.close();
    pusher.stop();
    puller.stop();
  }
}

if (values.only !== 'bytes') await withRegistry({}, rows);
if (values.only !== 'rows') await withRegistry(HASTE, bytes);
