// Push and pull of a large blob through Ceph's S3 gateway: this registry, distribution, and the gateway by itself, on one
// Ceph of one OSD, all on loopback, in turn. Nothing is asserted.
//
//   npm run bench:rgw -- [--rounds 3] [--mib 1024] [--only weighhouse,redirecting,distribution,gateway] [checkout …]
//
// A push is one PUT from one client; each registry runs only while it is measured. Needs ../shared/ceph/ceph-dev beside the
// checkout (or CEPH_DEV), and go where distribution was never built. Further checkouts, which must be built, are measured
// beside this one. Compare ratios within one run only: load, client, registries and Ceph share the cores.
import { availableParallelism, totalmem } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { build } from '../../bin/build.js';
import { startClient } from './support/client.mjs';
import { watched } from './support/processes.mjs';
import { bucketStorage, distribution } from './support/peers.mjs';
import { makeFolder, ours } from './support/registries.mjs';
import { median, printTable } from './support/table.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MiB = 1024 * 1024;
const REPOSITORY = 'bench/model';
const BUCKET = { bucket: 'dev', accessKeyId: 'cephdev', secretAccessKey: 'cephdevsecret' };
const WARM_UPS = 6;
const WARM_UP_BYTES = 32 * MiB;
const DAEMONS = ['client.rgw', 'osd.0', 'mon.dev', 'mgr.dev'];

const { values, positionals } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    mib: { type: 'string', default: '1024' },
    only: { type: 'string', default: 'weighhouse,redirecting,distribution,gateway' },
  },
  allowPositionals: true,
});
const mib = Number(values.mib);
const wanted = values.only.split(',');

await build('all');
// Otherwise the SDK tells on stderr which Node its later versions need.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
const { Ceph } = await import('../../dist/test/ceph/support/ceph.js');

const ceph = await Ceph.start('48G');
const folder = await makeFolder();
const client = startClient();
/** One of each turn: { round, name, push?, pull }. */
const measured = [];

/** Has the client do something and sees what it costs the registry of which `pid` is the first process. */
async function one(deed, argument, pid) {
  const cluster = await Promise.all(DAEMONS.map((daemon) => ceph.pid(daemon)));
  const groups = { ceph: cluster, ...(pid && { server: [pid] }) };
  const { result, used } = await watched(groups, () => client.tell(deed, argument), ['server']);
  return {
    speed: mib / result.seconds,
    afterLastByte: result.afterLastByte,
    cpu: used.server && (used.server.cpu * 1024) / mib,
    cephCpu: (used.ceph.cpu * 1024) / mib,
    peak: used.server?.peak,
  };
}

/** Has the client make a new blob, which is the one that it goes on with. */
const make = (length = mib * MiB) => client.tell('make', { length });

/** Registries run for weeks, compilers and caches for seconds: first some small blobs, so that each worker gets one. */
async function warmUp(at) {
  for (let count = 0; count < WARM_UPS; count++) {
    await make(WARM_UP_BYTES);
    await client.tell('push', at);
    await client.tell('pull', at);
  }
  await make();
}

/** A push, if asked for, and a pull of it; and another one that is checked. */
async function measure(round, registry, push) {
  try {
    await registry.start();
    const at = { port: registry.port, repository: REPOSITORY };
    if (push) await warmUp(at);
    const pushed = push && (await one('push', at, registry.pid));
    const pulled = await one('pull', at, registry.pid);
    await client.tell('pull', { ...at, check: true });
    note({ round, name: registry.name, push: pushed, pull: pulled });
  } finally {
    await registry.stop();
  }
}

/** The gateway by itself: one PUT, which is less than several parts at once can do, and one GET. */
async function measureGateway(round) {
  const s3 = new S3Client({ endpoint: ceph.endpoint, region: 'us-east-1', credentials: BUCKET, forcePathStyle: true });
  const at = { Bucket: BUCKET.bucket, Key: `raw/${round}` };
  await make();
  const push = await one('put', { url: await getSignedUrl(s3, new PutObjectCommand(at)) });
  const pull = await one('pull', { url: await getSignedUrl(s3, new GetObjectCommand(at)) });
  note({ round, name: 'gateway', push, pull });
}

function note(row) {
  measured.push(row);
  const push = row.push ? `push ${row.push.speed.toFixed(0)} MiB/s, ` : '';
  console.error(`round ${row.round}: ${row.name}: ${push}pull ${row.pull.speed.toFixed(0)} MiB/s`);
}

/** What has its turn in each round, by name. */
async function turns() {
  const all = [];
  for (const path of [ROOT, ...positionals.map((path) => resolve(path))]) {
    const name = path === ROOT ? 'weighhouse' : basename(path);
    const settings = {
      REGISTRY_STORAGE: 's3',
      REGISTRY_S3_ENDPOINT: ceph.endpoint,
      REGISTRY_S3_BUCKET: BUCKET.bucket,
      REGISTRY_S3_ACCESS_KEY_ID: BUCKET.accessKeyId,
      REGISTRY_S3_SECRET_ACCESS_KEY: BUCKET.secretAccessKey,
      REGISTRY_S3_PREFIX: `${name}/`,
      REGISTRY_DATA_DIR: join(folder.path, name),
    };
    const plain = ours(name, path, settings);
    const redirecting = ours(`${name}, redirecting`, path, { ...settings, REGISTRY_REDIRECT: 'always' });
    if (!wanted.includes('weighhouse')) continue;
    all.push(async (round) => {
      await measure(round, plain, true);
      // The same registry again, which has the blob.
      if (wanted.includes('redirecting')) await measure(round, redirecting, false);
    });
  }
  if (wanted.includes('distribution')) {
    const peer = distribution(folder.path, bucketStorage({ ...BUCKET, endpoint: ceph.endpoint }));
    all.push((round) => measure(round, peer, true));
  }
  if (wanted.includes('gateway')) all.push(measureGateway);
  return all;
}

const whole = (number) => number?.toFixed(0);
const fraction = (number) => number?.toFixed(2);
const milliseconds = (seconds) => seconds && (seconds * 1000).toFixed(0);
const FIGURES = {
  'push MiB/s': [(row) => row.push?.speed, whole],
  'to 201 ms': [(row) => row.push?.afterLastByte, milliseconds],
  'pull MiB/s': [(row) => row.pull.speed, whole],
  'CPU push s/GiB': [(row) => row.push?.cpu, fraction],
  '… of Ceph ': [(row) => row.push?.cephCpu, fraction],
  'CPU pull s/GiB': [(row) => row.pull.cpu, fraction],
  '… of Ceph': [(row) => row.pull.cephCpu, fraction],
  'peak PSS MiB': [(row) => row.pull.peak && Math.max(row.push?.peak ?? 0, row.pull.peak), whole],
};

/** Of each round by itself: what disturbed the machine then disturbed both. */
function ratio(name, of, figure) {
  const value = (row) => row && figure(row);
  return median(
    measured
      .filter((row) => row.name === name)
      .map((row) => value(row) / value(measured.find((other) => other.round === row.round && other.name === of))),
  );
}

function report() {
  const names = [...new Set(measured.map(({ name }) => name))];
  console.log(`${availableParallelism()} cores, ${whole(totalmem() / MiB / 1024)} GiB; ${mib} MiB a blob\n`);
  const figures = Object.entries(FIGURES);
  const all = figures.map(([title, [figure, format]]) => [title, (row) => format(figure(row))]);
  printTable({ round: (row) => row.round, registry: (row) => row.name, ...Object.fromEntries(all) }, measured);
  const medians = figures.map(([title, [figure, format]]) => [
    title,
    (name) => format(median(measured.filter((row) => row.name === name).map(figure))),
  ]);
  printTable({ 'median of': (name) => name, ...Object.fromEntries(medians) }, names);
  const peers = names.filter((name) => name.startsWith('distribution') || name === 'gateway');
  const pairs = names.flatMap((name) => peers.filter((peer) => peer !== name).map((peer) => ({ name, peer })));
  printTable(
    {
      ratio: ({ name, peer }) => `${name} : ${peer}`,
      push: ({ name, peer }) => fraction(ratio(name, peer, (row) => row.push?.speed)),
      pull: ({ name, peer }) => fraction(ratio(name, peer, (row) => row.pull.speed)),
    },
    pairs,
  );
}

try {
  const all = await turns();
  for (let round = 1; round <= Number(values.rounds); round++) {
    // Who begins changes from round to round; the gateway's names stay its own.
    for (const turn of round % 2 === 1 ? all : all.toReversed()) await turn(round);
  }
  report();
} finally {
  client.stop();
  await ceph.wipe();
  await folder.remove();
}
