import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { askToken, basic, makeKey, revoke, type TokenAnswer } from '../support/keys.js';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import { AUTHORIZATION, startServer, type TestServer } from '../support/server.js';
import { Content } from './support/bytes.js';
import { Exchange, pull, send } from './support/exchange.js';
import { ask } from './support/oracle.js';
import { until } from './support/processes.js';

const MiB = 1024 * 1024;
const SHIFTED = new URL('../support/shifted-clock.js', import.meta.url).href;

describe('two nodes of which one is a minute ahead of PostgreSQL and the other a minute behind', function () {
  this.timeout(120_000);
  let database: TestDatabase;
  let place: string;
  const servers: TestServer[] = [];

  before(async () => {
    place = await mkdtemp(join(tmpdir(), 'weighhouse-clocks-'));
    database = await createDatabase();
    for (const seconds of [60, -60])
      servers.push(
        await startServer({
          embedded: true,
          nodeOptions: ['--import', SHIFTED],
          environment: {
            TEST_CLOCK_SECONDS: String(seconds),
            REGISTRY_DATABASE_URL: database.url,
            REGISTRY_FILESYSTEM_ROOT: join(place, 'blobs'),
            REGISTRY_WORKERS: '1',
            REGISTRY_JOB_INTERVAL: '1',
            // Less than they are apart.
            REGISTRY_TOKEN_LIFETIME: '60',
            REGISTRY_UPLOAD_LIFETIME: '60',
          },
        }),
      );
  });
  after(async () => {
    for (const server of servers) await server.dispose();
    await database?.drop();
    await rm(place, { recursive: true });
  });

  /** Each of the two as the first. */
  const ways = () =>
    [servers, servers.toReversed()].map(([first, second]) => {
      if (!first || !second) throw new Error('there are no two');
      return { first, second };
    });

  it('say so in their own times', async () => {
    const dates = await Promise.all(
      servers.map(async (server) => {
        const answer = (await (await askToken(server, AUTHORIZATION)).json()) as TokenAnswer;
        return Date.parse(answer.issued_at);
      }),
    );
    expect((dates[0] ?? 0) - (dates[1] ?? 0)).to.be.above(60_000);
  });

  it('take each other’s tokens until they end, and refuse those of a revoked key', async () => {
    for (const { first, second } of ways()) {
      const key = await makeKey(first, ['clocks=pull,push']);
      const given = await askToken(first, basic(key.text), [['scope', 'repository:clocks:pull']]);
      const { token, expires_in: lifetime } = (await given.json()) as TokenAnswer;
      expect(lifetime).to.equal(60);
      const headers = { authorization: `Bearer ${token}` };
      const status = async (server: TestServer) =>
        (await server.request('GET', '/v2/clocks/tags/list', { headers })).status;
      expect(await status(second)).to.equal(404);
      await revoke(first, key.id);
      await until('the token is refused', async () => (await status(second)) === 401);
      expect(await status(first)).to.equal(401);
    }
  });

  it('share an upload, which neither takes for one that has expired', async () => {
    for (const { first, second } of ways()) {
      const content = new Content(first.host, 2 * MiB);
      const path = (await send(first.host, 'POST', '/v2/clocks/blobs/uploads/'))?.headers.location ?? '';
      for (const [server, at] of [
        [first, 0],
        [second, MiB],
      ] as const) {
        const range = { 'content-range': `${at}-${at + MiB - 1}`, 'content-length': MiB };
        const patch = new Exchange(server.host, 'PATCH', path, range);
        await patch.write(content.part(at, at + MiB));
        patch.end();
        expect((await patch.answer)?.status).to.equal(202);
      }
      // One that is over for PostgreSQL shows that the job has run since.
      const over = (await send(second.host, 'POST', '/v2/clocks/blobs/uploads/'))?.headers.location ?? '';
      const id = over.split('/').at(-1);
      await ask(database.url, `update uploads set expires_at = now() where id = '${id}'`);
      await until(
        'the job has run',
        async () => (await ask(database.url, `select from uploads where id = '${id}'`)).length === 0,
      );
      expect((await send(first.host, 'PUT', `${path}?digest=${content.digest}`))?.status).to.equal(201);
      const pulled = await pull(second.host, `/v2/clocks/blobs/${content.digest}`);
      expect(pulled).to.include({ status: 200, digest: content.digest, whole: true });
    }
  });
});
