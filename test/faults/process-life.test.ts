import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { notRun } from '../support/not-run.js';
import { createDatabase } from '../support/postgres.js';
import { freePort, type TestServer } from '../support/server.js';
import { Content } from './support/bytes.js';
import { runCommand, startCommand } from './support/command.js';
import { EmbeddedSite } from './support/embedded.js';
import { Exchange, pull, send } from './support/exchange.js';
import { Gate } from './support/gate.js';
import { ask } from './support/oracle.js';
import { childrenOf, isAlive, signal, until, untilLogged, untilTaken } from './support/processes.js';
import { Upload } from './support/upload.js';

const MiB = 1024 * 1024;
/** What a person at a quiet machine must not wait longer than is 2 s; a busy one is granted more. */
const GENEROUS_MS = 15_000;

describe('the life of a registry with its embedded PostgreSQL', function () {
  this.timeout(120_000);
  const sites: EmbeddedSite[] = [];
  let template: EmbeddedSite;
  let layer: Content;
  let firstLog: string;

  async function site(): Promise<EmbeddedSite> {
    const made = await EmbeddedSite.make(template?.dataDir);
    sites.push(made);
    return made;
  }

  const uploadTo = (server: TestServer, content: Content) =>
    new Upload({ host: server.host, gate: new Gate(), acknowledged: () => undefined }, 'life', content);

  // initdb takes seconds; each test begins with a copy of this folder, in which a blob is.
  before(async () => {
    template = await EmbeddedSite.make();
    const server = await template.start({ REGISTRY_ADMIN_KEY: '' });
    await untilLogged(server, 'admin key');
    firstLog = await server.log();
    const key = (await readFile(join(template.dataDir, 'admin-key'), 'utf8')).trim();
    const authorization = `Basic ${Buffer.from(`admin:${key}`).toString('base64')}`;
    layer = new Content('life', 1 * MiB);
    const path = `/v2/life/blobs/uploads/?digest=${layer.digest}`;
    const pushed = await send(server.host, 'POST', path, {
      headers: { authorization },
      body: layer.part(0, layer.size),
    });
    expect(pushed?.status).to.equal(201);
    expect(await server.stop()).to.equal(0);
  });
  afterEach(async () => {
    for (const made of sites.splice(0)) await made.clear();
  });
  after(() => template.clear());

  it('shows the admin key once and keeps it in a file of mode 0600', async () => {
    const path = join(template.dataDir, 'admin-key');
    const key = (await readFile(path, 'utf8')).trim();
    expect((await stat(path)).mode & 0o777).to.equal(0o600);
    expect(firstLog.split(key)).to.have.length(2);
    const place = await site();
    const server = await place.start({ REGISTRY_ADMIN_KEY: '' });
    await untilLogged(server, 'admin-key');
    expect(await server.log()).not.to.include(key);
    const authorization = `Basic ${Buffer.from(`admin:${key}`).toString('base64')}`;
    expect((await send(server.host, 'GET', '/v2/', { headers: { authorization } }))?.status).to.equal(200);
  });

  it('answers soon after its second start and finds everything as it was', async () => {
    const place = await site();
    const began = performance.now();
    const server = await place.start();
    const took = performance.now() - began;
    console.log(`      the second start: ${(took / 1000).toFixed(2)} s to the first answer`);
    expect(took).to.be.below(GENEROUS_MS);
    const pulled = await pull(server.host, `/v2/life/blobs/${layer.digest}`);
    expect(pulled).to.include({ status: 200, digest: layer.digest });
  });

  it('adopts the PostgreSQL that outlived it when it is killed', async () => {
    const place = await site();
    const server = await place.start();
    const postmaster = await place.postmaster();
    await server.kill();
    expect(await place.postmaster()).to.equal(postmaster);
    await server.start();
    expect(await place.postmaster()).to.equal(postmaster);
    expect((await pull(server.host, `/v2/life/blobs/${layer.digest}`))?.digest).to.equal(layer.digest);
    expect(await server.stop()).to.equal(0);
    expect(await place.postmaster()).to.equal(undefined);
  });

  it('refuses to be the second on a data folder, and names the first', async () => {
    const place = await site();
    const server = await place.start();
    const second = await runCommand('serve', { REGISTRY_DATA_DIR: place.dataDir });
    expect(second.code).to.equal(1);
    expect(second.said).to.include(`in use by another registry: the process ${server.process.pid} on`);
    expect((await pull(server.host, `/v2/life/blobs/${layer.digest}`))?.status).to.equal(200);
  });

  it('says that the port is in use before it starts anything', async () => {
    const server = await (await site()).start();
    const other = await site();
    const refused = await runCommand('serve', { REGISTRY_DATA_DIR: other.dataDir, REGISTRY_LISTEN: server.host });
    expect(refused.code).to.equal(1);
    expect(refused.said).to.include(`can't listen on ${server.host} (REGISTRY_LISTEN): another process listens there`);
    expect(refused.said).not.to.include('    at ');
    expect(await other.postmaster()).to.equal(undefined);
  });

  it('stops PostgreSQL again when the storage belongs to another database', async () => {
    const place = await site();
    const marker = join(place.blobs, 'weighhouse.marker');
    const own = await readFile(marker, 'utf8');
    await writeFile(marker, `${crypto.randomUUID()}\n`);
    const strange = await runCommand('serve', { REGISTRY_DATA_DIR: place.dataDir });
    expect(strange.code).to.equal(1);
    expect(strange.said).to.include('belongs to another database');
    expect(await place.postmaster()).to.equal(undefined);
    await writeFile(marker, own);

    await rename(place.blobs, `${place.blobs}-unmounted`);
    const absent = await runCommand('serve', { REGISTRY_DATA_DIR: place.dataDir });
    expect(absent.code).to.equal(1);
    expect(absent.said).to.include('is it mounted?');
    expect(await place.postmaster()).to.equal(undefined);
  });

  it('stops PostgreSQL again when the database needs a newer program', async () => {
    const place = await site();
    const server = await place.start();
    await ask(
      await place.url(),
      "insert into migrations (name, sha256, needs) values ('9999_of_the_future.sql', 'x', '9999')",
    );
    await server.stop();
    for (const command of ['serve', 'migrate']) {
      const refused = await runCommand(command, { REGISTRY_DATA_DIR: place.dataDir });
      expect(refused.code).to.equal(1);
      expect(refused.said).to.include('9999_of_the_future.sql');
      expect(await place.postmaster()).to.equal(undefined);
    }
  });

  it('says clearly that a database of the operator can not be reached', async () => {
    const place = await site();
    const url = 'postgres://nobody:secret-word@127.0.0.1:1/nothing';
    for (const command of ['serve', 'migrate']) {
      const refused = await runCommand(command, { REGISTRY_DATA_DIR: place.dataDir, REGISTRY_DATABASE_URL: url });
      expect(refused.code).to.equal(1);
      expect(refused.said).to.include('REGISTRY_DATABASE_URL').and.to.include('ECONNREFUSED');
      expect(refused.said).not.to.include('secret-word');
    }
  });

  it('migrates by command and leaves nothing running', async () => {
    const database = await createDatabase({ empty: true });
    try {
      const environment = { REGISTRY_DATABASE_URL: database.url };
      const first = await runCommand('migrate', environment);
      expect(first).to.include({ code: 0 });
      expect(first.said).to.include('applied 0001_registry.sql');
      expect((await runCommand('migrate', environment)).said).to.include('the database is up to date');
    } finally {
      await database.drop();
    }
    const place = await site();
    const embedded = await runCommand('migrate', { REGISTRY_DATA_DIR: place.dataDir });
    expect(embedded.code).to.equal(0);
    expect(embedded.said).to.include('the database is up to date');
    expect(await place.postmaster()).to.equal(undefined);
  });

  it('keeps what running requests had sent when SIGTERM ends them', async () => {
    const place = await site();
    const server = await place.start({ REGISTRY_DRAIN_TIMEOUT: '1' });
    const upload = uploadTo(server, new Content('drained', 20 * MiB));
    await upload.begin();
    const exchange = new Exchange(server.host, 'PATCH', upload.path);
    const sent = 5 * MiB;
    for (const piece of upload.content.chunks(0, sent, 64 * 1024)) await exchange.write(piece);
    upload.reached = sent;
    await untilTaken(server);
    const workers = await server.workers();
    expect(await server.stop()).to.equal(0);
    expect(await exchange.answer).to.equal(undefined);
    expect(await Promise.all(workers.map(isAlive))).to.deep.equal(workers.map(() => false));
    expect(await place.postmaster()).to.equal(undefined);
    await server.start();
    expect(await upload.status()).to.be.above(sent - 1 * MiB);
    expect(await upload.put({ ranged: true })).to.equal('done');
  });

  it('does not wait for running requests when it is told to stop twice', async () => {
    const place = await site();
    const server = await place.start({ REGISTRY_DRAIN_TIMEOUT: '600' });
    const upload = uploadTo(server, new Content('in the way', 20 * MiB));
    await upload.begin();
    const exchange = new Exchange(server.host, 'PATCH', upload.path);
    await exchange.write(upload.content.part(0, 100_000));
    const stopped = server.stop();
    // Two signals of which it heard none yet are one to it.
    await untilLogged(server, 'stopping');
    signal(server.process.pid ?? 0, 'SIGTERM');
    expect(await stopped).to.equal(0);
    expect(await exchange.answer).to.equal(undefined);
    expect(await place.postmaster()).to.equal(undefined);
  });

  it('takes PostgreSQL down again when SIGTERM comes in the middle of the start', async () => {
    const place = await site();
    const { child, outcome } = await startCommand('serve', { REGISTRY_DATA_DIR: place.dataDir });
    await until('PostgreSQL is being started', async () => (await place.postmaster()) !== undefined);
    child.kill('SIGTERM');
    expect(await outcome).to.include({ code: 0 });
    expect(await place.postmaster()).to.equal(undefined);
    const server = await place.start();
    expect((await pull(server.host, `/v2/life/blobs/${layer.digest}`))?.digest).to.equal(layer.digest);
  });

  it('ends when the terminal on which it runs is closed', async function () {
    const script = '/usr/bin/script';
    if (!existsSync(script)) notRun(this, 'a terminal that is closed', `needs ${script}`);
    const place = await site();
    const host = `127.0.0.1:${await freePort()}`;
    const terminal = spawn(script, ['-qec', `exec ${process.execPath} bin/weighhouse.js serve`, '/dev/null'], {
      env: { PATH: process.env.PATH, REGISTRY_DATA_DIR: place.dataDir, REGISTRY_LISTEN: host, REGISTRY_WORKERS: '2' },
      stdio: 'ignore',
    });
    await until('it answers', async () => (await send(host, 'GET', '/v2/'))?.status === 401);
    const [primary = 0] = await childrenOf(terminal.pid ?? 0);
    const workers = await childrenOf(primary);
    terminal.kill('SIGKILL');
    try {
      await until('PostgreSQL has ended', async () => (await place.postmaster()) === undefined);
      for (const pid of [primary, ...workers]) await until(`${pid} has ended`, async () => !(await isAlive(pid)));
    } finally {
      signal(primary, 'SIGKILL');
    }
  });

  it('puts another worker in the place of one that died', async () => {
    const server = await (await site()).start();
    const before = await server.workers();
    for (const pid of before) signal(pid, 'SIGKILL');
    await until('there are as many workers as before', async () => {
      const now = await server.workers();
      return now.length === before.length && !now.some((pid) => before.includes(pid));
    });
    await until('it answers', async () => (await send(server.host, 'GET', '/v2/'))?.status === 200);
  });
});
