import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import { bytesOf, digestOf, openUpload, untilOffset } from './content.js';
import { sharedServer } from './shared-server.js';
import { untilTaken } from './under-way.js';
import { exchange, head, Wire } from './wire.js';

const DIGEST = digestOf('anything');

describe('requests that are not as they should be', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });
  after(async () => {
    expect((await server.request('GET', '/v2/')).status, 'the registry is well').to.equal(200);
    expect(await server.log()).not.to.match(
      /"level":"(error|fatal)"[^\n]*(Koa|TypeError|uncaught)|rawPacket|DeprecationWarning/,
    );
  });

  const unreadable: [string, string | Buffer, number][] = [
    ['a line that is no request', 'GARBAGE\r\n\r\n', 400],
    ['a line without a version, as HTTP/0.9 had it,', 'GET /v2/\r\n\r\n', 401],
    ['a version that is none', 'GET /v2/ HTTP/9.9\r\n\r\n', 400],
    ['an HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
    ['the hello of TLS', Buffer.from('16030100c8010000c40303', 'hex'), 400],
    ['a blank in the target', head('GET', '/v2/a b'), 400],
    ['a NUL in the target', head('GET', '/v2/a\0b'), 400],
    ['a header without a colon', head('GET', '/v2/', 'nonsense'), 400],
    ['a NUL in a header', head('GET', '/v2/', 'X: a\0b'), 400],
    ['a blank before the colon', head('GET', '/v2/', 'Content-Length : 3'), 400],
    ['a huge header', head('GET', '/v2/', `X: ${'x'.repeat(100_000)}`), 431],
    ['a thousand headers', head('GET', '/v2/', ...Array.from({ length: 3000 }, (_, n) => `X-${n}: ${n}`)), 431],
    ['a huge target', head('GET', `/v2/${'x'.repeat(100_000)}`), 414],
    ['a negative length', head('POST', '/v2/a/blobs/uploads/', 'Content-Length: -1'), 400],
    ['a length that is no number', head('POST', '/v2/a/blobs/uploads/', 'Content-Length: ten'), 400],
    ['a length beyond 64 bits', head('POST', '/v2/a/blobs/uploads/', `Content-Length: ${'9'.repeat(30)}`), 400],
    ['two lengths', head('POST', '/v2/a/blobs/uploads/', 'Content-Length: 3', 'Content-Length: 4'), 400],
    ['a length in a list', head('POST', '/v2/a/blobs/uploads/', 'Content-Length: 3, 3'), 400],
    [
      'a length and chunks',
      head('POST', '/v2/a/blobs/uploads/', 'Content-Length: 3', 'Transfer-Encoding: chunked'),
      400,
    ],
    [
      'chunks that are not the last coding',
      head('POST', '/v2/a/blobs/uploads/', 'Transfer-Encoding: chunked, gzip'),
      400,
    ],
    ['no Host', head('GET', '/v2/').replace('Host: test\r\n', ''), 400],
    ['a request to be a proxy', head('CONNECT', 'example.org:443'), 405],
  ];
  for (const [what, bytes, status] of unreadable) {
    it(`answers ${what} with ${status} and ends the connection`, async () => {
      const wire = (await Wire.open(server.host)).write(bytes);
      await wire.untilClosed();
      expect(wire.status).to.equal(status);
      expect(wire.text.match(/HTTP\/1\.1/g)).to.have.lengthOf(1);
      expect(wire.text).to.match(/\r\nconnection: close\r\n/i);
    });
  }

  it('says in JSON what it could not read', async () => {
    const wire = (await Wire.open(server.host)).write('GARBAGE\r\n\r\n');
    await wire.untilClosed();
    const [, length, body] = /content-length: (\d+)[\s\S]*?\r\n\r\n([\s\S]*)$/i.exec(wire.text) ?? [];
    expect(body).to.have.lengthOf(Number(length));
    expect(JSON.parse(body ?? '')).to.have.nested.property('errors[0].code');
  });

  it('breaks off a chunked body that is malformed, keeps what came, and does not log the key', async () => {
    const location = await openUpload(server, 'malformed/chunks');
    const wire = await Wire.open(server.host);
    await untilTaken(server, location, () =>
      wire.write(`${head('PATCH', location, 'Transfer-Encoding: chunked')}3\r\nabc\r\n`),
    );
    wire.write('ZZZ\r\n');
    await wire.untilClosed();
    expect(wire.text).to.match(/^(HTTP\/1\.1 400 |$)/);
    await untilOffset(server, location, 3);
    const log = await server.log();
    expect(log).not.to.include('rawPacket');
  });

  it('does not take the answer to what follows for the answer to a request before it', async () => {
    const wire = await Wire.open(server.host);
    wire.write(`${head('GET', '/v2/malformed/absent/tags/list')}GARBAGE\r\n\r\n`);
    await wire.untilClosed();
    expect(wire.text).to.match(/^(HTTP\/1\.1 404 |$)/);
  });

  const targets: [string, string, number][] = [
    ['GET', '/v2/%E0%A4%A/tags/list', 400],
    ['GET', '/v2/a%/tags/list', 400],
    ['GET', '/v2/a%00b/tags/list', 400],
    ['GET', '/v2/a%2Fb/tags/list', 404],
    ['GET', '/v2/%2e%2e/tags/list', 400],
    ['GET', '/v2/../../etc/passwd', 404],
    ['GET', '/v2/a/../b/tags/list', 400],
    ['GET', '/v2//tags/list', 404],
    ['GET', '/v2/a//b/tags/list', 400],
    ['GET', '//v2/', 404],
    ['GET', '/V2/', 404],
    ['GET', '/v2/a/TAGS/list', 404],
    ['GET', '/v2/A/tags/list', 400],
    ['GET', '/v2/-a/tags/list', 400],
    ['GET', '/v2/a_-b/tags/list', 400],
    ['GET', `/v2/${'a'.repeat(256)}/tags/list`, 400],
    ['GET', `/v2/${'a/'.repeat(4000)}a/tags/list`, 400],
    ['GET', `/v2/${'a-'.repeat(4000)}/tags/list`, 400],
    ['GET', `/v2/a/manifests/${'t'.repeat(8000)}`, 404],
    ['PUT', `/v2/a/manifests/${'t'.repeat(8000)}`, 400],
    ['GET', `/v2/a/blobs/sha256:${'0'.repeat(8000)}`, 400],
    ['GET', '/v2/a/blobs/%00', 400],
    ['GET', '/v2/a/blobs/sha256%3A', 400],
    ['GET', '/v2/a/tags/list?n=%E0%A4%A', 400],
    ['GET', '/v2/a/tags/list?__proto__=1&constructor=2&n[]=3', 404],
    ['GET', `/v2/a/tags/list?${'x=1&'.repeat(2000)}`, 404],
    ['GET', `/v2/a/referrers/${DIGEST}?artifactType=%00`, 400],
    ['GET', `/v2/a/referrers/${DIGEST}?last=%00`, 400],
    ['GET', '/v2/_catalog?last=%00', 400],
    ['GET', '/?', 404],
    ['GET', '/%', 404],
    ['GET', '*', 404],
    ['GET', 'http://elsewhere.example/v2/', 200],
    ['GET', 'http://[/v2/', 400],
    ['GET', 'http://a:b/v2/', 400],
  ];
  for (const [method, target, status] of targets) {
    it(`answers ${method} ${target.length > 60 ? `${target.slice(0, 60)}… (${target.length})` : target} with ${status}`, async () => {
      const wire = (await Wire.open(server.host)).write(head(method, target, 'Connection: close', 'Content-Length: 0'));
      await wire.untilClosed();
      expect(wire.status, wire.text).to.equal(status);
      if (status !== 200) expect(wire.text).to.match(/\r\n\r\n\{"errors":\[\{/);
    });
  }

  const methods: [string, string, string][] = [
    ['POST', '/v2/', 'GET, HEAD'],
    ['DELETE', '/v2/_catalog', 'GET, HEAD'],
    ['PUT', '/v2/a/tags/list', 'GET, HEAD'],
    ['POST', '/v2/a/manifests/v1', 'DELETE, GET, HEAD, PUT'],
    ['PATCH', `/v2/a/blobs/${DIGEST}`, 'DELETE, GET, HEAD'],
    ['POST', `/v2/a/referrers/${DIGEST}`, 'GET, HEAD'],
    ['POST', '/v2/a/blobs/uploads/x', 'DELETE, GET, HEAD, PATCH, PUT'],
    ['OPTIONS', '/v2/a/tags/list', 'GET, HEAD'],
    ['PURGE', '/v2/a/tags/list', 'GET, HEAD'],
  ];
  for (const [method, path, allow] of methods) {
    it(`refuses ${method} ${path} with 405 and what it allows`, async () => {
      const answer = await exchange(server.host, method, path);
      expect(answer.status).to.equal(405);
      expect(answer.headers.allow).to.equal(allow);
      expect(JSON.parse(answer.body.toString())).to.have.nested.property('errors[0].code', 'UNSUPPORTED');
    });
  }

  it('answers every one of thousands of random requests, and none with a 5xx', async function () {
    this.timeout(180_000);
    const random = randomOf('fuzz of requests, 1');
    const pick = <T>(items: readonly T[]): T => items[random(items.length)] as T;
    const odd = [
      '',
      'a',
      'A',
      '.',
      '..',
      '%00',
      '%',
      '%2F',
      '%E0%A4%A',
      'ä',
      '-',
      '_',
      'a'.repeat(300),
      '\\',
      "'",
      '"',
      '`',
      '$1',
      '{}',
      'null',
      '-1',
      '0',
      '1e9',
      '9'.repeat(25),
      DIGEST,
      'sha512:',
      'sha256:x',
      '*',
      '~',
      ';',
      ',',
      '\t',
      '\u007f',
      '\u0080',
    ];
    const word = (): string =>
      random(3) === 0
        ? pick(odd)
        : pick([
            'a',
            'team',
            'model',
            'v1',
            'latest',
            'blobs',
            'uploads',
            'manifests',
            'tags',
            'list',
            'referrers',
            '_catalog',
            DIGEST,
          ]);
    const names = [
      'Range',
      'Content-Range',
      'If-Range',
      'If-None-Match',
      'Accept',
      'Content-Type',
      'Expect',
      'Host',
      'Accept-Encoding',
      'If-Match',
    ];
    const parameters = [
      'n',
      'last',
      'digest',
      'mount',
      'from',
      'tag',
      'artifactType',
      'digest-algorithm',
      'ns',
      '__proto__',
    ];
    const statuses = new Map<number, number>();
    const one = async (): Promise<void> => {
      const parts = Array.from({ length: random(6) }, word);
      const path = pick([
        () => `${pick(['/v2/', '/', ''])}${parts.join('/')}`,
        () => `/v2/${word()}/blobs/uploads/${pick(['', word()])}`,
        () => `/v2/${word()}/${pick(['blobs', 'manifests', 'referrers'])}/${word()}`,
        () => `/v2/${word()}/tags/list`,
      ])();
      const query = Array.from({ length: random(4) }, () => `${pick(parameters)}=${word()}`).join(
        pick(['&', '&&', ';']),
      );
      const method = pick(['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE']);
      const lines = Array.from(
        { length: random(4) },
        () => `${pick(names)}: ${pick(['bytes=', '', 'bytes ', '"'])}${word()}-${word()}`,
      );
      const body = bytesOf(String(random(1000)), random(50));
      const length = pick([body.length, body.length, random(60)]);
      const sized = pick([`Content-Length: ${length}`, `Content-Length: ${length}`, 'Transfer-Encoding: chunked']);
      const text = head(method, `${path}${query && '?'}${query}`, ...lines, sized, 'Connection: close');
      const wire = (await Wire.open(server.host)).write(Buffer.from(text, 'latin1')).write(body);
      // A body that ends early gets no answer.
      if (sized.startsWith('C') && length > body.length) wire.socket.end();
      await wire.untilClosed(30_000).catch(() => expect.fail(`no end of: ${JSON.stringify(text)}`));
      if (wire.status >= 500) expect.fail(`${wire.status} for ${JSON.stringify(text)}: ${wire.text}`);
      statuses.set(wire.status, (statuses.get(wire.status) ?? 0) + 1);
    };
    for (let round = 0; round < 50; round++) await Promise.all(Array.from({ length: 50 }, one));
    for (const status of [200, 202, 400, 404, 405]) expect([...statuses.keys()]).to.include(status);
  });
});

/** Numbers below a limit, the same for the same seed. */
function randomOf(seed: string): (limit: number) => number {
  const bytes = bytesOf(seed, 4 * 1024 * 1024);
  let at = 0;
  return (limit) => {
    at = (at + 4) % bytes.length;
    return bytes.readUInt32LE(at) % limit;
  };
}
