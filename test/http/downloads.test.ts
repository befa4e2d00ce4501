import { expect } from 'chai';
import { until, untilLogged } from '../faults/support/processes.js';
import { readdir, readlink, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { startServer, type TestServer } from '../support/server.js';
import { bytesOf, close, digestOf, expectError, openUpload, patch, pushBlob } from './content.js';
import { exchange, head, Wire } from './wire.js';

const MiB = 1024 * 1024;

describe('downloads over HTTP', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({
      environment: { REGISTRY_WORKERS: '1', REGISTRY_RANGES_MAX: '3', REGISTRY_DOWNLOAD_MEMORY: String(MiB) },
    });
  });
  after(async () => {
    await server?.dispose();
  });

  const pathOf = (digest: string) => `/v2/downloads/model/blobs/${digest}`;
  const blobs = () => join(server.folder, 'data', 'blobs');

  /** The files of segments in the store. */
  async function segments(): Promise<string[]> {
    const entries = await readdir(blobs(), { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile() && /\.[0-9a-f]{16}$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name));
  }

  /** Pushes in chunks of these sizes. @returns the file of each chunk. */
  async function pushSegments(bytes: Buffer, sizes: readonly number[]): Promise<string[]> {
    const location = await openUpload(server, 'downloads/model');
    const files: string[] = [];
    let at = 0;
    for (const size of sizes) {
      const before = new Set(await segments());
      await patch(server, location, bytes.subarray(at, at + size), at);
      files.push(...(await segments()).filter((file) => !before.has(file)));
      at += size;
    }
    expect((await close(server, location, digestOf(bytes))).status).to.equal(201);
    expect(files).to.have.lengthOf(sizes.length);
    return files;
  }

  /** Segment files that the worker has open. */
  async function openSegments(): Promise<string[]> {
    const [worker] = await server.workers();
    const links = await Promise.all(
      (await readdir(`/proc/${worker}/fd`)).map((fd) => readlink(`/proc/${worker}/fd/${fd}`).catch(() => '')),
    );
    return links.filter((link) => link.startsWith(`${blobs()}/`));
  }

  async function untilNothingOpen(): Promise<void> {
    await until('no segment is open', async () => (await openSegments()).length === 0);
  }

  it('says of a blob what lets it be kept for ever, and its length, to GET and to HEAD', async () => {
    const bytes = bytesOf('headers', 5000);
    const digest = await pushBlob(server, 'downloads/model', bytes);
    for (const method of ['GET', 'HEAD']) {
      const answer = await exchange(server.host, method, pathOf(digest), {
        headers: { 'accept-encoding': 'gzip, br, zstd, deflate' },
      });
      expect(answer.status).to.equal(200);
      expect(answer.headers).to.include({
        'content-length': '5000',
        'content-type': 'application/octet-stream',
        'docker-content-digest': digest,
        'accept-ranges': 'bytes',
        'x-content-type-options': 'nosniff',
        etag: `"${digest}"`,
      });
      expect(answer.headers['cache-control']).to.include('immutable');
      expect(answer.headers['content-encoding']).to.equal(undefined);
      expect(answer.headers['transfer-encoding']).to.equal(undefined);
      expect(answer.body.equals(method === 'GET' ? bytes : Buffer.alloc(0))).to.equal(true);
    }
  });

  it('never compresses what compresses well', async () => {
    const bytes = Buffer.alloc(2 * MiB, 'a');
    const digest = await pushBlob(server, 'downloads/model', bytes);
    const answer = await exchange(server.host, 'GET', pathOf(digest), { headers: { 'accept-encoding': 'gzip' } });
    expect(answer.headers['content-encoding']).to.equal(undefined);
    expect(answer.headers['content-length']).to.equal(String(bytes.length));
    expect(answer.body.equals(bytes)).to.equal(true);
  });

  it('answers 304 to If-None-Match without opening the file, also when it is gone', async () => {
    const bytes = bytesOf('not modified', 1000);
    const [file] = await pushSegments(bytes, [1000]);
    await rm(file ?? '');
    for (const method of ['GET', 'HEAD']) {
      const headers = { 'if-none-match': `"${digestOf(bytes)}"` };
      const answer = await exchange(server.host, method, pathOf(digestOf(bytes)), { headers });
      expect(answer.status).to.equal(304);
      expect(answer.headers.etag).to.equal(`"${digestOf(bytes)}"`);
      expect(answer.headers['content-length']).to.equal(undefined);
    }
  });

  it('sends the whole blob to a request for more ranges than the limit', async () => {
    const bytes = bytesOf('ranges', 1000);
    const digest = await pushBlob(server, 'downloads/model', bytes);
    const ask = (range: string) => exchange(server.host, 'GET', pathOf(digest), { headers: { range } });
    expect((await ask('bytes=0-0,2-2,4-4')).status).to.equal(206);
    expect((await ask('bytes=0-0,2-2,4-4,6-6')).status).to.equal(200);
  });

  for (const [what, damage] of [
    ['is gone', (file: string) => rm(file)],
    ['lost its last byte', (file: string) => truncate(file, 4999)],
    ['is empty', (file: string) => truncate(file, 0)],
  ] as const) {
    it(`answers an error before the first byte for a blob whose file ${what}`, async () => {
      const bytes = bytesOf(what, 5000);
      const [file] = await pushSegments(bytes, [5000]);
      await damage(file ?? '');
      for (const range of [undefined, 'bytes=0-4999', 'bytes=-10', 'bytes=-10,0-0']) {
        const headers: Record<string, string> = range ? { range } : {};
        const answer = await server.request('GET', pathOf(digestOf(bytes)), { headers });
        for (const name of ['etag', 'cache-control', 'docker-content-digest', 'content-range'])
          expect(answer.headers.get(name), name).to.equal(null);
        await expectError(answer, 500, 'UNKNOWN');
        const id = answer.headers.get('x-request-id') ?? 'none';
        await untilLogged(server, new RegExp(`"requestId":"${id}".*"msg":"a request failed"`));
      }
      expect((await server.request('HEAD', pathOf(digestOf(bytes)))).status, 'from the rows alone').to.equal(200);
    });
  }

  it('breaks the connection when a later file is short, never ending a short 200 well', async () => {
    // A second chunk that is larger than the first would swallow it.
    const bytes = bytesOf('later damage', 190_000);
    const [, second] = await pushSegments(bytes, [100_000, 90_000]);
    await truncate(second ?? '', 89_999);
    for (const range of ['bytes=0-', 'bytes=0-9,150000-189999']) {
      const wire = await Wire.open(server.host);
      wire.write(head('GET', pathOf(digestOf(bytes)), `Range: ${range}`));
      await wire.untilClosed();
      const [, length] = /content-length: (\d+)/i.exec(wire.text) ?? [];
      const body = wire.received.subarray(wire.received.indexOf('\r\n\r\n') + 4);
      if (wire.status === 206) expect(body.length).to.be.lessThan(Number(length));
      else expect(wire.status).to.equal(500);
    }
    await untilNothingOpen();
  });

  it('breaks the connection when a file is cut under the reading', async () => {
    const bytes = bytesOf('cut', 40 * MiB);
    const [file] = await pushSegments(bytes, [bytes.length]);
    const wire = await Wire.open(server.host);
    wire.write(head('GET', pathOf(digestOf(bytes))));
    await wire.until(({ received }) => received.length > 1000);
    wire.socket.pause();
    await truncate(file ?? '', 20 * MiB);
    wire.socket.resume();
    await wire.untilClosed();
    expect(wire.status).to.equal(200);
    expect(wire.received.length).to.be.lessThan(bytes.length);
    await untilNothingOpen();
  });

  it('frees the file of a client that goes away, at once, also of one whose request waits behind another', async () => {
    const bytes = bytesOf('gone', 40 * MiB);
    await pushSegments(bytes, [bytes.length]);
    const wires = await Promise.all([1, 2, 3].map(() => Wire.open(server.host)));
    for (const wire of wires) {
      wire.socket.pause();
      wire.write(head('GET', pathOf(digestOf(bytes))).repeat(2));
    }
    for (const deadline = performance.now() + 5000; (await openSegments()).length < 6 && performance.now() < deadline; )
      await new Promise((resolve) => setTimeout(resolve, 20));
    await until('each has a file open', async () => (await openSegments()).length >= 3);
    for (const wire of wires) wire.end();
    await untilNothingOpen();
  });

  it('logs a download that was broken off as such', async () => {
    await untilLogged(server, /"status":200,"broken":true/);
  });

  it('hands a blob over to nginx by X-Accel-Redirect when that is set, and only a whole one', async () => {
    const fronted = await startServer({
      environment: { REGISTRY_WORKERS: '1', REGISTRY_X_ACCEL_PREFIX: '/blobs/', REGISTRY_INLINE_MAX_BYTES: '0' },
    });
    try {
      const bytes = bytesOf('accelerated', 3000);
      const path = `/v2/x/accel/blobs/${await pushBlob(fronted, 'x/accel', bytes)}`;
      const answer = await exchange(fronted.host, 'GET', path);
      expect(answer.status).to.equal(200);
      expect(answer.headers['x-accel-redirect']).to.match(/^\/blobs\/[0-9a-f]{2}\/[0-9a-f-]{36}\.\d+\.[0-9a-f]{16}$/);
      expect(answer.headers['content-type']).to.equal('application/octet-stream');
      expect(answer.headers['docker-content-digest']).to.equal(digestOf(bytes));
      expect(answer.body).to.have.lengthOf(0);
      const file = join(fronted.folder, 'data', 'blobs', String(answer.headers['x-accel-redirect']).slice(7));
      await truncate(file, 2999);
      const damaged = await exchange(fronted.host, 'GET', path);
      expect(damaged.status).to.equal(500);
      expect(damaged.headers['x-accel-redirect']).to.equal(undefined);
      // Several segments are no one file.
      const two = bytesOf('two segments', 190_000);
      const location = await openUpload(fronted, 'x/accel');
      await patch(fronted, location, two.subarray(0, 100_000), 0);
      await close(fronted, location, digestOf(two), two.subarray(100_000));
      const several = await exchange(fronted.host, 'GET', `/v2/x/accel/blobs/${digestOf(two)}`);
      expect(several.headers['x-accel-redirect']).to.equal(undefined);
      expect(several.body.equals(two)).to.equal(true);
    } finally {
      await fronted.dispose();
    }
  });
});
