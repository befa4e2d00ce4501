import { expect } from 'chai';
import { connect } from '../../src/database/connect.js';
import { until } from '../faults/support/processes.js';
import { onDatabase } from '../support/keys.js';
import { freePort, startServer, type TestServer } from '../support/server.js';
import { type Ask, asker, pushFiles, releaseOf, type Resource, told } from './api-scene.js';
import { descriptorOf, digestOf, IMAGE, INDEX, indexOf, pushImage, putManifest } from './content.js';
import { scrape, sumOf } from './exposition.js';

interface Counted {
  readonly pulls: number;
  readonly at: Date;
}

/** What is written down of a manifest, if anything. */
async function countOf(server: TestServer, repository: string, manifest: Buffer): Promise<Counted | undefined> {
  const [row] = await onDatabase(server, (database) =>
    database.query<Counted>(
      `select p.pulls, p.pulled_at as at from manifest_pulls p join repositories r on r.id = p.repository
        where r.name = $1 and p.digest = $2`,
      [repository, digestOf(manifest)],
    ),
  );
  return row;
}

async function ask(server: TestServer, method: string, repository: string, reference: string, headers = {}) {
  const answer = await server.request(method, `/v2/${repository}/manifests/${reference}`, { headers });
  await answer.arrayBuffer();
  return answer.status;
}

describe('pulls', function () {
  this.timeout(120_000);
  let server: TestServer;
  let operations: string;
  before(async () => {
    operations = `127.0.0.1:${await freePort()}`;
    server = await startServer({
      environment: {
        REGISTRY_OPERATIONS_LISTEN: operations,
        REGISTRY_PULLS_INTERVAL: '1',
        REGISTRY_RECORD_INTERVAL: '1',
        REGISTRY_USAGE_INTERVAL: '1',
        // One that is held up must not take the only connection.
        REGISTRY_DATABASE_POOL: '3',
      },
    });
  });
  after(() => server.dispose());

  /** Waits until so much is written down. */
  async function untilCounted(repository: string, manifest: Buffer, pulls: number): Promise<Date> {
    let seen: Counted | undefined;
    await until(`${repository} has ${pulls} pulls`, async () => {
      seen = await countOf(server, repository, manifest);
      expect(seen?.pulls ?? 0).to.be.at.most(pulls);
      return seen?.pulls === pulls;
    });
    return seen?.at ?? new Date(0);
  }
  /** What happens before a pull of another manifest is written down has been written down, too, by that worker. */
  async function settle(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 2_500));
  }

  it('are GETs by a tag and by a digest', async () => {
    const manifest = await pushImage(server, 'pulls/both', 'v1');
    for (const reference of ['v1', digestOf(manifest), 'v1'])
      expect(await ask(server, 'GET', 'pulls/both', reference)).to.equal(200);
    const at = await untilCounted('pulls/both', manifest, 3);
    expect(Date.now() - at.getTime()).to.be.within(-1_000, 20_000);
  });

  it('are not what brings no bytes, which only shows use', async () => {
    const manifest = await pushImage(server, 'pulls/none', 'v1');
    const digest = digestOf(manifest);
    const known = { 'if-none-match': `"${digest}"` };
    expect(await ask(server, 'HEAD', 'pulls/none', digest)).to.equal(200);
    expect(await ask(server, 'HEAD', 'pulls/none', digest, known)).to.equal(304);
    expect(await ask(server, 'GET', 'pulls/none', 'v2')).to.equal(404);
    await settle();
    expect(await countOf(server, 'pulls/none', manifest), 'a HEAD by digest').to.equal(undefined);
    let last = new Date(0);
    for (const [method, reference, headers] of [
      ['HEAD', 'v1', {}],
      ['HEAD', 'v1', known],
      ['GET', 'v1', known],
      ['GET', digest, known],
    ] as const) {
      expect(await ask(server, method, 'pulls/none', reference, headers)).to.equal(
        'if-none-match' in headers ? 304 : 200,
      );
      await until(`${method} ${reference} ${JSON.stringify(headers)} renews`, async () => {
        const seen = await countOf(server, 'pulls/none', manifest);
        const renewed = seen !== undefined && seen.at > last;
        if (renewed) last = seen.at;
        return renewed;
      });
    }
    expect((await countOf(server, 'pulls/none', manifest))?.pulls).to.equal(0);
  });

  it('of an index and of what it lists are apart', async () => {
    const child = await pushImage(server, 'pulls/index', undefined);
    const index = indexOf([descriptorOf(child, IMAGE)]);
    expect((await putManifest(server, 'pulls/index', 'all', index, INDEX)).status).to.equal(201);
    await ask(server, 'GET', 'pulls/index', 'all');
    await untilCounted('pulls/index', index, 1);
    await settle();
    expect(await countOf(server, 'pulls/index', child)).to.equal(undefined);
    for (let count = 0; count < 2; count++) await ask(server, 'GET', 'pulls/index', digestOf(child));
    await untilCounted('pulls/index', child, 2);
    expect((await countOf(server, 'pulls/index', index))?.pulls).to.equal(1);
  });

  it('go with their manifest', async () => {
    const manifest = await pushImage(server, 'pulls/gone', 'v1');
    await ask(server, 'GET', 'pulls/gone', 'v1');
    await untilCounted('pulls/gone', manifest, 1);
    expect(await ask(server, 'DELETE', 'pulls/gone', digestOf(manifest))).to.equal(202);
    expect(await countOf(server, 'pulls/gone', manifest)).to.equal(undefined);
    await pushImage(server, 'pulls/gone', 'v1');
    await ask(server, 'GET', 'pulls/gone', 'v1');
    await untilCounted('pulls/gone', manifest, 1);
  });

  it('of a release and of a repository are told by its usage, and change nothing of the release itself', async () => {
    const MODEL = 'pulls/model';
    const api: Ask = asker(server);
    const manifest = await pushFiles(server, MODEL, 'v1.0', { 'model.safetensors': 'x'.repeat(1_000) });
    const { id } = await releaseOf(api, MODEL, 'v1.0');
    const usage = async () => await told(api('GET', `/releases/${id}/usage`));
    expect(await usage()).to.include({ pulls: 0, last_pulled_at: null });
    const before = await api('GET', `/releases/${id}`);
    expect((await api('GET', `/releases/${id}/manifest`)).status, 'a page of the API is no pull').to.equal(200);
    const inList = async (of: string) =>
      ((await told(api('GET', `/usage/${of}`))).items as Resource[]).find(({ repository }) => repository === MODEL);
    await until('it is listed', async () => (await inList('models')) !== undefined);
    expect(await inList('models')).to.include({ pulls: 0, last_pulled_at: null });
    for (let count = 0; count < 2; count++) await ask(server, 'GET', MODEL, 'v1.0');
    const at = (await untilCounted(MODEL, manifest, 2)).toISOString();
    expect(await usage()).to.include({ pulls: 2, last_pulled_at: at });
    for (const of of ['models', 'repositories']) expect(await inList(of)).to.include({ pulls: 2, last_pulled_at: at });
    const after = await api('GET', `/releases/${id}`);
    expect(after.headers.get('etag')).to.equal(before.headers.get('etag'));
    expect(after.body).to.deep.equal(before.body);
  });

  it('wait for no row and no table, and are counted later', async () => {
    const manifest = await pushImage(server, 'pulls/locked', 'v1');
    const pulled = async () => {
      await until('no worker is late', async () => sumOf(await scrape(operations), 'weighhouse_workers_late') === 0);
      return sumOf(await scrape(operations), 'weighhouse_pulls_total');
    };
    const before = await pulled();
    const database = connect({ url: server.environment.REGISTRY_DATABASE_URL ?? '', pool: 1, timeout: 10 });
    await database.transaction(async (transaction) => {
      await transaction.query('lock table manifest_pulls in access exclusive mode');
      const ends = performance.now() + 3_000;
      for (let count = 0; count < 60 || performance.now() < ends; count++) {
        const begun = performance.now();
        if (count < 60) expect(await ask(server, 'GET', 'pulls/locked', 'v1')).to.equal(200);
        expect(await ask(server, 'HEAD', 'pulls/locked', 'v1')).to.equal(200);
        expect(performance.now() - begun).to.be.below(1_000);
      }
    });
    await database.close();
    await untilCounted('pulls/locked', manifest, 60);
    await until('the metric says so', async () => (await pulled()) === before + 60);
    const metrics = await scrape(operations);
    for (const name of ['dropped', 'write_failures'])
      expect(sumOf(metrics, `weighhouse_pulls_${name}_total`), name).to.equal(0);
  });
});

describe('pulls of a registry that stops', function () {
  this.timeout(60_000);
  let server: TestServer;
  before(async () => {
    server = await startServer({ environment: { REGISTRY_PULLS_INTERVAL: '3600' } });
  });
  after(() => server.dispose());

  it('are written down by all its workers before they end', async () => {
    const manifest = await pushImage(server, 'pulls/stops', 'v1');
    for (let count = 0; count < 20; count++)
      expect(await ask(server, 'GET', 'pulls/stops', 'v1', { connection: 'close' })).to.equal(200);
    expect(await countOf(server, 'pulls/stops', manifest)).to.equal(undefined);
    expect(await server.stop()).to.equal(0);
    expect((await countOf(server, 'pulls/stops', manifest))?.pulls).to.equal(20);
  });
});
