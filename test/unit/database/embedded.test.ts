import { execFile, spawn } from 'node:child_process';
import { access, chown, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { Sequelize } from 'sequelize';
import { findAccount } from '../../../src/database/embedded-account.js';
import { ask, failureOf, isAlive, kill, killPid, namesIn, postmasterOf, Scene, until } from './embedded-scene.js';

describe('embedded PostgreSQL', function () {
  this.timeout(60_000);
  const shared = new Scene();
  const scene = new Scene();
  let template: string;

  // initdb takes seconds; most tests begin with a copy of this data folder, which has a table with a row.
  before(async () => {
    template = join(await shared.folder(), 'data');
    const server = await shared.start(template);
    await ask(server.url, "create table facts as select 'kept' as fact");
    await server.stop();
  });
  after(() => shared.clear());
  afterEach(() => scene.clear());

  async function copyOfTemplate(folder?: string): Promise<string> {
    const dataDir = join(folder ?? (await scene.folder()), 'data');
    await promisify(execFile)('cp', ['-Rp', template, dataDir]);
    return dataDir;
  }

  it('makes a cluster on the first start and finds its data on the second', async () => {
    const dataDir = join(await scene.folder(), 'data');
    const first = await scene.start(dataDir);
    expect(first.adopted).to.equal(false);
    expect(first.place).to.equal(join(dataDir, 'postgres'));
    await ask(first.url, 'create table facts as select 42 as fact');
    const settings = {
      fsync: 'on',
      synchronous_commit: 'on',
      full_page_writes: 'on',
      data_checksums: 'on',
      server_encoding: 'UTF8',
      listen_addresses: '',
    };
    for (const [name, value] of Object.entries(settings))
      expect(await ask(first.url, `show ${name}`), name).to.equal(value);
    const pid = await postmasterOf(first.place);
    await first.stop();
    await first.stop();
    // The kernel lets go of its folder a moment before it is gone.
    await until(async () => !(await isAlive(pid)));

    const began = performance.now();
    const second = await scene.start(dataDir);
    // It takes a fraction of a second at a quiet machine; a busy one is granted more.
    expect(performance.now() - began).to.be.below(15_000);
    expect(second.adopted).to.equal(false);
    expect(await ask(second.url, 'select fact from facts')).to.equal(42);
  });

  it('gives a url that Sequelize understands', async () => {
    const server = await scene.start(await copyOfTemplate());
    const sequelize = new Sequelize(server.url, { logging: false });
    const [rows] = await sequelize.query('select current_user as role, fact from facts');
    await sequelize.close();
    expect(rows).to.deep.equal([{ role: 'weighhouse', fact: 'kept' }]);
  });

  it('passes settings of the caller to the server', async () => {
    const server = await scene.start(await copyOfTemplate(), { settings: { max_connections: '33' } });
    expect(await ask(server.url, 'show max_connections')).to.equal('33');
  });

  it('adopts the server of a registry that was killed, and notices its end', async () => {
    const dataDir = await copyOfTemplate();
    const registry = await scene.registry(dataDir);
    const url = await registry.next();
    const pid = await postmasterOf(join(dataDir, 'postgres'));
    await kill(registry.child);
    const server = await scene.start(dataDir);
    expect(server.adopted).to.equal(true);
    expect(server.url).to.equal(url);
    expect(await postmasterOf(server.place)).to.equal(pid);
    expect(await ask(server.url, 'select fact from facts')).to.equal('kept');
    await killPid(pid);
    await server.exited;
  });

  it('stops an adopted server', async () => {
    const dataDir = await copyOfTemplate();
    const registry = await scene.registry(dataDir);
    await registry.next();
    const pid = await postmasterOf(join(dataDir, 'postgres'));
    await kill(registry.child);
    const server = await scene.start(dataDir);
    await server.stop();
    // It has let go of everything; the kernel may still be busy with what is left of it.
    await until(async () => !(await isAlive(pid)));
    expect(await Promise.race([server.exited, Promise.resolve('silent')])).to.equal('silent');
  });

  it('replaces a server that was left with other settings', async () => {
    const dataDir = await copyOfTemplate();
    const registry = await scene.registry(dataDir);
    await registry.next();
    const pid = await postmasterOf(join(dataDir, 'postgres'));
    await kill(registry.child);
    const server = await scene.start(dataDir, { settings: { max_connections: '34' } });
    expect(server.adopted).to.equal(false);
    await until(async () => !(await isAlive(pid)));
    expect(await ask(server.url, 'show max_connections')).to.equal('34');
  });

  it('comes to one server when a registry is killed while PostgreSQL starts', async function () {
    this.timeout(180_000);
    const dataDir = await copyOfTemplate();
    for (const wait of [0, 25, 50, 75, 100, 125, 150]) {
      const registry = await scene.registry(dataDir, 'tell("begins");');
      await registry.next();
      await new Promise((done) => setTimeout(done, wait));
      await kill(registry.child);
      const server = await scene.start(dataDir);
      expect(await ask(server.url, 'select fact from facts')).to.equal('kept');
      await server.stop();
    }
  });

  it('tells when the server is killed, and starts it again under the same url', async () => {
    const dataDir = await copyOfTemplate();
    const first = await scene.start(dataDir);
    await ask(first.url, "update facts set fact = 'written'");
    await killPid(await postmasterOf(first.place));
    expect(await first.exited).to.deep.equal({ code: null, signal: 'SIGKILL' });
    const second = await scene.start(dataDir);
    expect(second.url).to.equal(first.url);
    expect(await ask(second.url, 'select fact from facts')).to.equal('written');
  });

  it('spares a process that has got the pid of a dead server', async () => {
    const dataDir = await copyOfTemplate();
    const account = await findAccount(undefined);
    const identity = account.other ? { uid: account.uid, gid: account.gid } : {};
    const stranger = spawn('sleep', ['600'], { stdio: 'ignore', cwd: '/', ...identity });
    try {
      const first = await scene.start(dataDir);
      const path = join(first.place, 'cluster/postmaster.pid');
      const lock = join(first.place, 'socket/.s.PGSQL.5432.lock');
      const files = await Promise.all([path, lock].map(async (file) => ({ file, text: await readFile(file, 'utf8') })));
      await first.stop();
      for (const { file, text } of files) {
        await writeFile(file, text.replace(/^\d+/, String(stranger.pid)));
        if (account.other) await chown(file, account.uid, account.gid);
      }
      const second = await scene.start(dataDir);
      expect(second.adopted).to.equal(false);
      expect(await ask(second.url, 'select fact from facts')).to.equal('kept');
      await second.stop();
      expect(await isAlive(stranger.pid ?? 0)).to.equal(true);
    } finally {
      await kill(stranger);
    }
  });

  it('starts over a damaged postmaster.pid', async () => {
    const dataDir = await copyOfTemplate();
    await writeFile(join(dataDir, 'postgres/cluster/postmaster.pid'), '');
    expect(await ask((await scene.start(dataDir)).url, 'select fact from facts')).to.equal('kept');
  });

  it('makes the cluster anew when a registry was killed in the middle of initdb', async () => {
    const dataDir = join(await scene.folder(), 'data');
    const registry = await scene.registry(dataDir);
    await until(async () => {
      const [draft] = await namesIn(join(dataDir, 'postgres'), 'cluster.draft-');
      return draft !== undefined && (await exists(join(dataDir, 'postgres', draft, 'global/pg_control')));
    });
    await kill(registry.child);
    expect(await exists(join(dataDir, 'postgres/cluster'))).to.equal(false);
    const server = await scene.start(dataDir);
    expect(await ask(server.url, 'select current_database()')).to.equal('weighhouse');
  });

  it('makes the database when a registry was killed right after initdb', async () => {
    const dataDir = await copyOfTemplate();
    const first = await scene.start(dataDir);
    await ask(first.url.replace('/weighhouse?', '/postgres?'), 'drop database weighhouse with (force)');
    await first.stop();
    const second = await scene.start(dataDir);
    expect(await ask(second.url, 'select current_database()')).to.equal('weighhouse');
  });

  it('misses a cluster that is gone instead of making an empty one', async () => {
    const dataDir = await copyOfTemplate();
    await rm(join(dataDir, 'postgres'), { recursive: true });
    expect((await failureOf(scene.start(dataDir))).message).to.match(
      /database .* is missing: .*postgres\/cluster is not there/,
    );
    await rm(join(dataDir, 'postgres-place'));
    await mkdir(join(dataDir, 'blobs/aa'), { recursive: true });
    await writeFile(join(dataDir, 'blobs/aa/segment'), 'bytes');
    expect((await failureOf(scene.start(dataDir))).message).to.match(/has blobs but no database/);
  });

  it('refuses a cluster of another major version, naming both', async () => {
    const dataDir = await copyOfTemplate();
    await writeFile(join(dataDir, 'postgres/cluster/PG_VERSION'), '12\n');
    expect((await failureOf(scene.start(dataDir))).message).to.match(
      /is of PostgreSQL 12, .* comes with PostgreSQL 18/,
    );
  });

  it('says why PostgreSQL does not start', async () => {
    const dataDir = await copyOfTemplate();
    const error = await failureOf(scene.start(dataDir, { settings: { shared_buffers: 'plenty' } }));
    expect(error.message).to.match(/did not start .*invalid value for parameter "shared_buffers"/);
  });

  it('reaches its socket in a data folder whose path is too long for one', async () => {
    const deep = join(await scene.folder(), 'a'.repeat(100), 'b'.repeat(100));
    await mkdir(deep, { recursive: true });
    const dataDir = await copyOfTemplate(deep);
    const first = await scene.start(dataDir);
    expect(await exists(join(first.place, 'socket/.s.PGSQL.5432'))).to.equal(true);
    await killPid(await postmasterOf(first.place));
    await first.exited;
    const second = await scene.start(dataDir);
    expect(second.url).to.equal(first.url);
    expect(await ask(second.url, 'select fact from facts')).to.equal('kept');
    await second.stop();
    expect(await exists(second.connection.host)).to.equal(false);
  });

  it('keeps running when Ctrl-C reaches the group of the registry', async () => {
    const dataDir = await copyOfTemplate();
    const text = `process.on('SIGINT', () => tell('interrupted'));
      const { startEmbedded } = await import(sources + 'database/embedded.js');
      const { createLog } = await import(sources + 'log.js');
      setInterval(() => undefined, 1000);
      tell((await startEmbedded({ dataDir: ${JSON.stringify(dataDir)}, log: createLog('silent') })).url);`;
    const { child, next } = await scene.run(text, { detached: true });
    const url = String(await next());
    process.kill(-(child.pid ?? Number.NaN), 'SIGINT');
    expect(await next()).to.equal('interrupted');
    expect(await ask(url, 'select fact from facts')).to.equal('kept');
  });
});

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
