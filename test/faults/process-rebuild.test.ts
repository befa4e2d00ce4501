import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { notRun } from '../support/not-run.js';
import { listen } from '../../src/database/notify.js';
import { createDatabase, silent, type TestDatabase } from '../support/postgres.js';
import { startServer, type TestServer } from '../support/server.js';
import { runCommand, startCommand } from './support/command.js';
import { DumpedPostgres, dumpMissing } from './support/dump.js';
import { ask, checkStore, filesOf } from './support/oracle.js';
import { until } from './support/processes.js';
import { Story } from './support/story.js';

/** Nobody waits, and orphans go at their first sight. */
const EAGER = {
  REGISTRY_RECORD_INTERVAL: '1',
  REGISTRY_JOB_INTERVAL: '1',
  REGISTRY_REMOVAL_DELAY: '0',
  REGISTRY_REMOVAL_SHARE: '100',
  REGISTRY_ORPHAN_INTERVAL: '1',
  REGISTRY_ORPHAN_AGE: '0',
  REGISTRY_READ_GRACE: '0',
};

describe('a database that is lost', function () {
  this.timeout(300_000);
  let server: TestServer;
  let story: Story;
  const databases: TestDatabase[] = [];
  let postgres: DumpedPostgres | undefined;

  afterEach(async () => {
    await server?.dispose();
    for (const database of databases.splice(0)) await database.drop();
    await postgres?.clear();
    postgres = undefined;
  });

  const database = async () => {
    const made = await createDatabase();
    databases.push(made);
    return made.url;
  };
  const root = () => join(server.environment.REGISTRY_DATA_DIR ?? '', 'blobs');
  const settings = (url: string) => {
    const { REGISTRY_LISTEN: _taken, ...environment } = { REGISTRY_LISTEN: '', ...server.environment };
    return { ...environment, REGISTRY_DATABASE_URL: url };
  };
  const written = async (url: string) =>
    await until('all is written down', async () => (await ask(url, 'select from records')).length === 0);

  /** Everything is pushed and written down, and the registry is killed. */
  async function live(url: string): Promise<void> {
    server = await startServer({ embedded: true, environment: { ...EAGER, REGISTRY_DATABASE_URL: url } });
    story = new Story();
    await story.before(server);
    await story.after(server);
    await story.noteReleases(server);
    await written(url);
    await server.kill();
  }

  /** A registry on another database, with the store of the lost one. */
  async function reopened(url: string): Promise<TestServer> {
    return await startServer({ embedded: true, environment: settings(url) });
  }

  async function expectAllBack(url: string): Promise<void> {
    const again = await reopened(url);
    try {
      await story.check(again);
      // The sweep is let loose again, and takes nothing of it.
      await sleep(3_000);
      await story.check(again);
      expect((await runCommand('check', settings(url))).code).to.equal(0);
    } finally {
      await again.dispose();
    }
  }

  it('and restored from a dump has all again after a rebuild, though the sweep of orphans was let loose before', async function () {
    const missing = await dumpMissing();
    if (missing) notRun(this, 'pg_dump', missing);
    postgres = await DumpedPostgres.start();
    const url = await postgres.create('live');
    server = await startServer({ embedded: true, environment: { ...EAGER, REGISTRY_DATABASE_URL: url } });
    story = new Story();
    await story.before(server);
    const dump = await postgres.dump('live');
    await story.after(server);
    await story.noteReleases(server);
    await written(url);
    await server.kill();
    await postgres.drop('live');

    const restored = await postgres.restore(dump, 'restored');
    // The session that was committed since looks abandoned.
    expect(
      await ask(restored, 'update uploads set expires_at = now() where body is not null returning id'),
    ).to.have.length(1);
    const held = await filesOf(root());
    const early = await reopened(restored);
    try {
      await sleep(4_000);
      expect([...(await filesOf(root())).keys()]).to.include.members([...held.keys()]);
      expect(await early.log()).to.contain('the storage knows more than the database');
      const meanwhile = await story.put(
        early,
        'meanwhile',
        't',
        Buffer.from('{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'),
        'application/vnd.oci.image.index.v1+json',
      );
      expect(meanwhile).to.match(/^sha256:/);
    } finally {
      await early.dispose();
    }
    const rebuilt = await runCommand('fsck', settings(restored), ['--rebuild']);
    expect(rebuilt.code, rebuilt.said).to.equal(0);
    await expectAllBack(restored);
    await checkStore(restored, root());
  });

  it('comes back into an empty one, twice the same', async () => {
    await live(await database());
    const empty = await database();
    const dry = await runCommand('fsck', settings(empty), ['--rebuild', '--dry-run']);
    expect(dry.code, dry.said).to.equal(0);
    expect(await ask(empty, 'select from blobs')).to.have.length(0);
    const first = await runCommand('fsck', settings(empty), ['--rebuild', '--json']);
    expect(first.code, first.said).to.equal(0);
    const again = await runCommand('fsck', settings(empty), ['--rebuild', '--json']);
    expect(again.code, again.said).to.equal(0);
    const documents = [first, again].map(({ said }) => JSON.parse(said.trim().split('\n').at(-1) ?? '') as Told);
    for (const kind of ['blobs', 'manifests', 'tags'] as const) {
      expect(documents[0]?.counts[kind].made, kind).to.be.greaterThan(0);
      expect(documents[1]?.counts[kind], kind).to.include({ made: 0, missing: 0 });
      expect(documents[1]?.counts[kind].there, kind).to.equal(documents[0]?.counts[kind].made);
    }
    await expectAllBack(empty);
  });

  it('comes back though the rebuild is killed again and again', async () => {
    await live(await database());
    const empty = await database();
    let ended = false;
    for (let wait = 500; !ended && wait < 4_000; wait += 250) {
      const running = await startCommand('fsck', settings(empty), ['--rebuild']);
      const over = await Promise.race([running.outcome, sleep(wait).then(() => undefined)]);
      ended = over !== undefined;
      running.child.kill('SIGKILL');
      await running.outcome;
    }
    const rebuilt = await runCommand('fsck', settings(empty), ['--rebuild']);
    expect(rebuilt.code, rebuilt.said).to.equal(0);
    await expectAllBack(empty);
  });

  it('comes back without the records of some blobs, whose objects are hashed, in one piece and in several', async () => {
    await live(await database());
    // Of all blobs: only links and manifests tell of them.
    const folder = join(root(), 'records');
    let dropped = 0;
    for (const name of await readdir(folder)) {
      const text = await readFile(join(folder, name), 'utf8');
      const lines = text.split('\n').filter((line) => {
        if (!/"kind":"blob"/.test(line) || /"bytes":"/.test(line)) return true;
        dropped += 1;
        return false;
      });
      await writeFile(join(folder, name), lines.join('\n'));
    }
    expect(dropped).to.be.greaterThan(40);
    const empty = await database();
    const rebuilt = await runCommand('fsck', settings(empty), ['--rebuild', '--json']);
    expect(rebuilt.code, rebuilt.said).to.equal(0);
    const told = JSON.parse(rebuilt.said.trim().split('\n').at(-1) ?? '') as Told;
    expect(told.objects.matched).to.be.greaterThan(40);
    await expectAllBack(empty);
  });

  it('is not rebuilt while a registry serves, nor over one that holds other things, and what is missing is told', async () => {
    const url = await database();
    await live(url);
    await server.start();
    const serving = await runCommand('fsck', settings(url), ['--rebuild']);
    expect(serving.code).to.equal(1);
    expect(serving.said).to.contain('stop all nodes first');
    await server.stop();
    const listener = listen(url, silent);
    await until('the lock of a rebuild is held', () => listener.tryLock('rebuild'));
    const started = await runCommand('serve', settings(url));
    await listener.close();
    expect(started.code).to.equal(1);
    expect(started.said).to.contain('a rebuild of this database is under way');

    const empty = await database();
    const [largest] = [...(await filesOf(root()))].sort(([, a], [, b]) => b - a);
    await rm(join(root(), largest?.[0] ?? ''));
    const poorer = await runCommand('fsck', settings(empty), ['--rebuild', '--json']);
    expect(poorer.code, poorer.said).to.equal(1);
    const told = JSON.parse(poorer.said.trim().split('\n').at(-1) ?? '') as Told;
    expect(told.faults.join('\n')).to.contain(largest?.[0]);
    expect(told.counts.blobs.missing).to.equal(1);
    expect(await ask(empty, 'select from record_log where behind')).to.have.length(1);
    const accepted = await runCommand('fsck', settings(empty), ['--rebuild', '--accept-loss']);
    expect(accepted.code).to.equal(1);
    expect(await ask(empty, 'select from record_log where behind')).to.have.length(0);

    const other = await startServer({ environment: EAGER });
    await other.stop();
    const stranger = { ...settings(url), REGISTRY_DATABASE_URL: other.environment.REGISTRY_DATABASE_URL ?? '' };
    const refused = await runCommand('fsck', stranger, ['--rebuild']);
    await other.dispose();
    expect(refused.code).to.equal(1);
    expect(refused.said).to.contain('belongs to another database');
  });
});

interface Told {
  readonly complete: boolean;
  readonly counts: Record<'blobs' | 'links' | 'manifests' | 'tags', { made: number; there: number; missing: number }>;
  readonly objects: { readonly matched: number; readonly kept: number };
  readonly faults: string[];
}
