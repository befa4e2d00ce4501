import { expect } from 'chai';
import fc from 'fast-check';
import type { TestServer } from '../support/server.js';
import {
  bytesOf,
  close,
  digestOf,
  expectBlob,
  expectError,
  locationOf,
  offsetOf,
  openUpload,
  patch,
} from './content.js';
import { sharedServer } from './shared-server.js';
import { exchange } from './wire.js';

const REPOSITORY = 'chunked/model';
const bytes = bytesOf('chunked', 300_000);
const digest = digestOf(bytes);

describe('pushing a blob in chunks', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  it('takes chunks with Content-Range in order and answers each with the end of the whole', async () => {
    let location = await openUpload(server, REPOSITORY);
    for (const [from, to] of [
      [0, 100_000],
      [100_000, 100_001],
      [100_001, 300_000],
    ] as const) {
      const answer = await patch(server, location, bytes.subarray(from, to), from);
      expect(answer.status).to.equal(202);
      expect(answer.headers.get('range')).to.equal(`0-${to - 1}`);
      expect(answer.headers.get('upload-offset')).to.equal(String(to));
      expect(answer.headers.get('content-length')).to.equal('0');
      location = locationOf(answer);
    }
    expect((await close(server, location, digest)).status).to.equal(201);
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('takes chunks without Content-Range', async () => {
    const location = await openUpload(server, REPOSITORY);
    for (const at of [0, 150_000])
      expect((await patch(server, location, bytes.subarray(at, at + 150_000))).status).to.equal(202);
    expect((await close(server, location, digest)).status).to.equal(201);
  });

  it('takes a blob streamed without a length', async () => {
    const location = await openUpload(server, REPOSITORY);
    const body = [bytes.subarray(0, 1), bytes.subarray(1, 200_000), bytes.subarray(200_000)];
    const answer = await exchange(server.host, 'PATCH', location, { body });
    expect(answer.status).to.equal(202);
    expect(answer.headers.range).to.equal('0-299999');
    expect((await close(server, location, digest)).status).to.equal(201);
  });

  it('takes the last chunk in the closing PUT, with and without Content-Range', async () => {
    for (const range of ['200000-299999', undefined]) {
      const location = await openUpload(server, REPOSITORY);
      await patch(server, location, bytes.subarray(0, 200_000), 0);
      const closed = await server.request('PUT', `${location}?digest=${digest}`, {
        headers: range ? { 'content-range': range } : {},
        body: bytes.subarray(200_000),
      });
      expect(closed.status).to.equal(201);
      await expectBlob(server, REPOSITORY, bytes);
    }
  });

  for (const form of ['bytes 0-99', 'bytes=0-99', '0-99/*', 'bytes 0-99/100', 'bytes 0-99/300000', ' 0-99 ']) {
    it(`reads the Content-Range "${form}" that some clients send`, async () => {
      const location = await openUpload(server, REPOSITORY);
      const answer = await server.request('PATCH', location, {
        headers: { 'content-range': form },
        body: bytes.subarray(0, 100),
      });
      expect(answer.status).to.equal(202);
      expect(answer.headers.get('range')).to.equal('0-99');
    });
  }

  it('refuses a chunk out of order with 416, Location and Range, and goes on where the session stands', async () => {
    const location = await openUpload(server, REPOSITORY);
    const early = await patch(server, location, bytes.subarray(10, 20), 10);
    expect(early.headers.get('range')).to.equal('0-0');
    expect(early.headers.get('upload-offset')).to.equal('0');
    await expectError(early, 416, 'BLOB_UPLOAD_INVALID');
    await patch(server, location, bytes.subarray(0, 100), 0);
    for (const from of [0, 50, 99, 101, 200_000]) {
      const wrong = await patch(server, location, bytes.subarray(from, from + 100), from);
      expect(wrong.headers.get('range')).to.equal('0-99');
      expect(new URL(locationOf(wrong), server.url).pathname).to.equal(new URL(location, server.url).pathname);
      await expectError(wrong, 416, 'BLOB_UPLOAD_INVALID');
      expect(await offsetOf(server, location)).to.equal(100);
    }
    await patch(server, location, bytes.subarray(100), 100);
    expect((await close(server, location, digest)).status).to.equal(201);
  });

  it('refuses a closing PUT out of order with 416 and keeps what was there', async () => {
    const location = await openUpload(server, REPOSITORY);
    await patch(server, location, bytes.subarray(0, 1000), 0);
    const wrong = await server.request('PUT', `${location}?digest=${digest}`, {
      headers: { 'content-range': '2000-299999' },
      body: bytes.subarray(2000),
    });
    expect(wrong.headers.get('range')).to.equal('0-999');
    await expectError(wrong, 416, 'BLOB_UPLOAD_INVALID');
    await patch(server, location, bytes.subarray(1000), 1000);
    expect((await close(server, location, digest)).status).to.equal(201);
  });

  for (const malformed of ['nonsense', '5-1', 'bytes */100', '0-', '-5', '0-99999999999999999999', '0-9, 10-19']) {
    it(`refuses the Content-Range "${malformed}" and leaves the session as it was`, async () => {
      const location = await openUpload(server, REPOSITORY);
      const wrong = await server.request('PATCH', location, {
        headers: { 'content-range': malformed },
        body: bytes.subarray(0, 10),
      });
      expect(wrong.status).to.be.oneOf([400, 416]);
      expect(await offsetOf(server, location)).to.equal(0);
    });
  }

  it('refuses a Content-Range of another length than Content-Length', async () => {
    const location = await openUpload(server, REPOSITORY);
    for (const range of ['0-98', '0-100']) {
      const headers = { 'content-range': range };
      const body = bytes.subarray(0, 100);
      await expectError(await server.request('PATCH', location, { headers, body }), 400, 'SIZE_INVALID');
      const put = await server.request('PUT', `${location}?digest=${digestOf(body)}`, { headers, body });
      await expectError(put, 400, 'SIZE_INVALID');
    }
    const nothing = await server.request('PATCH', location, { headers: { 'content-range': '0-9' } });
    await expectError(nothing, 400, 'SIZE_INVALID');
    expect(await offsetOf(server, location)).to.equal(0);
  });

  for (const [what, range] of [
    ['more', '0-49'],
    ['fewer', '0-149'],
  ] as const) {
    it(`refuses a chunked body of ${what} bytes than its Content-Range`, async () => {
      const location = await openUpload(server, REPOSITORY);
      const body = [bytes.subarray(0, 60), bytes.subarray(60, 100)];
      const wrong = await exchange(server.host, 'PATCH', location, { headers: { 'content-range': range }, body });
      expect(wrong.status).to.equal(400);
      expect(JSON.parse(wrong.body.toString())).to.have.nested.property('errors[0].code', 'SIZE_INVALID');
      expect(await offsetOf(server, location)).to.equal(0);
    });
  }

  it('takes chunks of one byte', async () => {
    const location = await openUpload(server, REPOSITORY);
    const small = bytesOf('one by one', 40);
    for (let at = 0; at < small.length; at++)
      expect((await patch(server, location, small.subarray(at, at + 1), at)).status).to.equal(202);
    expect((await close(server, location, digestOf(small))).status).to.equal(201);
    await expectBlob(server, REPOSITORY, small);
  });

  it('takes a PATCH without a body as a question for the offset', async () => {
    const location = await openUpload(server, REPOSITORY);
    await patch(server, location, bytes.subarray(0, 10), 0);
    const answer = await server.request('PATCH', location);
    expect(answer.status).to.equal(202);
    expect(answer.headers.get('range')).to.equal('0-9');
  });

  it('warns of small chunks once it knows that one was not the last', async () => {
    const location = await openUpload(server, REPOSITORY);
    const first = await patch(server, location, bytes.subarray(0, 1000), 0);
    expect(first.headers.get('warning'), 'it may be the whole blob').to.equal(null);
    const second = await patch(server, location, bytes.subarray(1000, 2000), 1000);
    expect(second.headers.get('warning')).to.match(/^299 - "[^"]*OCI-Chunk-Min-Length[^"]*"$/);
  });

  it('puts any chunking of a blob together again', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ size: fc.integer({ min: 1, max: 400 }), ranged: fc.boolean() }), { maxLength: 6 }),
        fc.boolean(),
        async (chunks, lastInPut) => {
          const whole = bytes.subarray(
            0,
            chunks.reduce((sum, chunk) => sum + chunk.size, 0),
          );
          const location = await openUpload(server, 'chunked/any');
          let at = 0;
          for (const [index, { size, ranged }] of chunks.entries()) {
            const chunk = whole.subarray(at, at + size);
            if (lastInPut && index === chunks.length - 1) break;
            expect((await patch(server, location, chunk, ranged ? at : undefined)).status).to.equal(202);
            at += size;
          }
          const rest = at < whole.length ? whole.subarray(at) : undefined;
          expect((await close(server, location, digestOf(whole), rest)).status).to.equal(201);
          await expectBlob(server, 'chunked/any', whole);
        },
      ),
      { numRuns: 25 },
    );
  });
});
