import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import { startServer, type TestServer } from '../support/server.js';
import { send } from './support/exchange.js';
import { ask } from './support/oracle.js';
import { signal, until } from './support/processes.js';

const PATIENCE_MS = 90_000;

describe('the jobs of two nodes', function () {
  this.timeout(300_000);
  let database: TestDatabase;
  let place: string;
  const servers: TestServer[] = [];

  before(async () => {
    place = await mkdtemp(join(tmpdir(), 'weighhouse-jobs-'));
    database = await createDatabase();
  });
  after(async () => {
    for (const server of servers) await server.dispose();
    await database?.drop();
    await rm(place, { recursive: true });
  });

  async function node(): Promise<TestServer> {
    const environment = {
      REGISTRY_DATABASE_URL: database.url,
      REGISTRY_FILESYSTEM_ROOT: join(place, 'blobs'),
      REGISTRY_WORKERS: '1',
      REGISTRY_JOB_INTERVAL: '1',
    };
    const server = await startServer({ embedded: true, environment });
    servers.push(server);
    return server;
  }

  /** The connections that hold the locks of jobs. */
  const holders = async () =>
    (
      await ask<{ pid: number }>(
        database.url,
        `select distinct pid from pg_locks where locktype = 'advisory' and granted and objsubid = 1 and pid in (
           select pid from pg_stat_activity where application_name like 'weighhouse listener%' and datname = current_database())`,
      )
    ).map(({ pid }) => pid);

  /** Waits until somebody has ended a session that expired just now. */
  async function untilDone(server: TestServer): Promise<void> {
    const location = (await send(server.host, 'POST', '/v2/jobs/blobs/uploads/'))?.headers.location ?? '';
    const id = location.split('/').at(-1);
    await ask(database.url, `update uploads set expires_at = now() where id = '${id}'`);
    await until(
      'an expired session is ended',
      async () => (await ask(database.url, `select from uploads where id = '${id}'`)).length === 0,
      PATIENCE_MS,
    );
  }

  it('are those of one, and of the other when that stands still or dies', async () => {
    const first = await node();
    await untilDone(first);
    const [holder] = await holders();
    const second = await node();
    await untilDone(second);
    expect(await holders(), 'the second leaves them to the first').to.deep.equal([holder]);

    // Its connections stay open, and nothing tells PostgreSQL that nobody is behind them.
    const stopped = [first.process.pid ?? 0, ...(await first.workers())];
    for (const pid of stopped) signal(pid, 'SIGSTOP');
    try {
      await untilDone(second);
      const successors = await holders();
      expect(successors).not.to.include(holder);
      for (const pid of stopped) signal(pid, 'SIGCONT');
      await until('the first serves again', async () => (await send(first.host, 'GET', '/v2/'))?.status === 200);
      await untilDone(first);
      // Of jobs that run seldom nobody may have taken the lock yet.
      expect(await holders()).to.include.members(successors);
    } finally {
      for (const pid of stopped) signal(pid, 'SIGCONT');
    }

    await second.kill();
    await untilDone(first);
  });
});
