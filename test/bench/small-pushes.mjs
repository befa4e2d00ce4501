// Small pushes and manifest reads per second, of one or several checkouts in turn, so that their ratios can be compared on
// a machine that is not quiet. Nothing is asserted.
//
//   npm run bench:small -- [--rounds 9] [--seconds 2] [checkout …]
//
// The first checkout is what the others are compared with; without any, this one is measured. Each is built where it lies
// and needs its node_modules. Every registry runs with its own PostgreSQL in a folder that is removed in the end.
import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { freePort } from '../../scripts/free-port.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const KEY = 'wh_admin_only-for-measuring';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const PUSHERS = 8;
const READERS = 32;
/** Tags and manifests that are read. */
const KNOWN = 200;
const START_MS = 60_000;

const options = { rounds: { type: 'string', default: '9' }, seconds: { type: 'string', default: '2' } };
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const rounds = Number(values.rounds);
const milliseconds = Number(values.seconds) * 1000;

const digestOf = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Milliseconds of CPU that a process and all below it have used, also those that ended; Linux tells. */
function cpuOf(root) {
  const TICK_MS = 10;
  const processes = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    try {
      // After the name, which may hold anything: state, parent, …
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ');
      const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
      processes.set(Number(pid), { parent: Number(fields[1]), ticks });
    } catch {
      // It has just ended.
    }
  }
  const isBelow = (pid) => pid === root || (processes.has(pid) && isBelow(processes.get(pid).parent));
  return [...processes].reduce((sum, [pid, { ticks }]) => sum + (isBelow(pid) ? ticks * TICK_MS : 0), 0);
}

/** A registry of one checkout, and the ways to ask it. */
class Measured {
  figures = { push: [], 'GET by tag': [], 'HEAD by digest': [] };
  /** Milliseconds of the registry and its PostgreSQL each; another's work on the machine changes them little. */
  cpu = { push: [], 'GET by tag': [], 'HEAD by digest': [] };
  known = [];
  agent = new Agent({ keepAlive: true, maxSockets: READERS });

  constructor(folder) {
    this.checkout = resolve(folder);
  }

  async start() {
    const built = spawnSync(process.execPath, ['bin/build.js', 'src'], { cwd: this.checkout, stdio: 'inherit' });
    if (built.status !== 0) throw new Error(`${this.checkout} can not be built`);
    this.folder = await mkdtemp(join(tmpdir(), 'weighhouse-bench-'));
    await chmod(this.folder, 0o711);
    this.port = await freePort();
    const { PATH, HOME } = process.env;
    this.process = spawn(process.execPath, ['bin/weighhouse.js', 'serve'], {
      cwd: this.checkout,
      env: {
        PATH,
        HOME,
        REGISTRY_LISTEN: `127.0.0.1:${this.port}`,
        REGISTRY_DATA_DIR: join(this.folder, 'data'),
        REGISTRY_ADMIN_KEY: KEY,
        REGISTRY_BCRYPT_COST: '4',
        REGISTRY_LOG_LEVEL: 'warn',
      },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    for (const deadline = performance.now() + START_MS; ; ) {
      if (this.process.exitCode !== null) throw new Error(`${this.checkout} ended at its start`);
      const status = await this.ask('GET', '/v2/').catch(() => 0);
      if (status === 200) break;
      if (performance.now() > deadline) throw new Error(`${this.checkout} does not start`);
      await new Promise((done) => setTimeout(done, 50));
    }
    for (let index = 0; index < KNOWN; index++) this.known.push(await this.push(`known-${index}`));
  }

  ask(method, path, body, type) {
    return new Promise((done, fail) => {
      const headers = { authorization: `Basic ${Buffer.from(`x:${KEY}`).toString('base64')}` };
      if (body) headers['content-length'] = body.length;
      if (type) headers['content-type'] = type;
      const sent = request(
        { host: '127.0.0.1', port: this.port, agent: this.agent, method, path, headers },
        (answer) => {
          answer.resume();
          answer.on('end', () => done(answer.statusCode)).on('error', fail);
        },
      );
      sent.on('error', fail);
      sent.end(body);
    });
  }

  async expect(status, ...args) {
    const answered = await this.ask(...args);
    if (answered !== status) throw new Error(`${args[0]} ${args[1]}: ${answered}`);
  }

  /** A blob, a config and a manifest under a tag. */
  async push(tag) {
    const descriptors = [];
    for (const [mediaType, bytes] of [
      ['application/vnd.oci.image.config.v1+json', Buffer.from(JSON.stringify({ id: randomBytes(8).toString('hex') }))],
      ['application/octet-stream', randomBytes(1024)],
    ]) {
      const digest = digestOf(bytes);
      await this.expect(
        201,
        'POST',
        `/v2/bench/model/blobs/uploads/?digest=${digest}`,
        bytes,
        'application/octet-stream',
      );
      descriptors.push({ mediaType, digest, size: bytes.length });
    }
    const [config, layer] = descriptors;
    // A model, so that each push makes or moves a release, which is the dearest kind.
    const layers = [{ ...layer, annotations: { 'org.opencontainers.image.title': 'model.safetensors' } }];
    const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, config, layers }));
    await this.expect(201, 'PUT', `/v2/bench/model/manifests/${tag}`, manifest, MANIFEST);
    return { tag, digest: digestOf(manifest) };
  }

  async measure(what, count, work) {
    const before = process.platform === 'linux' ? cpuOf(this.process.pid) : Number.NaN;
    const begun = performance.now();
    const end = begun + milliseconds;
    let done = 0;
    await Promise.all(
      Array.from({ length: count }, async (_, index) => {
        for (let turn = index; performance.now() < end; turn += count) {
          await work(turn);
          done++;
        }
      }),
    );
    this.figures[what].push((done * 1000) / (performance.now() - begun));
    this.cpu[what].push(((process.platform === 'linux' ? cpuOf(this.process.pid) : Number.NaN) - before) / done);
  }

  /** What is measured, in the order of a round. */
  get works() {
    const some = (turn) => this.known[turn % KNOWN];
    const read = (method, reference) => this.expect(200, method, `/v2/bench/model/manifests/${reference}`);
    return {
      push: (number) => this.measure('push', PUSHERS, (turn) => this.push(`v${number}.${turn}-fp16`)),
      'GET by tag': () => this.measure('GET by tag', READERS, (turn) => read('GET', some(turn).tag)),
      'HEAD by digest': () => this.measure('HEAD by digest', READERS, (turn) => read('HEAD', some(turn).digest)),
    };
  }

  async stop() {
    this.agent.destroy();
    if (this.process && this.process.exitCode === null) {
      this.process.kill('SIGTERM');
      await once(this.process, 'exit');
    }
    if (this.folder) await rm(this.folder, { recursive: true, force: true });
  }
}

const median = (numbers) => {
  const sorted = [...numbers].sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

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
