import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createDatabase } from '../support/postgres.js';
import { ADMIN_KEY, freePort } from '../support/server.js';
import { startCommand } from './support/command.js';
import { send } from './support/exchange.js';
import { childrenOf, signal, until } from './support/processes.js';

describe('a node that has just been started', function () {
  this.timeout(120_000);

  it('is ready when all its workers have listened, and from then on while one does', async () => {
    const [database, folder] = [await createDatabase(), await mkdtemp(join(tmpdir(), 'weighhouse-ready-'))];
    const [host, operations] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
    const asleep = "import c from 'node:cluster';if(c.isWorker)process.kill(process.pid,'SIGSTOP')";
    const { child, outcome } = await startCommand('serve', {
      REGISTRY_DATA_DIR: join(folder, 'data'),
      REGISTRY_DATABASE_URL: database.url,
      REGISTRY_LISTEN: host,
      REGISTRY_OPERATIONS_LISTEN: operations,
      // Each worker stands still where it begins.
      NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(asleep)}`,
    });
    const out = async (at: string) => {
      const answer = await send(at, 'GET', '/health', { headers: { authorization: '' } });
      if (answer === undefined) return 'nobody listens';
      const { checks } = JSON.parse(answer.body.toString()) as { checks: Record<string, { status: string }> };
      const names = Object.keys(checks).filter((name) => checks[name]?.status !== 'ok');
      expect(answer.status).to.equal(names.length === 0 ? 200 : 503);
      return names.join();
    };
    const workers = async () => {
      const pids = await childrenOf(child.pid ?? 0);
      const commands = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
      return pids.filter((_, index) => commands[index]?.includes('weighhouse.js'));
    };
    try {
      await until('all but the workers are there', async () => (await out(operations)) === 'workers');
      const [first = 0] = await workers();
      await until('the first worker serves', async () => {
        // It may not have stopped itself yet.
        signal(first, 'SIGCONT');
        return (await out(host)) === 'workers';
      });
      expect(await out(operations)).to.equal('workers');
      await until('there is a second worker', async () => (await workers()).length === 2);
      const second = (await workers()).find((pid) => pid !== first) ?? 0;
      await until('it is ready', async () => {
        signal(second, 'SIGCONT');
        return (await out(operations)) === '';
      });
      expect(await out(host)).to.equal('');
      signal(first, 'SIGKILL');
      await until('another worker takes its place', async () =>
        (await workers()).some((pid) => ![first, second].includes(pid)),
      );
      expect(await out(operations)).to.equal('');
      signal(second, 'SIGKILL');
      await until('nobody serves', async () => (await out(operations)) === 'workers');
    } finally {
      // A worker that stands still outlives the primary: none must be made meanwhile.
      child.kill('SIGSTOP');
      for (const pid of await workers()) signal(pid, 'SIGKILL');
      child.kill('SIGKILL');
      await outcome;
      await database.drop();
      await rm(folder, { recursive: true });
    }
  });

  it('knows its admin key when it first answers', async () => {
    const [database, folder] = [await createDatabase(), await mkdtemp(join(tmpdir(), 'weighhouse-ready-'))];
    const host = `127.0.0.1:${await freePort()}`;
    const { child, outcome } = await startCommand('serve', {
      REGISTRY_DATA_DIR: join(folder, 'data'),
      REGISTRY_DATABASE_URL: database.url,
      REGISTRY_LISTEN: host,
      REGISTRY_ADMIN_KEY: ADMIN_KEY,
      // Its hash takes a second or more.
      REGISTRY_BCRYPT_COST: '14',
    });
    try {
      let status: number | undefined;
      await until('it answers', async () => {
        status = (await send(host, 'GET', '/v2/'))?.status;
        return status !== undefined;
      });
      expect(status).to.equal(200);
    } finally {
      child.kill('SIGTERM');
      await outcome;
      await database.drop();
      await rm(folder, { recursive: true });
    }
  });
});
