// The trial of the size that this registry is for: one blob, pushed in one stream as docker does, interrupted twice (the
// client vanishes; then everything is killed by kill -9), resumed from the offset that the registry tells, committed,
// pulled and hashed.
//
//   node scripts/large.mjs [--s3] [size, such as 20G, 20GiB or 500M; default 20G] [folder; default the system's temporary one]
//
// The bytes are made as they are sent, so the disk holds them once. With --s3 they go through the gateway of a Ceph of its own
// (../shared/ceph/ceph-dev beside the checkout, or CEPH_DEV), which has its disk in /tmp.
import { spawn } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { chmod, mkdtemp, readFile, realpath, rm, statfs } from 'node:fs/promises';
import { request } from 'node:http';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from '../bin/build.js';
import { freePort } from './free-port.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MiB = 1024 * 1024;
const PIECE = MiB;
const SPARE_BYTES = 2 * 1024 * MiB;
const KEY = 'wh_admin_key-of-the-large-trial';
const AUTHORIZATION = `Basic ${Buffer.from(`admin:${KEY}`).toString('base64')}`;
const REPOSITORY = 'trial/large';
const ZEROS = Buffer.alloc(PIECE);

const UNITS = { '': 1, K: 1e3, M: 1e6, G: 1e9, T: 1e12, KIB: 1024, MIB: MiB, GIB: 1024 * MiB, TIB: 1024 * 1024 * MiB };

function parseSize(text) {
  const match = /^([0-9.]+)\s*([kmgt]?(?:ib)?)b?$/i.exec(text);
  const unit = UNITS[match?.[2].toUpperCase()];
  if (!unit) throw new Error(`not a size: ${text}`);
  return Math.floor(Number(match[1]) * unit);
}

/** The blob's bytes from `start` up to `end`, in pieces: AES in counter mode over zeros. */
function* bytes(start, end) {
  const counter = Buffer.alloc(16);
  counter.writeBigUInt64BE(BigInt(Math.floor(start / 16)), 8);
  const cipher = createCipheriv('aes-128-ctr', Buffer.from('weighhouse-large'), counter);
  cipher.update(Buffer.alloc(start % 16));
  for (let at = start; at < end; at += PIECE) yield cipher.update(ZEROS.subarray(0, Math.min(PIECE, end - at)));
}

const begun = performance.now();
const seconds = (from) => (performance.now() - from) / 1000;
const rate = (count, from) => `${(count / 1e6 / seconds(from)).toFixed(0)} MB/s`;
const say = (text) => console.log(`${seconds(begun).toFixed(1).padStart(7)} s  ${text}`);

/** The registry in processes of its own, with its embedded PostgreSQL. */
class Registry {
  #peaks = new Map();

  constructor(folder, port, settings) {
    this.folder = folder;
    this.port = port;
    this.settings = settings;
    this.timer = setInterval(() => void this.#watch(), 500);
  }

  async start() {
    const from = performance.now();
    const log = createWriteStream(join(this.folder, 'log'), { flags: 'a' });
    await once(log, 'open');
    this.child = spawn(process.execPath, [join(ROOT, 'bin/weighhouse.js'), 'serve'], {
      cwd: ROOT,
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        REGISTRY_LISTEN: `127.0.0.1:${this.port}`,
        REGISTRY_DATA_DIR: join(this.folder, 'data'),
        REGISTRY_ADMIN_KEY: KEY,
        ...this.settings,
      },
      stdio: ['ignore', log, log],
    });
    log.close();
    while ((await ask(this.port, 'GET', '/v2/').catch(() => undefined))?.status !== 200) {
      if (this.child.exitCode !== null) throw new Error(await readFile(join(this.folder, 'log'), 'utf8'));
      await sleep(20);
    }
    say(`the registry answers after ${seconds(from).toFixed(2)} s`);
  }

  async #pids() {
    const { pid } = this.child;
    const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')).split(' ');
    return [pid, ...children.filter(Boolean).map(Number)];
  }

  async #watch() {
    if (!this.child) return;
    for (const pid of await this.#pids()) {
      const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
      const peak = Number(/^VmHWM:\s+([0-9]+)/m.exec(status)?.[1] ?? 0) / 1024;
      const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
      const worker = command.some((part) => part.endsWith('weighhouse.js')) && 'worker';
      const what = pid === this.child.pid ? 'primary' : command[0].endsWith('/postgres') ? 'PostgreSQL' : worker;
      if (peak > 0 && what) this.#peaks.set(pid, { what, peak });
    }
  }

  /** Everything at once, PostgreSQL too. */
  async kill() {
    const pids = await this.#pids();
    const exit = once(this.child, 'exit');
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await exit;
  }

  async stop() {
    clearInterval(this.timer);
    await this.#watch();
    const exit = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    const [code] = await exit;
    say(`the registry ended with code ${code}`);
    for (const [pid, { what, peak }] of this.#peaks) say(`VmHWM ${peak.toFixed(0)} MiB: ${what} ${pid}`);
  }
}

/** A request; `body` is [start, end) of the blob, `until` breaks it off there. */
async function ask(port, method, path, { headers = {}, body, until, onLast } = {}) {
  const asked = request({
    port,
    host: '127.0.0.1',
    method,
    path,
    headers: { authorization: AUTHORIZATION, ...headers },
  });
  const answered = new Promise((resolve, reject) => {
    asked.on('response', resolve);
    asked.on('error', reject);
  });
  answered.catch(() => undefined);
  let sent = body?.[0] ?? 0;
  for (const piece of body ? bytes(...body) : []) {
    if (asked.destroyed) break;
    if (until !== undefined && sent >= until.at) {
      await until.act();
      asked.destroy();
      return { sent };
    }
    if (!asked.write(piece)) await Promise.race([once(asked, 'drain'), answered]);
    sent += piece.length;
  }
  onLast?.();
  asked.end();
  const response = await answered;
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of response) {
    hash.update(chunk);
    length += chunk.length;
  }
  return { status: response.statusCode, headers: response.headers, length, digest: `sha256:${hash.digest('hex')}` };
}

function expectStatus(answer, status, what) {
  if (answer?.status !== status) throw new Error(`${what}: ${answer?.status ?? 'no answer'} instead of ${status}`);
}

/** The offset that the registry tells, when it has stopped moving. */
async function settledOffset(port, path) {
  let offset = -1;
  for (let last = -2; last !== offset; await sleep(500)) {
    last = offset;
    const status = await ask(port, 'GET', path);
    expectStatus(status, 204, 'status');
    offset = Number(status.headers['upload-offset']);
  }
  return offset;
}

async function trial(size, registry) {
  const { port } = registry;
  let from = performance.now();
  const hash = createHash('sha256');
  for (const piece of bytes(0, size)) hash.update(piece);
  const digest = `sha256:${hash.digest('hex')}`;
  say(`${size} bytes with ${digest} (made and hashed at ${rate(size, from)})`);

  await registry.start();
  const opened = await ask(port, 'POST', `/v2/${REPOSITORY}/blobs/uploads/`);
  expectStatus(opened, 202, 'POST');
  const path = opened.headers.location;

  const vanish = Math.floor(size * 0.35);
  from = performance.now();
  const { sent } = await ask(port, 'PATCH', path, {
    body: [0, size],
    until: { at: vanish, act: async () => undefined },
  });
  say(`the client vanished after ${sent} bytes (${rate(sent, from)})`);
  const first = await settledOffset(port, path);
  say(`told ${first}: ${sent - first} bytes are sent again`);

  const crash = Math.floor(size * 0.7);
  from = performance.now();
  const { sent: lost } = await ask(port, 'PATCH', path, {
    headers: { 'content-range': `${first}-${size - 1}`, 'content-length': size - first },
    body: [first, size],
    until: { at: crash, act: () => registry.kill() },
  });
  say(`kill -9 of everything after ${lost} bytes (${rate(lost - first, from)})`);
  await registry.start();
  const second = await settledOffset(port, path);
  say(`told ${second}: ${lost - second} bytes are sent again`);

  from = performance.now();
  let last = from;
  const put = await ask(port, 'PUT', `${path}?digest=${digest}`, {
    headers: { 'content-range': `${second}-${size - 1}`, 'content-length': size - second },
    body: [second, size],
    onLast: () => {
      last = performance.now();
    },
  });
  expectStatus(put, 201, 'PUT');
  say(
    `201, ${seconds(last).toFixed(2)} s after the last byte was handed over (${rate(size - second, from)}, with reading ${second} bytes back)`,
  );

  from = performance.now();
  const again = await ask(port, 'PUT', `${path}?digest=${digest}`);
  expectStatus(again, 201, 'the same PUT again');
  say(`the same PUT again: 201 after ${(seconds(from) * 1000).toFixed(0)} ms`);

  from = performance.now();
  const pulled = await ask(port, 'GET', `/v2/${REPOSITORY}/blobs/${digest}`);
  expectStatus(pulled, 200, 'GET');
  if (pulled.length !== size || pulled.digest !== digest)
    throw new Error(`pulled ${pulled.length} bytes with ${pulled.digest}`);
  say(`pulled and hashed: the same bytes (${rate(size, from)})`);
  await registry.stop();
}

/** A Ceph with room for the bytes, also for those that a broken request left behind, and the settings to use it. */
async function startCeph(size) {
  const { Ceph } = await import('../dist/test/ceph/support/ceph.js');
  const { placeIn, settingsOf } = await import('../dist/test/ceph/support/bucket.js');
  const ceph = await Ceph.start(`${24 + Math.ceil((2 * size) / 1024 / MiB)}G`);
  // Those of tests, but for what they hurry.
  const hurried = ['REGISTRY_S3_TIMEOUT', 'REGISTRY_JOB_INTERVAL', 'REGISTRY_REMOVAL_DELAY'];
  const settings = Object.entries(settingsOf(placeIn(ceph))).filter(([name]) => !hurried.includes(name));
  return { ceph, settings: Object.fromEntries(settings) };
}

const { values, positionals } = parseArgs({
  options: { s3: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const size = parseSize(positionals[0] ?? '20G');
const parent = positionals[1] ?? tmpdir();
const { bavail, bsize } = await statfs(values.s3 ? '/tmp' : parent);
if (bavail * bsize < size + SPARE_BYTES) {
  console.error(`not run: large: ${bavail * bsize} bytes are free, and ${size + SPARE_BYTES} are needed`);
  process.exit(1);
}
await build(values.s3 ? 'all' : 'src');
const { ceph, settings } = values.s3 ? await startCeph(size) : {};
const folder = await realpath(await mkdtemp(join(parent, 'weighhouse-large-')));
// PostgreSQL never runs as root: its account must be able to pass.
await chmod(folder, 0o711);
const registry = new Registry(folder, await freePort(), settings);
say(`${availableParallelism()} cores; ${ceph ? 'bytes in Ceph' : `bytes and database in ${folder}`}`);
try {
  await trial(size, registry);
} catch (error) {
  process.exitCode = 1;
  console.error(error, await readFile(join(folder, 'log'), 'utf8').then((log) => log.slice(-4000)));
  if (registry.child?.exitCode === null && registry.child.signalCode === null) await registry.stop();
} finally {
  clearInterval(registry.timer);
  await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
  await ceph?.wipe();
}
