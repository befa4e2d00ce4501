import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { Content } from './support/bytes.js';
import { pull, send, Exchange } from './support/exchange.js';
import { ask } from './support/oracle.js';
import { until } from './support/processes.js';
import { scrape, sumOf } from '../http/exposition.js';
import { freePort, startServer, type TestServer } from '../support/server.js';

const MiB = 1024 * 1024;
const PREFIX = '/weighhouse-blobs/';

describe('a registry that compacts', function () {
  this.timeout(120_000);
  let server: TestServer | undefined;

  afterEach(async () => await server?.dispose());

  it('and is killed in the middle of it begins again, hands the blob over as one file, and leaves nothing behind', async () => {
    const operations = `127.0.0.1:${await freePort()}`;
    const settings = {
      REGISTRY_OPERATIONS_LISTEN: operations,
      REGISTRY_X_ACCEL_PREFIX: PREFIX,
      REGISTRY_COMPACTION_INTERVAL: '1',
      REGISTRY_JOB_INTERVAL: '1',
      REGISTRY_REMOVAL_DELAY: '0',
      REGISTRY_REMOVAL_SHARE: '100',
      REGISTRY_READ_GRACE: '0',
    };
    const environment: Record<string, string> = { ...settings, REGISTRY_COMPACTION_RATE: String(MiB / 4) };
    server = await startServer({ environment });
    const { host } = server;
    const database = server.environment.REGISTRY_DATABASE_URL ?? '';
    const blobs = join(server.environment.REGISTRY_DATA_DIR ?? '', 'blobs');
    const files = async () =>
      (await readdir(blobs, { recursive: true })).filter((name) => /\/[0-9a-f-]{36}\./.test(name));

    const content = new Content('compacted', 24 * MiB);
    const begun = await send(host, 'POST', '/v2/compacted/blobs/uploads/');
    const path = begun?.headers.location ?? '';
    for (let at = 0; at < content.size; at += 8 * MiB) {
      const length = 8 * MiB;
      const exchange = new Exchange(host, 'PATCH', path, {
        'content-range': `${at}-${at + length - 1}`,
        'content-length': length,
      });
      await exchange.write(content.part(at, at + length));
      exchange.end();
      expect((await exchange.answer)?.status).to.equal(202);
    }
    expect((await send(host, 'PUT', `${path}?digest=${content.digest}`))?.status).to.equal(201);
    const blob = `/v2/compacted/blobs/${content.digest}`;
    expect(await pull(host, blob)).to.include({ size: content.size, digest: content.digest });

    // It takes a minute and a half at this pace.
    const passed = async () => sumOf(await scrape(operations), 'weighhouse_compacted_bytes_total');
    await until('it compacts', async () => (await passed()) > 0, 30_000);
    await server.kill();
    expect((await files()).length).to.equal(4);
    environment.REGISTRY_COMPACTION_RATE = String(1024 * MiB);
    Object.assign(server.environment, environment);
    await server.start();
    expect(await pull(host, blob)).to.include({ size: content.size, digest: content.digest });
    await ask(database, `update replacements set touched_at = now() - interval '1 hour'`);
    await until(
      'it is one file',
      async () => (await send(host, 'GET', blob))?.headers['x-accel-redirect'] !== undefined,
      60_000,
    );
    await until('it is the only one', async () => (await files()).length === 1, 30_000);
    expect((await send(host, 'GET', blob))?.headers['x-accel-redirect']).to.equal(PREFIX + (await files())[0]);
    expect(await ask(database, 'select from replacements')).to.have.length(0);
    await until('its end is counted', async () => {
      const metrics = await scrape(operations);
      return sumOf(metrics, 'weighhouse_compactions_total', { outcome: 'done' }) === 1;
    });
    expect(await passed()).to.equal(content.size);
  });
});
