import { expect } from 'chai';
import { readFile } from 'node:fs/promises';
import { socketsOf, until } from '../faults/support/processes.js';
import { startServer, type TestServer } from '../support/server.js';
import {
  bytesOf,
  close,
  digestOf,
  expectBlob,
  openUpload,
  patch,
  pushBlob,
  pushImage,
  untilOffset,
} from './content.js';
import { head, Wire } from './wire.js';

const MiB = 1024 * 1024;
const REPOSITORY = 'timeouts/model';

describe('slow and silent clients', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({
      environment: {
        REGISTRY_WORKERS: '1',
        REGISTRY_IDLE_TIMEOUT: '2',
        REGISTRY_HEADERS_TIMEOUT: '2',
        REGISTRY_KEEP_ALIVE_TIMEOUT: '3',
        REGISTRY_MANIFEST_MAX_BYTES: String(32 * MiB),
      },
    });
  });
  after(async () => {
    await server?.dispose();
  });

  it('are cut off with 408 when the head of a request takes too long', async () => {
    const wire = (await Wire.open(server.host)).write('GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ');
    const drip = setInterval(() => wire.socket.write('x'), 100);
    try {
      await wire.untilClosed();
    } finally {
      clearInterval(drip);
    }
    expect(wire.status).to.equal(408);
  });

  it('are cut off in an upload of which nothing comes, and what came is kept', async () => {
    const bytes = bytesOf('silent', 100_000);
    const location = await openUpload(server, REPOSITORY);
    const wire = await Wire.open(server.host);
    wire.write(head('PATCH', location, `Content-Length: ${bytes.length}`)).write(bytes.subarray(0, 40_000));
    await wire.untilClosed();
    expect(wire.ageMs).to.be.greaterThan(1500);
    await untilOffset(server, location, 40_000);
    await patch(server, location, bytes.subarray(40_000), 40_000);
    expect((await close(server, location, digestOf(bytes))).status).to.equal(201);
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('are not cut off as long as a byte comes now and then', async () => {
    const bytes = bytesOf('drip', 10);
    const location = await openUpload(server, REPOSITORY);
    const wire = await Wire.open(server.host);
    wire.write(head('PUT', `${location}?digest=${digestOf(bytes)}`, 'Content-Length: 10'));
    for (const byte of bytes) {
      await new Promise((resolve) => setTimeout(resolve, 400));
      wire.write(Buffer.from([byte]));
    }
    await wire.untilAnswers(1);
    expect(wire.status).to.equal(201);
    expect(wire.ageMs).to.be.greaterThan(3500);
    wire.end();
  });

  // Each more than the sockets of both sides hold, so that the client has to take some of it.
  const stalled: [string, () => Promise<string>][] = [
    ['a blob', async () => `blobs/${await pushBlob(server, REPOSITORY, bytesOf('stalled', 30 * MiB))}`],
    [
      'a blob of which only the end is left',
      async () => `blobs/${await pushBlob(server, REPOSITORY, bytesOf('end', 6 * MiB))}`,
    ],
    [
      'a large manifest',
      async () => {
        await pushImage(server, REPOSITORY, 'large', { annotations: { large: 'x'.repeat(20_000_000) } });
        return 'manifests/large';
      },
    ],
  ];
  it('are cut off when they ask for much and take nothing', async () => {
    const wires = await Promise.all(
      stalled.map(async ([what, target]) => {
        // First: a connection must not wait for its head as long as a push may take.
        const request = head('GET', `/v2/${REPOSITORY}/${await target()}`);
        const wire = await Wire.open(server.host);
        wire.socket.pause();
        wire.write(request);
        return { what, wire };
      }),
    );
    // Node gives a connection on which something had moved a second turn.
    await new Promise((resolve) => setTimeout(resolve, 6500));
    await until('the registry holds no connection any more', async () =>
      (await socketsOf(server)).every(({ count }) => count === 0),
    );
    for (const { what, wire } of wires) {
      wire.socket.resume();
      await wire.untilClosed();
      const [, length] = /content-length: (\d+)/i.exec(wire.text) ?? [];
      expect(wire.received.length, what).to.be.lessThan(Number(length));
    }
  });

  it('keep an idle connection for its time and no longer', async () => {
    const bytes = bytesOf('idle', 1000);
    const path = `/v2/${REPOSITORY}/blobs/${await pushBlob(server, REPOSITORY, bytes)}`;
    const requests = [head('GET', '/v2/'), head('GET', path), head('GET', '/nothing')];
    await Promise.all(
      requests.map(async (request) => {
        const wire = (await Wire.open(server.host)).write(request);
        await wire.untilAnswers(1);
        await new Promise((resolve) => setTimeout(resolve, 1000));
        await wire.write(request).untilAnswers(2);
        await wire.untilClosed();
      }),
    );
  });

  it('cost little memory by the hundred while they idle', async () => {
    const [worker] = await server.workers();
    const memory = async () =>
      Number(/VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${worker}/status`, 'utf8'))?.[1]) * 1024;
    const before = await memory();
    const wires = await Promise.all(Array.from({ length: 300 }, () => Wire.open(server.host)));
    await Promise.all(wires.map((wire) => wire.write(head('GET', '/v2/')).untilAnswers(1)));
    expect((await memory()) - before).to.be.lessThan(300 * 256 * 1024);
    for (const wire of wires) wire.end();
  });
});
