// Small pushes and manifest reads per second, of one or several checkouts in turn, so that their ratios can be compared
// on a machine that is not quiet. Nothing is asserted.
//
//   npm run bench:small -- [--rounds 9] [--seconds 2] [checkout …]
//
// The first checkout is what the others are compared with; without any, this one is measured. Each is built where it
// lies and needs its node_modules. Every registry runs with its own PostgreSQL in a folder that is removed in the end.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { basename, join, resolve } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Connection } from './support/connection.mjs';
import { digestOf, expectStatus, pushManifest } from './support/load.mjs';
import { cpuMsOf } from './support/processes.mjs';
import { makeFolder, ours } from './support/registries.mjs';
import { median } from './support/table.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const REPOSITORY = 'bench/model';
const PUSHERS = 8;
const READERS = 32;
/** Tags and manifests that are read. */
const KNOWN = 200;

const options = { rounds: { type: 'string', default: '9' }, seconds: { type: 'string', default: '2' } };
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const rounds = Number(values.rounds);
const milliseconds = Number(values.seconds) * 1000;

/** A registry of one checkout, and the ways to ask it. */
class Measured {
  figures = { push: [], 'GET by tag': [], 'HEAD by digest': [] };
  /** Milliseconds of the registry and its PostgreSQL each; another's work on the machine changes them little. */
  cpu = { push: [], 'GET by tag': [], 'HEAD by digest': [] };
  known = [];

  constructor(folder) {
    this.checkout = resolve(folder);
  }

  async start() {
    const built = spawnSync(process.execPath, ['bin/build.js', 'src'], { cwd: this.checkout, stdio: 'inherit' });
    if (built.status !== 0) throw new Error(`${this.checkout} can not be built`);
    this.folder = await makeFolder();
    const settings = { REGISTRY_DATA_DIR: join(this.folder.path, 'data'), REGISTRY_BCRYPT_COST: '4' };
    this.registry = ours(this.checkout, this.checkout, settings, true);
    await this.registry.start();
    this.at = { repository: REPOSITORY, headers: this.registry.basic };
    this.connections = Array.from({ length: READERS }, () => new Connection(this.registry.port));
    for (let index = 0; index < KNOWN; index++) this.known.push(await this.push(this.connections[0], `known-${index}`));
  }

  /** A blob by one POST. */
  async put(connection, mediaType, bytes) {
    const digest = digestOf(bytes);
    await expectStatus(connection, 201, {
      method: 'POST',
      path: `/v2/${REPOSITORY}/blobs/uploads/?digest=${digest}`,
      headers: { ...this.at.headers, 'content-type': 'application/octet-stream' },
      body: bytes,
    });
    return { mediaType, digest, size: bytes.length };
  }

  /** A blob, a config and a manifest under a tag. */
  async push(connection, tag) {
    const id = Buffer.from(JSON.stringify({ id: randomBytes(8).toString('hex') }));
    const config = await this.put(connection, 'application/vnd.oci.image.config.v1+json', id);
    const layer = await this.put(connection, 'application/octet-stream', randomBytes(1024));
    // A model, so that each push makes or moves a release, which is the dearest kind.
    const layers = [{ ...layer, annotations: { 'org.opencontainers.image.title': 'model.safetensors' } }];
    const { digest } = await pushManifest(connection, this.at, { config, layers }, tag);
    return { tag, digest };
  }

  async measure(what, count, work) {
    const before = cpuMsOf(this.registry.pid);
    const begun = performance.now();
    const end = begun + milliseconds;
    let done = 0;
    await Promise.all(
      this.connections.slice(0, count).map(async (connection, index) => {
        for (let turn = index; performance.now() < end; turn += count) {
          await work(connection, turn);
          done++;
        }
      }),
    );
    this.figures[what].push((done * 1000) / (performance.now() - begun));
    this.cpu[what].push((cpuMsOf(this.registry.pid) - before) / done);
  }

  /** What is measured, in the order of a round. */
  get works() {
    const { headers } = this.at;
    const some = (turn) => this.known[turn % KNOWN];
    const read = (connection, method, reference) =>
      expectStatus(connection, 200, { method, path: `/v2/${REPOSITORY}/manifests/${reference}`, headers });
    const push = (number) => (connection, turn) => this.push(connection, `v${number}.${turn}-fp16`);
    return {
      push: (number) => this.measure('push', PUSHERS, push(number)),
      'GET by tag': () => this.measure('GET by tag', READERS, (one, turn) => read(one, 'GET', some(turn).tag)),
      'HEAD by digest': () =>
        this.measure('HEAD by digest', READERS, (one, turn) => read(one, 'HEAD', some(turn).digest)),
    };
  }

  async stop() {
    for (const connection of this.connections ?? []) connection.close();
    await this.registry?.stop();
    await this.folder?.remove();
  }
}

const all = (positionals.length > 0 ? positionals : [ROOT]).map((folder) => new Measured(folder));
const [first] = all;
try {
  for (const one of all) await one.start();
  for (let number = 1; number <= rounds; number++) {
    // Close together in time, and who begins changes from round to round.
    const order = number % 2 === 1 ? all : [...all].reverse();
    for (const what of Object.keys(first.works)) for (const one of order) await one.works[what](number);
  }
  const rows = Object.keys(first.figures).flatMap((what) =>
    all.map((one) => ({
      what,
      checkout: basename(one.checkout),
      'per second': median(one.figures[what]).toFixed(1),
      // Of each round by itself: what disturbed the machine then disturbed both.
      ratio: median(one.figures[what].map((figure, index) => figure / first.figures[what][index])).toFixed(3),
      'CPU ms each': median(one.cpu[what]).toFixed(2),
      'CPU ratio': median(one.cpu[what].map((figure, index) => figure / first.cpu[what][index])).toFixed(3),
      all: one.figures[what].map((figure) => figure.toFixed(0)).join(' '),
    })),
  );
  console.table(rows);
} finally {
  for (const one of all) await one.stop();
}
