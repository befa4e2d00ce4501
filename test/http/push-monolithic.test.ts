import { expect } from 'chai';
import fc from 'fast-check';
import type { TestServer } from '../support/server.js';
import { bytesOf, close, digestOf, expectBlob, expectError, locationOf, openUpload, pushBlob } from './content.js';
import { sharedServer } from './shared-server.js';
import { exchange } from './wire.js';

const MiB = 1024 * 1024;
const REPOSITORY = 'monolithic/model';

describe('pushing a blob in one piece', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  it('takes POST and then PUT, and the Location of the 201 can be pulled', async () => {
    const bytes = bytesOf('post then put', 3 * MiB + 17);
    const location = await openUpload(server, REPOSITORY);
    expect(location).to.match(/[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}/);
    const closed = await close(server, location, digestOf(bytes), bytes);
    expect(closed.status).to.equal(201);
    expect(closed.headers.get('docker-content-digest')).to.equal(digestOf(bytes));
    expect(closed.headers.get('content-length')).to.equal('0');
    const pulled = await server.request('GET', locationOf(closed));
    expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes)).to.equal(true);
  });

  it('takes a single POST with its body', async () => {
    const bytes = bytesOf('single post', 100_000);
    await pushBlob(server, REPOSITORY, bytes);
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('takes a single POST whose body has no length', async () => {
    const pieces = [bytesOf('a', 10_000), bytesOf('b', 1), bytesOf('c', 70_000)];
    const bytes = Buffer.concat(pieces);
    const path = `/v2/${REPOSITORY}/blobs/uploads/?digest=${digestOf(bytes)}`;
    const answer = await exchange(server.host, 'POST', path, { body: pieces });
    expect(answer.status).to.equal(201);
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('takes a PUT whose body has no length', async () => {
    const pieces = [bytesOf('d', 10_000), bytesOf('e', 1), bytesOf('f', 70_000)];
    const bytes = Buffer.concat(pieces);
    const location = await openUpload(server, REPOSITORY);
    const answer = await exchange(server.host, 'PUT', `${location}?digest=${digestOf(bytes)}`, { body: pieces });
    expect(answer.status).to.equal(201);
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('opens a session for a single POST with a digest but without a body', async () => {
    const bytes = bytesOf('a client that asks first', 5000);
    const location = await openUpload(server, REPOSITORY, `?digest=${digestOf(bytes)}`);
    expect((await close(server, location, digestOf(bytes), bytes)).status).to.equal(201);
  });

  it('asks for chunks of at least OCI-Chunk-Min-Length', async () => {
    const opened = await server.request('POST', `/v2/${REPOSITORY}/blobs/uploads/`);
    expect(Number(opened.headers.get('oci-chunk-min-length'))).to.be.greaterThan(0);
  });

  it('takes the empty blob by POST, by PUT, and by PUT of a chunked body with nothing in it', async () => {
    const empty = Buffer.alloc(0);
    await pushBlob(server, 'monolithic/empty1', empty);
    await expectBlob(server, 'monolithic/empty1', empty);
    const second = await openUpload(server, 'monolithic/empty2');
    expect((await close(server, second, digestOf(empty))).status).to.equal(201);
    await expectBlob(server, 'monolithic/empty2', empty);
    const third = await openUpload(server, 'monolithic/empty3');
    const answer = await exchange(server.host, 'PUT', `${third}?digest=${digestOf(empty)}`, {
      headers: { 'transfer-encoding': 'chunked' },
      body: [],
    });
    expect(answer.status).to.equal(201);
    await expectBlob(server, 'monolithic/empty3', empty);
  });

  it('takes one blob twice, and in two repositories at once', async () => {
    const bytes = bytesOf('twice', 50_000);
    await pushBlob(server, REPOSITORY, bytes);
    await Promise.all(
      [REPOSITORY, 'monolithic/other', REPOSITORY, 'monolithic/other'].map((name) => pushBlob(server, name, bytes)),
    );
    await expectBlob(server, REPOSITORY, bytes);
    await expectBlob(server, 'monolithic/other', bytes);
  });

  it('takes repository names of one and of many parts, up to 255 characters', async () => {
    const longest = `${'a'.repeat(127)}/${'b'.repeat(127)}`;
    for (const name of ['m', 'a/b/c/d/e/f/g', 'a.b/c_d/e__f/g---h', 'blobs/uploads', 'tags/list/x', longest]) {
      const bytes = bytesOf(name, 10);
      await pushBlob(server, name, bytes);
      await expectBlob(server, name, bytes);
    }
  });

  it('refuses wrong digests with DIGEST_INVALID and stores nothing', async () => {
    const bytes = bytesOf('the sent bytes', 2000);
    const other = digestOf(bytesOf('other bytes', 2000));
    const location = await openUpload(server, REPOSITORY);
    await expectError(await close(server, location, other, bytes), 400, 'DIGEST_INVALID');
    const post = `/v2/${REPOSITORY}/blobs/uploads/?digest=${other}`;
    await expectError(await server.request('POST', post, { body: bytes }), 400, 'DIGEST_INVALID');
    for (const digest of [other, digestOf(bytes)])
      expect((await server.request('HEAD', `/v2/${REPOSITORY}/blobs/${digest}`)).status).to.equal(404);
    // The session is as it was before the wrong PUT.
    expect((await close(server, location, digestOf(bytes), bytes)).status).to.equal(201);
  });

  const malformed = [
    'sha256:baddigeststring',
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'0'.repeat(63)}`,
    `md5:${'0'.repeat(32)}`,
    '0'.repeat(64),
    'sha256:',
    ':',
    '',
    'sha256:..%2F..%2Fetc',
  ];
  for (const digest of malformed) {
    it(`refuses the digest "${digest}" in PUT and POST`, async () => {
      const location = await openUpload(server, REPOSITORY);
      const body = bytesOf('x', 20);
      await expectError(await server.request('PUT', `${location}?digest=${digest}`, { body }), 400, 'DIGEST_INVALID');
      const post = `/v2/${REPOSITORY}/blobs/uploads/?digest=${digest}`;
      await expectError(await server.request('POST', post, { body }), 400, 'DIGEST_INVALID');
    });
  }

  it('refuses a closing PUT without a digest, and one with two', async () => {
    const location = await openUpload(server, REPOSITORY);
    await expectError(await server.request('PUT', location), 400, 'DIGEST_INVALID');
    const two = `${location}?digest=${digestOf('a')}&digest=${digestOf('b')}`;
    await expectError(await server.request('PUT', two), 400, 'UNSUPPORTED');
  });

  it('gives back any bytes that were pushed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), async (array) => {
        const bytes = Buffer.from(array);
        await pushBlob(server, 'monolithic/any', bytes);
        await expectBlob(server, 'monolithic/any', bytes);
      }),
      { numRuns: 40 },
    );
  });
});
