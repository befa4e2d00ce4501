import { join } from 'node:path';
import { expect } from 'chai';
import { ask, checkStore, filesOf } from '../faults/support/oracle.js';
import { descriptorsOf, memoryOf, socketsAt, until } from '../faults/support/processes.js';
import type { TestServer } from '../support/server.js';

/** More than a worker needs that did all of it, in MiB; what leaks by the request passes it within minutes. */
const MAX_RSS = 500;

/** What a worker holds when nobody asks anything of it, in MiB each. */
export async function memoryOfWorkers(server: TestServer): Promise<number[]> {
  return (await Promise.all((await server.workers()).map(memoryOf))).map(({ rss }) => rss);
}

/** Nothing is left of what was begun: no connection, session, file or line in the log. @throws AssertionError */
export async function expectNothingLeft(server: TestServer, workers: readonly number[]): Promise<void> {
  expect(await server.workers(), 'no worker died').to.deep.equal(workers);
  const log = (await server.log()).split('\n').filter((line) => /"level":"(error|fatal)"|Warning:|^\s+at /.test(line));
  expect(log.slice(0, 10).join('\n'), 'lines in the log').to.equal('');
  const port = Number(server.host.split(':')[1]);
  const root = join(server.environment.REGISTRY_DATA_DIR ?? '', 'blobs');
  await until('connections and files are closed', async () => {
    const sockets = await socketsAt(port);
    const held = (await Promise.all(workers.map(descriptorsOf))).flat();
    return !held.some((name) => sockets.has(name) || name.startsWith(root));
  });
  const url = server.environment.REGISTRY_DATABASE_URL ?? '';
  await until(
    'sessions have expired and their bytes are removed',
    async () => {
      const [row] = await ask<{ sessions: number; removals: number }>(
        url,
        `select (select count(*)::int from uploads where committed_digest is null) as sessions,
                (select count(*)::int from removals) as removals`,
      );
      return row?.sessions === 0 && row.removals === 0;
    },
    120_000,
  );
  await checkStore(url, root);
  const named = await ask(url, 'select key from segments where position is not null and length > 0 and bytes is null');
  expect((await filesOf(root)).size, 'files').to.equal(named.length);
  for (const rss of await memoryOfWorkers(server)) expect(rss, 'MiB of a worker').to.be.lessThan(MAX_RSS);
}
