import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { takeLease } from '../../src/database/embedded-lease.js';
import { createLog } from '../../src/log.js';
import { runCommand } from './support/command.js';
import { EmbeddedSite } from './support/embedded.js';
import { until, untilLogged } from './support/processes.js';

/** Another machine, which knows of the registry by the shared folder alone. */
const ELSEWHERE = { boot: 'elsewhere', local: false };

describe('a registry whose data folder another machine has, too', function () {
  this.timeout(180_000);
  let site: EmbeddedSite;
  before(async () => {
    site = await EmbeddedSite.make();
    const server = await site.start();
    expect(await server.stop()).to.equal(0);
  });
  after(() => site?.clear());

  it('does not start while the other runs the database, nor does a command', async () => {
    const fence = async () => undefined;
    const other = await takeLease(site.dataDir, { log: createLog('silent'), fence, machine: ELSEWHERE });
    try {
      for (const [command, ...args] of [['serve'], ['key', 'list']]) {
        const refused = await runCommand(command ?? '', { REGISTRY_DATA_DIR: site.dataDir }, args);
        expect(refused.code).to.equal(1);
        expect(refused.said).to.include('in use by a registry on another machine');
        expect(refused.said).not.to.include('    at ');
        expect(await site.postmaster()).to.equal(undefined);
      }
    } finally {
      await other.end(true);
    }
  });

  it('gives the database up when the other took it over, and has it again when that has ended', async () => {
    const server = await site.start();
    const lease = join(site.dataDir, 'postgres-lease');
    const text = await readFile(lease, 'utf8');
    const [id, host] = ['another', 'elsewhere'];
    await writeFile(lease, JSON.stringify({ ...(JSON.parse(text) as object), id, host, ...ELSEWHERE }));
    await untilLogged(server, 'another machine has taken the database over');
    await until('PostgreSQL has ended', async () => (await site.postmaster()) === undefined);
    expect((await server.request('GET', '/v2/x/tags/list')).status).to.equal(503);
    await rm(lease);
    await until('it serves again', async () => (await server.request('GET', '/v2/x/tags/list')).status === 404, 60_000);
    expect(await server.stop()).to.equal(0);
  });
});
