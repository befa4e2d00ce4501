import { expect } from 'chai';
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
  untilOffset,
} from './content.js';
import { sharedServer } from './shared-server.js';
import { untilTaken } from './under-way.js';
import { head, Wire } from './wire.js';

const REPOSITORY = 'resumed/model';
const bytes = bytesOf('resumed', 400_000);
const digest = digestOf(bytes);

describe('upload sessions over HTTP', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  /** Announces a request's body of `announced` bytes, sends `sent`, and hangs up when the request is under way. */
  async function breakOff(method: string, target: string, announced: number, sent: Buffer, ...lines: string[]) {
    const wire = await Wire.open(server.host);
    await untilTaken(server, target.split('?')[0] ?? '', () =>
      wire.write(head(method, target, `Content-Length: ${announced}`, ...lines)).write(sent),
    );
    wire.end();
  }

  it('tells the status of a session, before any byte and after some, with and without a slash at the end', async () => {
    const location = await openUpload(server, REPOSITORY);
    for (const [size, range] of [
      [0, '0-0'],
      [1, '0-0'],
      [1000, '0-999'],
    ] as const) {
      const at = await offsetOf(server, location);
      if (size > at) await patch(server, location, bytes.subarray(at, size), at);
      for (const path of [location, `${location}/`]) {
        const status = await server.request('GET', path);
        expect(status.status).to.equal(204);
        expect(status.headers.get('range')).to.equal(range);
        expect(status.headers.get('upload-offset')).to.equal(String(size));
        expect(status.headers.get('location')).to.equal(location);
        expect(status.headers.get('content-length'), 'RFC 9110: none in a 204').to.equal(null);
      }
    }
  });

  it('keeps every Location that it ever gave good', async () => {
    const first = await openUpload(server, REPOSITORY);
    const second = locationOf(await patch(server, first, bytes.subarray(0, 1000), 0));
    const third = locationOf(await patch(server, second, bytes.subarray(1000, 2000), 1000));
    for (const location of [first, second, third]) expect(await offsetOf(server, location)).to.equal(2000);
    const wrong = await patch(server, first, bytes.subarray(0, 10), 0);
    await expectError(wrong, 416, 'BLOB_UPLOAD_INVALID');
    expect((await patch(server, first, bytes.subarray(2000), 2000)).status).to.equal(202);
    expect((await close(server, second, digest)).status).to.equal(201);
  });

  it('keeps what came of a PATCH that broke off, and goes on from the offset that it tells', async () => {
    const location = await openUpload(server, REPOSITORY);
    await breakOff('PATCH', location, bytes.length, bytes.subarray(0, 123_456), `Content-Range: 0-${bytes.length - 1}`);
    await untilOffset(server, location, 123_456);
    expect((await patch(server, location, bytes.subarray(123_456), 123_456)).status).to.equal(202);
    expect((await close(server, location, digest)).status).to.equal(201);
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('begins a PATCH without Content-Range at the offset that was told, once the client has asked', async () => {
    const location = await openUpload(server, REPOSITORY);
    await breakOff('PATCH', location, bytes.length, bytes.subarray(0, 50_000));
    await untilOffset(server, location, 50_000);
    const went = await patch(server, location, bytes.subarray(50_000));
    expect(went.headers.get('range')).to.equal(`0-${bytes.length - 1}`);
    expect((await close(server, location, digest)).status).to.equal(201);
  });

  for (const method of ['PATCH', 'PUT'] as const) {
    it(`begins a ${method} that is sent again whole at its beginning when nobody asked for the offset`, async () => {
      const location = await openUpload(server, REPOSITORY);
      const target = method === 'PUT' ? `${location}?digest=${digest}` : location;
      await breakOff(method, target, bytes.length, bytes.subarray(0, 300_000));
      // Not by asking: that would tell the offset.
      await new Promise((resolve) => setTimeout(resolve, 300));
      const again = await server.request(method, target, { body: bytes });
      expect(again.status).to.equal(method === 'PUT' ? 201 : 202);
      if (method === 'PATCH') {
        expect(again.headers.get('range')).to.equal(`0-${bytes.length - 1}`);
        expect((await close(server, location, digest)).status).to.equal(201);
      }
      await expectBlob(server, REPOSITORY, bytes);
    });
  }

  it('begins a PUT of the rest that is sent again at the offset of the last 202', async () => {
    const location = await openUpload(server, REPOSITORY);
    await patch(server, location, bytes.subarray(0, 100_000), 0);
    const rest = bytes.subarray(100_000);
    await breakOff('PUT', `${location}?digest=${digest}`, rest.length, rest.subarray(0, 200_000));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await close(server, location, digest, rest)).status).to.equal(201);
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('answers a final PUT that is sent again with 201 again, with and without its body', async () => {
    const location = await openUpload(server, 'resumed/again');
    for (const body of [bytes, undefined, bytes, undefined]) {
      const closed = await close(server, location, digest, body);
      expect(closed.status).to.equal(201);
      expect(locationOf(closed)).to.include(digest);
    }
    const deleted = await server.request('DELETE', `/v2/resumed/again/blobs/${digest}`);
    expect(deleted.status).to.equal(202);
    await expectError(await close(server, location, digest), 404, 'BLOB_UPLOAD_UNKNOWN');
    expect((await server.request('HEAD', `/v2/resumed/again/blobs/${digest}`)).status).to.equal(404);
  });

  it('knows nothing of a committed session but its final PUT', async () => {
    const location = await openUpload(server, REPOSITORY);
    await close(server, location, digest, bytes);
    await expectError(await server.request('GET', location), 404, 'BLOB_UPLOAD_UNKNOWN');
    await expectError(await server.request('DELETE', location), 404, 'BLOB_UPLOAD_UNKNOWN');
    await expectError(await patch(server, location, bytes, 0), 404, 'BLOB_UPLOAD_UNKNOWN');
    await expectError(await close(server, location, digestOf('other')), 404, 'BLOB_UPLOAD_UNKNOWN');
  });

  it('cancels a session, after which nobody knows it', async () => {
    const location = await openUpload(server, REPOSITORY);
    await patch(server, location, bytes.subarray(0, 1000), 0);
    expect((await server.request('DELETE', location)).status).to.equal(204);
    await expectError(await server.request('GET', location), 404, 'BLOB_UPLOAD_UNKNOWN');
    await expectError(await server.request('DELETE', location), 404, 'BLOB_UPLOAD_UNKNOWN');
    await expectError(await patch(server, location, bytes.subarray(1000), 1000), 404, 'BLOB_UPLOAD_UNKNOWN');
    await expectError(await close(server, location, digest, bytes), 404, 'BLOB_UPLOAD_UNKNOWN');
  });

  it('stops a writer whose session is cancelled, and lets its connection end', async () => {
    const location = await openUpload(server, REPOSITORY);
    const wire = await Wire.open(server.host);
    await untilTaken(server, location, () =>
      wire.write(head('PATCH', location, `Content-Length: ${bytes.length}`)).write(bytes.subarray(0, 1000)),
    );
    expect((await server.request('DELETE', location)).status).to.equal(204);
    await wire.untilAnswers(1);
    expect(wire.status).to.equal(409);
    await wire.untilClosed();
  });

  it('lets a later request take the session over from one that stalls, and mixes nothing', async () => {
    const location = await openUpload(server, REPOSITORY);
    const stalled = await Wire.open(server.host);
    await untilTaken(server, location, () =>
      stalled.write(head('PATCH', location, `Content-Length: ${bytes.length}`)).write(bytesOf('other bytes', 5000)),
    );
    const offset = await offsetOf(server, location);
    expect((await patch(server, location, bytes.subarray(offset), offset)).status).to.equal(202);
    await stalled.untilClosed();
    expect(stalled.status).to.equal(409);
    expect((await close(server, location, digest)).status).to.equal(201);
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('knows a session in its own repository only', async () => {
    const location = await openUpload(server, REPOSITORY);
    const elsewhere = location.replace(REPOSITORY, 'resumed/other');
    for (const method of ['GET', 'DELETE', 'PATCH'])
      await expectError(await server.request(method, elsewhere), 404, 'BLOB_UPLOAD_UNKNOWN');
    await expectError(await close(server, elsewhere, digest, bytes), 404, 'BLOB_UPLOAD_UNKNOWN');
    expect(await offsetOf(server, location)).to.equal(0);
  });

  for (const id of [
    '00000000-0000-4000-8000-000000000000',
    'no-uuid',
    '%00',
    'a'.repeat(3000),
    "'; drop table uploads",
  ]) {
    it(`answers 404 for the upload "${id.slice(0, 40)}"`, async () => {
      const path = `/v2/${REPOSITORY}/blobs/uploads/${encodeURI(id).replace('%2500', '%00')}`;
      for (const method of ['GET', 'DELETE', 'PATCH'])
        await expectError(await server.request(method, path), 404, 'BLOB_UPLOAD_UNKNOWN');
      await expectError(await close(server, path, digest, bytes.subarray(0, 10)), 404, 'BLOB_UPLOAD_UNKNOWN');
    });
  }
});
