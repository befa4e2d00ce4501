import { join } from 'node:path';
import { expect } from 'chai';
import { startServer, type TestServer } from '../support/server.js';
import { Content } from './support/bytes.js';
import { Exchange, pull } from './support/exchange.js';
import { Gate } from './support/gate.js';
import { ask, checkStore, filesOf } from './support/oracle.js';
import { descriptorsOf, socketsAt, until, untilTaken } from './support/processes.js';
import { Upload } from './support/upload.js';

const MiB = 1024 * 1024;

describe('a client that vanishes', function () {
  this.timeout(120_000);
  let server: TestServer;
  before(async () => {
    server = await startServer({
      environment: {
        REGISTRY_JOB_INTERVAL: '1',
        REGISTRY_REMOVAL_DELAY: '0',
        REGISTRY_REMOVAL_SHARE: '100',
        REGISTRY_UPLOAD_LIFETIME: '10',
        REGISTRY_KEEP_ALIVE_TIMEOUT: '1',
      },
    });
  });
  after(() => server.dispose());

  function uploadOf(name: string, size: number): Upload {
    const traffic = { host: server.host, gate: new Gate(), acknowledged: () => undefined };
    return new Upload(traffic, `vanishing/${name.replaceAll(' ', '-').toLowerCase()}`, new Content(name, size));
  }

  const root = () => join(server.environment.REGISTRY_DATA_DIR ?? '', 'blobs');

  /** What the workers hold for clients: their connections, and the files that they read or write. */
  async function held(): Promise<string[]> {
    const connections = await socketsAt(Number(server.host.split(':')[1]));
    const lists = await Promise.all((await server.workers()).map(descriptorsOf));
    return lists.flat().filter((name) => connections.has(name) || name.startsWith(root()));
  }

  /** The offset, when the request that was broken off has ended: it closes its file after its last record. */
  async function settled(upload: Upload): Promise<number> {
    await untilTaken(server);
    await until('no file is written', async () => !(await held()).some((name) => name.startsWith(root())));
    return (await upload.status()) ?? -1;
  }

  it('leaves what it had sent, and the rest completes the blob', async () => {
    // Connections to PostgreSQL are opened when they are first needed, and count among the sockets.
    await uploadOf('warm', 10).finish();
    for (const method of ['PATCH', 'PUT'] as const) {
      const upload = uploadOf(`middle of ${method}`, 24 * MiB);
      await upload.begin();
      const path = method === 'PUT' ? `${upload.path}?digest=${upload.content.digest}` : upload.path;
      const length = { 'content-length': upload.content.size };
      const exchange = new Exchange(server.host, method, path, method === 'PUT' ? length : {});
      const sent = 9 * MiB + 12_345;
      for (const piece of upload.content.chunks(0, sent, 64 * 1024)) await exchange.write(piece);
      upload.reached = sent;
      exchange.vanish();
      expect(await exchange.answer).to.equal(undefined);
      await until('what arrived is recorded', async () => ((await upload.status()) ?? 0) > 0);
      const offset = await settled(upload);
      expect(offset).to.be.above(sent - 4 * MiB);
      expect(await upload.put({ ranged: true })).to.equal('done');
      const pulled = await pull(server.host, upload.blobPath);
      expect(pulled).to.include({ status: 200, size: upload.content.size, digest: upload.content.digest, whole: true });
    }
  });

  it('costs the workers no descriptor, however many vanish while they push or pull', async () => {
    const blob = uploadOf('to be pulled', 16 * MiB);
    await blob.finish();
    // The listening socket of each worker.
    const baseline = (await server.workers()).length;
    await until('nothing is held for clients that left', async () => (await held()).length <= baseline);
    for (let round = 0; round < 4; round++) {
      const uploads = Array.from({ length: 10 }, (_, index) => uploadOf(`many ${round} ${index}`, 4 * MiB));
      await Promise.all(
        uploads.map(async (upload, index) => {
          await upload.begin();
          const exchange = new Exchange(
            server.host,
            index % 2 === 0 ? 'PATCH' : 'PUT',
            `${upload.path}?digest=${upload.content.digest}`,
          );
          for (const piece of upload.content.chunks(0, index * 100_000, 64 * 1024)) await exchange.write(piece);
          exchange.vanish();
        }),
      );
      const pulls = Array.from({ length: 10 }, () =>
        pull(server.host, blob.blobPath, (bytes) => {
          if (bytes > 1 * MiB) throw new Error('enough');
        }),
      );
      for (const pulled of await Promise.all(pulls)) expect(pulled?.whole).to.equal(false);
    }
    await until('all descriptors are back', async () => (await held()).length <= baseline, 30_000);
  });

  it('leaves nothing on the disk when its session has expired', async () => {
    const url = server.environment.REGISTRY_DATABASE_URL ?? '';
    const removed = async () => {
      const [row] = await ask<{ sessions: number; removals: number }>(
        url,
        `select (select count(*)::int from uploads where committed_digest is null) as sessions,
                (select count(*)::int from removals) as removals`,
      );
      return row?.sessions === 0 && row.removals === 0;
    };
    await until('sessions and removals are gone', removed, 60_000);
    await checkStore(url, root());
    const named = await ask(
      url,
      'select key from segments where position is not null and length > 0 and bytes is null',
    );
    expect((await filesOf(root())).size).to.equal(named.length);
  });
});
