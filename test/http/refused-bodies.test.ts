import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import { bytesOf, digestOf, expectBlob, offsetOf, openUpload, patch, pushImage } from './content.js';
import { sharedServer } from './shared-server.js';
import { head, Wire } from './wire.js';

const GiB = 1024 ** 3;
const REPOSITORY = 'refused/model';

/** The same request without the key. */
const anonymous = (text: string) => text.replace(/Authorization: [^\r]+\r\n/, '');

describe('requests whose body is refused', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  /** Sends as much as the registry takes of a body without end, until the connection ends. */
  async function flood(wire: Wire, chunked: boolean): Promise<void> {
    const bytes = Buffer.alloc(0x10000);
    const chunk = chunked ? Buffer.concat([Buffer.from('10000\r\n'), bytes, Buffer.from('\r\n')]) : bytes;
    while (!wire.closed) {
      wire.socket.write(chunk);
      // Without end, but no more than a machine bears that does other things beside.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async function refused(): Promise<[string, string, number][]> {
    const location = await openUpload(server, REPOSITORY);
    await patch(server, location, Buffer.from('abc'), 0);
    const length = `Content-Length: ${20 * GiB}`;
    const digest = digestOf('x');
    return [
      ['without a key', anonymous(head('PATCH', location, length)), 401],
      ['without a key and without a length', anonymous(head('PATCH', location, 'Transfer-Encoding: chunked')), 401],
      ['out of order', head('PATCH', location, length, `Content-Range: 100-${100 + 20 * GiB - 1}`), 416],
      [
        'out of order in PUT',
        head('PUT', `${location}?digest=${digest}`, length, `Content-Range: 9-${8 + 20 * GiB}`),
        416,
      ],
      ['above the limit of a manifest', head('PUT', `/v2/${REPOSITORY}/manifests/v1`, length), 413],
      [
        'above the limit of a blob',
        head('POST', `/v2/${REPOSITORY}/blobs/uploads/?digest=${digest}`, `Content-Length: ${6 * 1024 * GiB}`),
        413,
      ],
      ['for an unknown upload', head('PATCH', location.replace(/[0-9a-f]{12}$/, '0'.repeat(12)), length), 404],
      ['with a bad digest', head('PUT', `${location}?digest=bad`, length), 400],
      ['for an unknown route', head('POST', '/v2/nothing', length), 404],
      ['for a route that knows no such method', head('POST', `/v2/${REPOSITORY}/tags/list`, length), 405],
    ];
  }

  it('are answered while the client is still sending, and their connection ends within seconds', async () => {
    const wires = await Promise.all(
      (await refused()).map(async ([what, text, status]) => {
        const wire = (await Wire.open(server.host)).write(text);
        void flood(wire, text.includes('chunked'));
        await wire.untilAnswers(1);
        expect(wire.status, what).to.equal(status);
        expect(wire.ageMs, `${what}: the answer comes at once`).to.be.lessThan(2000);
        expect(wire.text, what).to.match(/\r\nconnection: close\r\n/i);
        return wire.untilClosed(10_000);
      }),
    );
    for (const wire of wires) expect(wire.text).to.match(/\r\n\r\n\{"errors":\[\{.+\}\]\}$/);
  });

  it('are not asked for when the client expects 100-continue', async () => {
    for (const [what, text, status] of await refused()) {
      const wire = await Wire.open(server.host);
      wire.write(text.replace(/\r\n\r\n$/, '\r\nExpect: 100-continue\r\n\r\n'));
      await wire.untilAnswers(1);
      expect(wire.status, what).to.equal(status);
      expect(wire.text, what).not.to.include('100 Continue');
      await wire.untilClosed();
    }
  });

  it('leave a session as it was', async () => {
    const location = await openUpload(server, REPOSITORY);
    const wire = await Wire.open(server.host);
    wire.write(head('PATCH', location, 'Content-Length: 10', 'Content-Range: 5-14')).write('0123456789');
    await wire.untilAnswers(1);
    expect(await offsetOf(server, location)).to.equal(0);
    wire.end();
  });
});

describe('connections', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  it('ask for the body of an accepted upload with 100 Continue, once, and only then', async () => {
    const bytes = bytesOf('expected', 5000);
    const location = await openUpload(server, REPOSITORY);
    const wire = await Wire.open(server.host);
    wire.write(head('PUT', `${location}?digest=${digestOf(bytes)}`, 'Content-Length: 5000', 'Expect: 100-continue'));
    await wire.untilAnswers(1);
    expect(wire.text).to.equal('HTTP/1.1 100 Continue\r\n\r\n');
    wire.write(bytes);
    await wire.untilAnswers(2);
    expect(wire.status).to.equal(201);
    expect(wire.text.match(/100 Continue/g)).to.have.lengthOf(1);
    // The connection is good for more.
    await wire.write(head('GET', '/v2/')).untilAnswers(3);
    expect(wire.status).to.equal(200);
    wire.end();
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('go on after a refusal without a body', async () => {
    const wire = await Wire.open(server.host);
    const targets: [string, string, number][] = [
      ['GET', '/nothing', 404],
      ['DELETE', '/v2/', 405],
      ['GET', '/v2/UPPER/tags/list', 400],
      ['HEAD', `/v2/a/blobs/${digestOf('absent')}`, 404],
      ['POST', `/v2/a/blobs/uploads/?digest=bad`, 400],
      ['GET', '/v2/', 200],
    ];
    for (const [index, [method, target, status]] of targets.entries()) {
      await wire.write(head(method, target, 'Content-Length: 0')).untilAnswers(index + 1);
      expect(wire.status).to.equal(status);
    }
    wire.end();
  });

  it('go on after a small body that was read and refused', async () => {
    const wire = await Wire.open(server.host);
    for (let count = 1; count <= 5; count++) {
      wire.write(head('PUT', '/v2/refused/small/manifests/v1', 'Content-Length: 2')).write('{}');
      await wire.untilAnswers(count);
      expect(wire.status).to.equal(400);
    }
    wire.end();
  });

  it('go on after a small body that nobody wanted', async () => {
    const wire = await Wire.open(server.host);
    for (let count = 1; count <= 3; count++) {
      wire.write(anonymous(head('POST', '/v2/refused/small/blobs/uploads/', 'Content-Length: 5'))).write('abcde');
      await wire.untilAnswers(count);
      expect(wire.status).to.equal(401);
    }
    wire.end();
  });

  it('answer a GET that brings a body as one that brings none', async () => {
    const manifest = await pushImage(server, REPOSITORY, 'asked-with-a-body');
    for (const announced of [5, 10_000_000]) {
      const wire = await Wire.open(server.host);
      wire.write(head('GET', `/v2/${REPOSITORY}/manifests/asked-with-a-body`, `Content-Length: ${announced}`));
      await wire.write('abcde').until(({ text }) => text.includes(manifest.toString()));
      expect(wire.status).to.equal(200);
      expect(wire.text).to.match(new RegExp(`content-length: ${manifest.length}\\r`, 'i'));
      wire.end();
    }
  });

  it('carry many uploads and downloads one after the other, and no listener is left behind', async () => {
    const wire = await Wire.open(server.host);
    const bytes = bytesOf('kept alive', 3000);
    const post = `/v2/${REPOSITORY}/blobs/uploads/?digest=${digestOf(bytes)}`;
    for (let round = 0; round < 20; round++) {
      wire.write(head('POST', post, 'Content-Length: 3000')).write(bytes);
      await wire.untilAnswers(2 * round + 1);
      expect(wire.status).to.equal(201);
      wire.write(head('GET', `/v2/${REPOSITORY}/blobs/${digestOf(bytes)}`));
      await wire.until(({ text }) => text.split('HTTP/1.1 200 OK').length === round + 2);
    }
    wire.end();
    expect(await server.log()).not.to.include('MaxListenersExceededWarning');
  });

  it('answer pipelined requests in their order', async () => {
    const bytes = [1, 2, 3].map((n) => bytesOf(`pipelined ${n}`, 300_000 * n));
    let text = '';
    for (const blob of bytes) {
      const wire = await Wire.open(server.host);
      wire.write(
        head('POST', `/v2/refused/pipeline/blobs/uploads/?digest=${digestOf(blob)}`, `Content-Length: ${blob.length}`),
      );
      await wire.write(blob).untilAnswers(1);
      wire.end();
      text += head('GET', `/v2/refused/pipeline/blobs/${digestOf(blob)}`);
      text += head('HEAD', `/v2/refused/pipeline/blobs/${digestOf(blob)}`);
    }
    const wire = await Wire.open(server.host);
    wire.write(text + head('GET', '/nothing', 'Connection: close'));
    await wire.untilClosed();
    let at = 0;
    for (const blob of bytes) {
      for (const body of [blob, Buffer.alloc(0)]) {
        const start = wire.received.indexOf('\r\n\r\n', at) + 4;
        expect(wire.received.subarray(at, start).toString('latin1')).to.match(/^HTTP\/1\.1 200 OK\r\n/);
        expect(wire.received.subarray(start, start + body.length).equals(body)).to.equal(true);
        at = start + body.length;
      }
    }
    expect(wire.received.subarray(at).toString('latin1')).to.match(/^HTTP\/1\.1 404 /);
  });
});
