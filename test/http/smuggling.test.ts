// Requests whose end two readers could see in different places: the bytes behind them are never taken for a request of their own.
import { expect } from 'chai';
import { AUTHORIZATION, startServer, type TestServer } from '../support/server.js';
import { openUpload, pushImage } from './content.js';
import { head, Wire } from './wire.js';

const REPOSITORY = 'smuggling/model';
const PUT = `/v2/${REPOSITORY}/manifests/attempt`;
/** If anybody took it for a request, a tag would be gone. */
const SMUGGLED = head('DELETE', `/v2/${REPOSITORY}/manifests/precious`);
const CHUNKED = 'Transfer-Encoding: chunked';
const NOTHING = '0\r\n\r\n';

/** A request whose header lines are written as they are. */
const raw = (method: string, target: string, lines: string): string =>
  `${method} ${target} HTTP/1.1\r\nHost: test\r\nAuthorization: ${AUTHORIZATION}\r\n${lines}\r\n`;
/** A PUT of a manifest, whose body the registry reads. */
const chunked = (body: string): string => `${raw('PUT', PUT, `${CHUNKED}\r\n`)}${body}`;

describe('requests that smuggle others', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ environment: { REGISTRY_WORKERS: '1', REGISTRY_HEADERS_TIMEOUT: '2' } });
    await pushImage(server, REPOSITORY, 'precious');
  });
  after(async () => {
    await server?.dispose();
  });
  afterEach(async () => {
    const tag = await server.request('HEAD', `/v2/${REPOSITORY}/manifests/precious`);
    expect(tag.status, 'what was smuggled was not done').to.equal(200);
  });

  function statusesOf(wire: Wire): number[] {
    return [...wire.text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status));
  }

  async function send(text: string): Promise<Wire> {
    return (await Wire.open(server.host)).write(Buffer.from(text, 'latin1'));
  }

  const refused: [what: string, text: string, status: number][] = [
    ['a length before chunks', raw('PUT', PUT, `Content-Length: 5\r\n${CHUNKED}\r\n`) + NOTHING, 400],
    ['chunks before a length', raw('PUT', PUT, `${CHUNKED}\r\nContent-Length: 5\r\n`) + NOTHING, 400],
    ['chunked in two fields', raw('PUT', PUT, `${CHUNKED}\r\n${CHUNKED}\r\n`) + NOTHING, 400],
    ['chunked and then identity', raw('PUT', PUT, `${CHUNKED}, identity\r\n`) + NOTHING, 400],
    ['identity', raw('PUT', PUT, 'Transfer-Encoding: identity\r\n') + NOTHING, 501],
    ['identity and then chunked', raw('PUT', PUT, 'Transfer-Encoding: identity, chunked\r\n') + NOTHING, 501],
    ['gzip and then chunked', raw('PUT', PUT, 'Transfer-Encoding: gzip, chunked\r\n') + NOTHING, 501],
    ['nothing and then chunked', raw('PUT', PUT, 'Transfer-Encoding: , chunked\r\n') + NOTHING, 501],
    ['chunked and then nothing', raw('PUT', PUT, `${CHUNKED},\r\n`) + NOTHING, 400],
    ['an empty coding', raw('PUT', PUT, 'Transfer-Encoding:\r\n') + NOTHING, 400],
    ['an empty coding without a body', raw('PUT', PUT, 'Transfer-Encoding:\r\n'), 400],
    ['a coding that is nearly chunked', raw('PUT', PUT, 'Transfer-Encoding: xchunked\r\n') + NOTHING, 501],
    ['chunked in quotes', raw('PUT', PUT, 'Transfer-Encoding: "chunked"\r\n') + NOTHING, 501],
    ['chunked with a parameter', raw('PUT', PUT, `${CHUNKED};q=1\r\n`) + NOTHING, 501],
    ['chunked behind a vertical tab', raw('PUT', PUT, 'Transfer-Encoding: \x0bchunked\r\n') + NOTHING, 400],
    ['a blank before the colon of a coding', raw('PUT', PUT, 'Transfer-Encoding : chunked\r\n') + NOTHING, 400],
    ['a tab before the colon of a length', raw('PUT', PUT, 'Content-Length\t: 5\r\n'), 400],
    ['a folded coding', raw('PUT', PUT, 'Transfer-Encoding:\r\n chunked\r\n') + NOTHING, 400],
    ['a folded length', raw('PUT', PUT, 'Content-Length: 5\r\n 0\r\n'), 400],
    ['a folded field', raw('GET', '/v2/', 'X: a\r\n\tb\r\n'), 400],
    ['a fold before the first field', raw('GET', '/v2/', '').replace('Host', ' X: a\r\nHost'), 400],
    ['lines that end in LF alone', raw('GET', '/v2/', '').replaceAll('\r', ''), 400],
    ['one line that ends in LF alone', raw('GET', '/v2/', 'X: a\nY: b\r\n'), 400],
    ['a coding behind a LF alone', raw('PUT', PUT, `X: a\n${CHUNKED}\r\n`) + NOTHING, 400],
    ['a head that ends in LF alone', raw('GET', '/v2/', '').replace(/\r\n$/, '\n'), 400],
    ['a length behind a CR alone', raw('GET', '/v2/', 'X: a\rContent-Length: 5\r\n'), 400],
    ['a CR before the end of a line', raw('GET', '/v2/', 'X: a\r\r\n'), 400],
    ['a CR in the target', raw('GET', '/v2/\r', ''), 400],
    ['a NUL in the name of a field', raw('PUT', PUT, 'Content-Length\0: 5\r\n'), 400],
    ['a NUL in a length', raw('PUT', PUT, 'Content-Length: 5\0\r\n'), 400],
    ['a field without a name', raw('GET', '/v2/', ': x\r\n'), 400],
    ['a length with a plus', raw('PUT', PUT, 'Content-Length: +5\r\n'), 400],
    ['a length with a minus', raw('PUT', PUT, 'Content-Length: -5\r\n'), 400],
    ['a length of two numbers', raw('PUT', PUT, 'Content-Length: 5 5\r\n'), 400],
    ['a length that lists itself', raw('PUT', PUT, 'Content-Length: 5, 5\r\n'), 400],
    ['the same length twice', raw('PUT', PUT, 'Content-Length: 5\r\nContent-Length: 5\r\n'), 400],
    ['a hexadecimal length', raw('PUT', PUT, 'Content-Length: 0x5\r\n'), 400],
    ['a length with an exponent', raw('PUT', PUT, 'Content-Length: 5e0\r\n'), 400],
    ['a length beyond 2^64', raw('PUT', PUT, 'Content-Length: 18446744073709551621\r\n'), 400],
    ['an empty length', raw('PUT', PUT, 'Content-Length:\r\n'), 400],
    ['a chunk of 2^64 bytes', chunked('10000000000000001\r\nx\r\n'), 400],
    ['a chunk with 0x', chunked('0x1\r\nx\r\n'), 400],
    ['a chunk of minus one', chunked('-1\r\nx\r\n'), 400],
    ['a chunk of plus one', chunked('+1\r\nx\r\n'), 400],
    ['a chunk with a blank behind its size', chunked('1 \r\nx\r\n'), 400],
    ['a chunk without a size', chunked('\r\nx\r\n'), 400],
    ['a chunk whose size ends in LF alone', chunked('1\nx\r\n'), 400],
    ['a chunk whose extension ends in LF alone', chunked('1;a\nx\r\n'), 400],
    ['a chunk that is longer than it says', chunked('1\r\nxx\r\n'), 400],
    ['a chunk whose bytes end in LF alone', chunked('1\r\nx\n'), 400],
    ['a chunk with an extension without end', chunked(`1;${'a'.repeat(20_000)}\r\nx\r\n`), 400],
    ['a trailer that is a length', chunked('0\r\nContent-Length: 50\r\n\r\n'), 400],
    ['a trailer without end', chunked(`0\r\nX: ${'a'.repeat(40_000)}\r\n\r\n`), 431],
    ['a method in lower case', raw('get', '/v2/', ''), 400],
    ['tabs in the request line', raw('GET', '/v2/', '').replace('GET ', 'GET\t'), 400],
    ['a version that is not there yet', raw('GET', '/v2/', '').replace('1.1', '1.2'), 400],
  ];
  for (const [what, text, status] of refused) {
    it(`answers ${what} by ${status} alone and ends the connection`, async () => {
      const wire = await (await send(text + SMUGGLED)).untilClosed();
      expect(statusesOf(wire), wire.text).to.deep.equal([status]);
      expect(wire.text).to.match(/\r\nconnection: close\r\n/i);
      expect(wire.text).to.match(/\r\n\r\n\{"errors":\[\{"code":"[A-Z_]+","message":"[^"]+"\}\]\}$/);
    });
  }

  const length = `Content-Length: ${SMUGGLED.length}`;
  const inBodies: [what: string, text: string, status: number][] = [
    ['a GET that has a body', head('GET', '/v2/', length), 200],
    ['a HEAD that has a body', head('HEAD', '/v2/', length), 200],
    ['an OPTIONS that has a body', head('OPTIONS', '/v2/', length), 405],
    ['a DELETE that has a body', head('DELETE', `/v2/${REPOSITORY}/manifests/absent`, length), 404],
    ['the opening of an upload', head('POST', `/v2/${REPOSITORY}/blobs/uploads/`, length), 202],
    ['a manifest that is none', head('PUT', PUT, length), 400],
    ['an unknown upload', head('PATCH', `/v2/${REPOSITORY}/blobs/uploads/none`, length), 404],
    ['an unknown route', head('POST', '/nothing', length), 404],
    ['a request without a key', head('PUT', PUT, length).replace(/Authorization.*\r\n/, ''), 401],
    ['a name that is none', head('PUT', '/v2/A/manifests/x', length), 400],
    ['an expectation that is none', head('PUT', PUT, 'Expect: 200-ok', length), 400],
    ['a name that is nearly Content-Length', head('PUT', PUT, 'Content_Length: 0', length), 400],
    ['a length with zeros before it', head('PUT', PUT, length.replace(': ', ': 000')), 400],
    ['a length with a blank behind it', head('PUT', PUT, `${length} `), 400],
  ];
  for (const [what, text, status] of inBodies) {
    it(`takes a request in the body of ${what} for bytes, and goes on behind it`, async () => {
      const wire = await (await send(text + SMUGGLED)).untilAnswers(1);
      wire.write(head('GET', '/v2/_catalog'));
      await wire.until(({ text: all }) => all.includes('{"repositories":'));
      expect(statusesOf(wire), wire.text).to.deep.equal([status, 200]);
      expect(wire.closed).to.equal(false);
      wire.end();
    });
  }

  const inChunks: [what: string, body: string][] = [
    ['one chunk', `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n${NOTHING}`],
    ['a chunk with extensions', `${SMUGGLED.length.toString(16)};a=b;c="d"\r\n${SMUGGLED}\r\n${NOTHING}`],
    ['a chunk whose size has zeros before it', `${'0'.repeat(30)}1\r\nx\r\n${NOTHING}`],
    ['a chunk and a trailer', '1\r\nx\r\n0\r\nX-Checked: yes\r\n\r\n'],
  ];
  for (const [what, body] of inChunks) {
    it(`reads a body of ${what} to its end, and goes on behind it`, async () => {
      const wire = await send(chunked(body) + head('GET', '/v2/_catalog'));
      await wire.until(({ text }) => text.includes('{"repositories":'));
      expect(statusesOf(wire)).to.deep.equal([400, 200]);
      wire.end();
    });
  }

  it('keeps a request in the chunks of an upload among its bytes', async () => {
    const location = await openUpload(server, REPOSITORY);
    const chunk = `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n${NOTHING}`;
    const wire = await send(raw('PATCH', location, `${CHUNKED}\r\n`) + chunk + head('GET', location));
    await wire.untilAnswers(2);
    expect(statusesOf(wire)).to.deep.equal([202, 204]);
    expect(wire.text.match(/\r\nUpload-Offset: (\d+)/gi)).to.deep.equal(
      Array(2).fill(`\r\nUpload-Offset: ${SMUGGLED.length}`),
    );
    wire.end();
  });

  it('does one request of a connection after the other, as far as they are sent ahead', async () => {
    const targets = Array.from({ length: 20 }, (_, count) => `/v2/${REPOSITORY}/manifests/in-turn-${count % 2}`);
    const manifest = await pushImage(server, REPOSITORY, 'in-turn');
    const put = (target: string) =>
      head(
        'PUT',
        target,
        'Content-Type: application/vnd.oci.image.manifest.v1+json',
        `Content-Length: ${manifest.length}`,
      );
    const texts = targets.map((target) => put(target) + manifest.toString() + head('DELETE', target));
    const wire = await (await send(texts.join(''))).untilAnswers(40);
    expect(statusesOf(wire)).to.deep.equal(targets.flatMap(() => [201, 202]));
    wire.end();
  });

  it('ends a connection that sends requests ahead without measure', async () => {
    const wire = await send(head('GET', '/v2/_catalog').repeat(1000));
    await wire.untilClosed();
    expect(statusesOf(wire).length).to.be.lessThan(1000);
  });

  it('ends the connection when a refused body is too long to be thrown away, and answers nothing in it', async () => {
    const long = 'Content-Length: 100000';
    const wire = await send(head('PATCH', `/v2/${REPOSITORY}/blobs/uploads/none`, long) + SMUGGLED);
    await wire.untilClosed();
    expect(statusesOf(wire)).to.deep.equal([404]);
    expect(wire.text).to.match(/\r\nconnection: close\r\n/i);
  });

  it('does nothing of what follows an answer that ends the connection', async () => {
    const wire = await send(raw('PATCH', '/nothing', `${CHUNKED}\r\n`) + NOTHING + SMUGGLED);
    await wire.untilClosed();
    expect(statusesOf(wire)).to.deep.equal([404]);
  });

  it('ends the connection of a client that sends a refused body that it had asked about', async () => {
    const wire = await send(
      head('PATCH', `/v2/${REPOSITORY}/blobs/uploads/none`, 'Expect: 100-continue', length) + SMUGGLED,
    );
    await wire.untilClosed();
    expect(statusesOf(wire)).to.deep.equal([404]);
  });

  it('answers nothing behind a request to change the protocol', async () => {
    const upgrade = head(
      'GET',
      '/v2/',
      'Connection: Upgrade, HTTP2-Settings',
      'Upgrade: h2c',
      'HTTP2-Settings: AAMAAABk',
    );
    const wire = await (await send(upgrade + SMUGGLED)).untilAnswers(1);
    wire.write(head('GET', '/v2/_catalog'));
    await wire.until(({ text, closed }) => closed || text.includes('{"repositories":'));
    expect(statusesOf(wire)).to.deep.equal([200, 200]);
    wire.end();
  });

  const hosts: [what: string, text: string, status: number][] = [
    ['two Hosts', raw('GET', '/v2/', 'Host: other\r\n'), 400],
    ['the same Host twice', raw('GET', '/v2/', 'Host: test\r\n'), 400],
    ['a Host with a quote', head('GET', '/v2/').replace(': test', ': a"b'), 400],
    ['a Host with a path', head('GET', '/v2/').replace(': test', ': a/b'), 400],
    ['a Host that is a list', head('GET', '/v2/').replace(': test', ': a, b'), 400],
    ['a Host with a user', head('GET', '/v2/').replace(': test', ': u@b'), 400],
    ['a Host with a port that is none', head('GET', '/v2/').replace(': test', ': a:b'), 400],
    ['a Host beyond ASCII', head('GET', '/v2/').replace(': test', ': \xe4'), 400],
    ['an empty Host', head('GET', '/v2/').replace(': test', ':'), 200],
    ['a Host of IPv6', head('GET', '/v2/').replace(': test', ': [::1]:5000'), 200],
    ['two keys', head('GET', '/v2/', 'Authorization: Basic eDp5'), 400],
    ['an absolute target of another host', head('GET', 'http://elsewhere.example/v2/'), 200],
    ['an absolute target with a user', head('GET', 'http://u:p@test/v2/'), 200],
    ['an absolute target of a file', head('GET', 'file:///etc/passwd'), 404],
    ['empty lines before it', `\r\n\r\n${head('GET', '/v2/')}`, 200],
    ['a fragment', head('GET', '/v2/#x'), 200],
    ['more fields than anybody needs', head('GET', '/v2/', ...Array.from({ length: 300 }, () => 'a: b')), 431],
  ];
  for (const [what, text, status] of hosts) {
    it(`answers a request with ${what} by ${status}, and the one behind it for itself`, async () => {
      const wire = await send(text + head('GET', '/v2/_catalog'));
      await wire.until(({ text: all }) => all.includes('{"repositories":'));
      expect(statusesOf(wire)).to.deep.equal([status, 200]);
      wire.end();
    });
  }
});
