import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import { startServer, type TestServer } from '../support/server.js';
import { Content } from './support/bytes.js';
import { runCommand } from './support/command.js';
import { pull, send } from './support/exchange.js';
import { until, untilLogged } from './support/processes.js';

describe('two nodes and the folder that they share', function () {
  this.timeout(180_000);
  let database: TestDatabase;
  let nodes: TestServer[];

  beforeEach(async () => {
    database = await createDatabase();
    nodes = [];
  });
  afterEach(async () => {
    // One's folder holds what the other still writes.
    await Promise.all(nodes.map((node) => node.stop()));
    for (const node of nodes) await node.dispose();
    await database.drop();
  });

  async function node(root: string): Promise<TestServer> {
    const environment = { REGISTRY_DATABASE_URL: database.url, ...(root && { REGISTRY_FILESYSTEM_ROOT: root }) };
    const server = await startServer({ embedded: true, environment });
    nodes.push(server);
    return server;
  }

  const blobsOf = (server: TestServer) => join(server.folder, 'data', 'blobs');
  const settings = (root: string) => ({
    REGISTRY_DATABASE_URL: database.url,
    REGISTRY_DATA_DIR: join(root, '..', 'other'),
    REGISTRY_FILESYSTEM_ROOT: root,
  });

  it('a node with a folder of its own is refused before anything was pushed, one with the same folder serves', async () => {
    const first = await node('');
    const own = join(first.folder, 'own');
    const refused = await runCommand('serve', settings(own));
    expect(refused.code).to.equal(1);
    expect(refused.said).to.include(`the storage ${own} can't be used`);
    expect(refused.said).to.match(/is it mounted\?.*weighhouse adopt/);
    const second = await node(blobsOf(first));
    const content = new Content('shared', 1_000_000);
    const body = content.part(0, content.size);
    expect(
      (await send(first.host, 'POST', `/v2/shared/blobs/uploads/?digest=${content.digest}`, { body }))?.status,
    ).to.equal(201);
    expect((await pull(second.host, `/v2/shared/blobs/${content.digest}`))?.digest).to.equal(content.digest);
  });

  it('a restored copy is taken by `weighhouse adopt`, and a node on the former folder says that it is not well', async () => {
    const first = await node('');
    await until('the first node is well', async () => (await first.request('GET', '/health')).status === 200);
    const content = new Content('moved', 1_000_000);
    const body = content.part(0, content.size);
    await send(first.host, 'POST', `/v2/moved/blobs/uploads/?digest=${content.digest}`, { body });
    const copy = join(first.folder, 'copy');
    await cp(blobsOf(first), copy, { recursive: true });
    const adopted = await runCommand('adopt', settings(copy));
    expect(adopted).to.deep.equal({ code: 0, said: `${copy} is the storage of this database now\n` });
    await until('the first node is not well', async () => (await first.request('GET', '/health')).status === 503);
    await untilLogged(first, 'other nodes use another storage');
    const former = await runCommand('serve', settings(blobsOf(first)));
    expect(former.code).to.equal(1);
    expect(former.said).to.match(/not the one that the nodes of this database used last/);
    const second = await node(copy);
    expect((await pull(second.host, `/v2/moved/blobs/${content.digest}`))?.digest).to.equal(content.digest);
    await until('the second node is well', async () => (await second.request('GET', '/health')).status === 200);
  });
});
