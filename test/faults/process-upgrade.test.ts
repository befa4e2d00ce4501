// Two versions of the registry on one database and one folder, as during an upgrade node by node.
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import { migrate } from '../../src/database/migrate.js';
import { MIGRATIONS } from '../../src/database/migrations.js';
import { basic, bearer, makeKey, revoke } from '../support/keys.js';
import { notRun } from '../support/not-run.js';
import { FIRST, hasNoHistory, olderVersion } from '../support/older-version.js';
import { createDatabase, silent, type TestDatabase } from '../support/postgres.js';
import { startServer, type TestServer } from '../support/server.js';
import { Chance, Content } from './support/bytes.js';
import { Crowd } from './support/crowd.js';
import { Exchange, pull, send } from './support/exchange.js';
import { Gate } from './support/gate.js';
import { checkStore, Ledger } from './support/oracle.js';
import { until } from './support/processes.js';
import { Upload } from './support/upload.js';

const MiB = 1024 * 1024;

describe('an upgrade node by node', function () {
  this.timeout(300_000);
  let database: TestDatabase;
  let place: string;
  const servers: TestServer[] = [];

  beforeEach(async () => {
    place = await mkdtemp(join(tmpdir(), 'weighhouse-upgrade-'));
    database = await createDatabase({ empty: true });
  });
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.dispose();
    await database.drop();
    await rm(place, { recursive: true });
  });

  async function node(root?: string): Promise<TestServer> {
    const environment = {
      REGISTRY_DATABASE_URL: database.url,
      REGISTRY_FILESYSTEM_ROOT: join(place, 'blobs'),
      REGISTRY_WORKERS: '1',
    };
    // With no database of its own.
    const server = await startServer({ embedded: true, environment, ...(root === undefined ? {} : { root }) });
    servers.push(server);
    return server;
  }

  /** Clients on a node while something happens; nothing that they ask is refused. */
  async function under(server: TestServer, ledger: Ledger, name: string, work: () => Promise<void>): Promise<void> {
    const gate = new Gate();
    const crowd = new Crowd({ host: server.host, gate, acknowledged: () => undefined }, ledger, name);
    crowd.start(new Chance(name.length));
    try {
      await until('clients are at work', () => ledger.uploads.some(({ committed }) => committed));
      await work();
    } finally {
      await crowd.stop();
    }
    expect(await server.log(), 'requests that failed').not.to.match(/"status":5\d\d|a request failed/);
  }

  it('leaves the requests of the older version alone while the newer one migrates, and they share all that they do', async function () {
    const what = 'an older version beside the present one';
    const root = await olderVersion(FIRST).catch(async (error: unknown) => {
      if (!(await hasNoHistory())) return notRun(this, what, String(error).split('\n')[0] ?? '');
      console.log(`not run: ${what}: this checkout has no history`);
      return this.skip();
    });
    const older = await node(root);
    const ledger = new Ledger();
    let newer = older;
    await under(older, ledger, 'migrated', async () => {
      newer = await node();
    });
    expect(newer).not.to.equal(older);
    await ledger.check(newer.host, true);
    await checkStore(database.url, join(place, 'blobs'));

    // A session in turn on both, and ended on each.
    for (const [first, second] of [
      [older, newer],
      [newer, older],
    ] as const) {
      const content = new Content(first.host, 3 * MiB);
      const path = (await send(first.host, 'POST', '/v2/shared/blobs/uploads/'))?.headers.location ?? '';
      for (let at = 0; at < content.size; at += MiB) {
        const range = { 'content-range': `${at}-${at + MiB - 1}`, 'content-length': MiB };
        const patch = new Exchange((at / MiB) % 2 === 0 ? first.host : second.host, 'PATCH', path, range);
        await patch.write(content.part(at, at + MiB));
        patch.end();
        expect((await patch.answer)?.status).to.equal(202);
      }
      expect((await send(first.host, 'PUT', `${path}?digest=${content.digest}`))?.status).to.equal(201);
      const pulled = await pull(second.host, `/v2/shared/blobs/${content.digest}`);
      expect(pulled).to.include({ status: 200, digest: content.digest, whole: true });
    }

    // Keys and their tokens: of either, for either, and gone from both.
    for (const [first, second] of [
      [older, newer],
      [newer, older],
    ] as const) {
      const key = await makeKey(first, ['shared=pull']);
      const authorization = await bearer(first, basic(key.text), 'shared');
      const asked = async (server: TestServer) =>
        (await server.request('GET', '/v2/shared/tags/list', { headers: { authorization } })).status;
      expect(await asked(second)).to.be.oneOf([200, 404]);
      await revoke(first, key.id);
      for (const server of [first, second])
        await until('the key is refused', async () => (await asked(server)) === 401);
    }
  });

  it('leaves the requests of this version alone while the next one adds to the schema, and this one starts again', async () => {
    const server = await node();
    const folder = join(place, 'migrations');
    await cp(MIGRATIONS, folder, { recursive: true });
    const next = {
      '9001_adds.sql': `alter table uploads add column weight bigint; alter table blobs add column weight bigint not null default 0;
        create table weights (blob text collate "C" references blobs (digest));`,
      '9002_index.sql': `-- concurrently\ndrop index concurrently if exists segments_late;
create index concurrently segments_late on segments (length, id);\n`,
    };
    for (const [name, sql] of Object.entries(next)) await writeFile(join(folder, name), sql);
    const ledger = new Ledger();
    await under(server, ledger, 'next', async () => {
      expect(await migrate(database.url, silent, pathToFileURL(`${folder}/`))).to.deep.equal(Object.keys(next));
    });
    expect(await server.stop()).to.equal(0);
    await server.start();
    const upload = new Upload(
      { host: server.host, gate: new Gate(), acknowledged: () => undefined },
      'after',
      new Content('after', MiB),
    );
    ledger.uploads.push(upload);
    await upload.finish();
    await ledger.check(server.host, true);
  });
});
