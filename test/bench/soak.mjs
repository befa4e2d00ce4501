// Mixed load for long: clients push, pull, delete and list, each in a repository of its own and in one that all share.
// What is answered otherwise than it must be is counted by its kind and makes this fail; memory and times are told by
// the minute, and nothing is asserted about them.
//
//   npm run bench:soak -- [--minutes 15] [--clients 32]
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from '../../bin/build.js';
import { Connection } from './support/connection.mjs';
import { expectStatus, MANIFEST, pushArtifact, pushBlob, pushManifest, quantile } from './support/load.mjs';
import { memoryOf } from './support/processes.mjs';
import { makeFolder, ours } from './support/registries.mjs';
import { printTable } from './support/table.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MiB = 1024 * 1024;
const SHARED = 'soak/shared';
const LARGE_BYTES = 4 * MiB;
/** What a client has beyond these it may remove, so that the registry stays about as large as it became. */
const KEPT = 50;
const MINUTE_MS = 60_000;

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '15' }, clients: { type: 'string', default: '32' } },
});
const minutes = Number(values.minutes);

/** A client: what it has pushed and not removed, by tag, and what it can do; each checks what is answered. */
class Client {
  pushed = new Map();

  constructor(number, port, headers) {
    this.connection = new Connection(port);
    this.number = number;
    this.at = { repository: `soak/client-${number}`, headers };
  }

  ask(status, method, path) {
    return expectStatus(this.connection, status, { method, path, headers: { ...this.at.headers, accept: MANIFEST } });
  }

  /** Any of what it has, or what it pushes now. */
  async some() {
    const all = [...this.pushed.values()];
    return all[Math.floor(Math.random() * all.length)] ?? (await this.push());
  }

  async push() {
    const artifact = await pushArtifact(this.connection, this.at);
    this.pushed.set(artifact.tag, artifact);
    return artifact;
  }

  async pushLarge() {
    const layer = await pushBlob(this.connection, this.at, randomBytes(LARGE_BYTES));
    const config = await pushBlob(this.connection, this.at, Buffer.from('{}'));
    const tag = `large-${randomBytes(8).toString('hex')}`;
    const manifest = await pushManifest(this.connection, this.at, { config, layers: [layer] }, tag);
    this.pushed.set(tag, { tag, manifest, layer, config });
  }

  /** One tag that every client moves. */
  async move() {
    const tag = 'latest';
    await pushArtifact(this.connection, { ...this.at, repository: SHARED }, tag);
  }

  async refer() {
    const { manifest: subject, config } = await this.some();
    const annotations = { at: randomBytes(8).toString('hex') };
    const made = await pushManifest(this.connection, this.at, { config, layers: [config], subject, annotations });
    const { body } = await this.ask(200, 'GET', `/v2/${this.at.repository}/referrers/${subject.digest}`);
    if (!body.includes(made.digest)) throw new Error('referrers: the newest is not there');
    await this.ask(202, 'DELETE', `/v2/${this.at.repository}/manifests/${made.digest}`);
  }

  async pull() {
    const { repository } = this.at;
    const { tag, manifest, layer } = await this.some();
    const answer = await this.ask(200, 'GET', `/v2/${repository}/manifests/${tag}`);
    if (answer.field('docker-content-digest') !== manifest.digest) throw new Error('pull: another manifest');
    const { body } = await this.ask(200, 'GET', `/v2/${repository}/blobs/${layer.digest}`);
    if (body.length !== layer.size) throw new Error(`pull: ${body.length} bytes instead of ${layer.size}`);
  }

  async remove() {
    const { tag, manifest } = await this.some();
    if (this.pushed.size <= KEPT) return await this.push();
    await this.ask(202, 'DELETE', `/v2/${this.at.repository}/manifests/${manifest.digest}`);
    this.pushed.delete(tag);
    await this.ask(404, 'GET', `/v2/${this.at.repository}/manifests/${tag}`);
  }

  async tags() {
    // A repository comes to be with its first push.
    await this.some();
    const { body } = await this.ask(200, 'GET', `/v2/${this.at.repository}/tags/list`);
    const listed = JSON.parse(body).tags;
    const known = [...this.pushed.keys()].sort();
    if (JSON.stringify(listed) !== JSON.stringify(known)) throw new Error('tags: others than it has pushed');
  }

  async catalog() {
    await this.ask(200, 'GET', '/v2/_catalog?n=100');
  }

  async models() {
    await this.ask(200, 'GET', '/api/v1/releases?limit=20');
  }
}

/** How often each is done, among all. */
const WEIGHTS = { pull: 40, push: 20, remove: 18, tags: 8, catalog: 4, models: 4, refer: 3, move: 2, pushLarge: 1 };
const DEEDS = Object.entries(WEIGHTS).flatMap(([name, weight]) => Array.from({ length: weight }, () => name));

const errors = new Map();
/** Of the minute that runs: milliseconds by deed. */
let spent = {};

async function busy(client, until) {
  while (performance.now() < until) {
    const name = DEEDS[Math.floor(Math.random() * DEEDS.length)];
    const begun = performance.now();
    try {
      await client[name]();
      spent[name] ??= [];
      spent[name].push(performance.now() - begun);
    } catch (error) {
      // Digests and tags are another each time.
      const kind = `${name}: ${error.message.replace(/(sha256:|t-|large-)?[0-9a-f]{16,}/g, '…').slice(0, 200)}`;
      errors.set(kind, (errors.get(kind) ?? 0) + 1);
    }
  }
}

function rowOf(minute, pid) {
  const { all, postgres } = memoryOf(pid);
  const row = { minute, registry: all - postgres, postgres, spent };
  spent = {};
  const done = Object.values(row.spent).reduce((sum, list) => sum + list.length, 0);
  console.error(`minute ${minute}: ${done} done, ${all.toFixed(0)} MiB, ${errors.size} kinds of errors`);
  return row;
}

await build('src');
const folder = await makeFolder();
const registry = ours('weighhouse', ROOT, { REGISTRY_DATA_DIR: join(folder.path, 'data') }, true);
try {
  await registry.start();
  const clients = Array.from(
    { length: Number(values.clients) },
    (_, index) => new Client(index, registry.port, registry.basic),
  );
  const rows = [];
  for (let minute = 1; minute <= Math.ceil(minutes); minute++) {
    const length = Math.min(1, minutes - minute + 1) * MINUTE_MS;
    const until = performance.now() + length;
    await Promise.all(clients.map((client) => busy(client, until)));
    rows.push(rowOf(minute, registry.pid));
  }
  for (const client of clients) {
    await client.tags();
    client.connection.close();
  }
  const p99 = (name) => [`${name} p99 ms`, (row) => row.spent[name] && quantile(row.spent[name], 0.99).toFixed(0)];
  printTable(
    {
      minute: (row) => row.minute,
      'MiB, registry': (row) => row.registry.toFixed(0),
      '… PostgreSQL': (row) => row.postgres.toFixed(0),
      done: (row) => Object.values(row.spent).reduce((sum, list) => sum + list.length, 0),
      ...Object.fromEntries(Object.keys(WEIGHTS).map(p99)),
    },
    rows,
  );
  for (const [kind, count] of errors) console.error(`${count} × ${kind}`);
  console.log(errors.size === 0 ? 'no errors' : `${errors.size} kinds of errors`);
  if (errors.size > 0) process.exitCode = 1;
} finally {
  await registry.stop();
  await folder.remove();
}
