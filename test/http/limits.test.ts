import { expect } from 'chai';
import { startServer, type TestServer } from '../support/server.js';
import {
  bytesOf,
  close,
  digestOf,
  expectError,
  offsetOf,
  openUpload,
  patch,
  pushBlob,
  pushImage,
  putManifest,
} from './content.js';
import { exchange, head, Wire } from './wire.js';

describe('limits that are set', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({
      environment: {
        REGISTRY_WORKERS: '1',
        REGISTRY_LIST_MAX: '3',
        REGISTRY_MANIFEST_MAX_BYTES: '2048',
        REGISTRY_MANIFEST_MAX_TAGS: '10',
        REGISTRY_BLOB_MAX_BYTES: '1000',
        REGISTRY_CHUNK_MIN_BYTES: '0',
      },
    });
  });
  after(async () => {
    await server?.dispose();
  });

  it('bound a page of tags also when nobody asks for one, with a Link to the rest', async () => {
    const manifest = await pushImage(server, 'limits/tags', undefined);
    const query = ['a', 'b', 'c', 'd', 'e'].map((tag) => `tag=${tag}`).join('&');
    await putManifest(server, 'limits/tags', `${digestOf(manifest)}?${query}`, manifest);
    for (const asked of ['', '?n=100']) {
      const page = await server.request('GET', `/v2/limits/tags/tags/list${asked}`);
      expect(((await page.json()) as { tags: string[] }).tags).to.deep.equal(['a', 'b', 'c']);
      expect(page.headers.get('link')).to.match(/^<\/v2\/limits\/tags\/tags\/list\?.*last=c.*>; rel="next"$/);
    }
  });

  it('bound the tags of one PUT, and nothing is stored beyond', async () => {
    const manifest = await pushImage(server, 'limits/many', undefined);
    const query = (count: number) => Array.from({ length: count }, (_, n) => `tag=t${n}`).join('&');
    const refused = await putManifest(server, 'limits/many', `${digestOf(manifest)}?${query(11)}`, manifest);
    await expectError(refused, 400, 'UNSUPPORTED');
    expect((await server.request('HEAD', '/v2/limits/many/manifests/t0')).status).to.equal(404);
    const taken = await putManifest(server, 'limits/many', `${digestOf(manifest)}?${query(10)}`, manifest);
    expect(taken.status).to.equal(201);
  });

  it('bound a manifest to the byte', async () => {
    const manifest = await pushImage(server, 'limits/manifest', undefined);
    const padded = (size: number) => Buffer.concat([manifest, Buffer.alloc(size - manifest.length, ' ')]);
    expect((await putManifest(server, 'limits/manifest', 'v1', padded(2048))).status).to.equal(201);
    await expectError(await putManifest(server, 'limits/manifest', 'v2', padded(2049)), 413, 'SIZE_INVALID');
  });

  it('bound a blob to the byte, in one piece, in chunks, and without a length', async () => {
    const name = 'limits/blob';
    await pushBlob(server, name, bytesOf('just', 1000));
    const large = bytesOf('too large', 1001);
    const post = `/v2/${name}/blobs/uploads/?digest=${digestOf(large)}`;
    await expectError(await server.request('POST', post, { body: large }), 413, 'SIZE_INVALID');
    expect((await exchange(server.host, 'POST', post, { body: [large] })).status).to.equal(413);
    const location = await openUpload(server, name);
    await patch(server, location, large.subarray(0, 600), 0);
    await expectError(await patch(server, location, large.subarray(600), 600), 413, 'SIZE_INVALID');
    await expectError(await close(server, location, digestOf(large), large.subarray(600)), 413, 'SIZE_INVALID');
    expect(await offsetOf(server, location)).to.equal(600);
    await patch(server, location, large.subarray(600, 1000), 600);
    expect((await close(server, location, digestOf(large.subarray(0, 1000)))).status).to.equal(201);
  });

  it('end a stream that goes beyond them while it is still being sent', async () => {
    const location = await openUpload(server, 'limits/stream');
    const wire = await Wire.open(server.host);
    wire.write(head('PATCH', location, 'Transfer-Encoding: chunked'));
    const drip = setInterval(() => wire.socket.write(`3e8\r\n${'x'.repeat(1000)}\r\n`), 20);
    try {
      await wire.untilAnswers(1);
      expect(wire.status).to.equal(413);
      await wire.untilClosed();
    } finally {
      clearInterval(drip);
    }
    expect(await offsetOf(server, location)).to.equal(0);
  });

  it('ask for no least chunk when there is none, and warn of none', async () => {
    const opened = await server.request('POST', '/v2/limits/chunks/blobs/uploads/');
    expect(opened.headers.get('oci-chunk-min-length')).to.equal(null);
    const location = opened.headers.get('location') ?? '';
    await patch(server, location, Buffer.from('a'), 0);
    expect((await patch(server, location, Buffer.from('b'), 1)).headers.get('warning')).to.equal(null);
  });
});
