import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { startServer, type TestServer } from '../support/server.js';
import { bytesOf, openUpload, pushBlob } from './content.js';
import { untilTaken } from './under-way.js';
import { exchange, head, Wire } from './wire.js';

interface Line {
  readonly level: string;
  readonly msg: string;
  readonly requestId?: string;
  readonly [field: string]: unknown;
}

const REPOSITORY = 'logged/model';

describe('the log of requests', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ environment: { REGISTRY_TRUSTED_PROXIES: '127.0.0.1' } });
  });
  after(async () => {
    await server?.dispose();
  });

  async function lines(): Promise<Line[]> {
    // The last one may not be whole yet.
    const whole = (await server.log()).split('\n').slice(0, -1);
    const text = whole.filter((line) => line.startsWith('{'));
    return text.map((line) => JSON.parse(line) as Line);
  }

  /** The line of a request, when it is there. */
  async function lineOf(requestId: string): Promise<Line> {
    let found: Line[] = [];
    await until(`the request ${requestId} is logged`, async () => {
      found = (await lines()).filter((line) => line.msg === 'request' && line.requestId === requestId);
      return found.length > 0;
    });
    expect(found, 'one line a request').to.have.lengthOf(1);
    return found[0] as Line;
  }

  it('takes the id of a request from the client and gives it back, if it is a sober one', async () => {
    for (const id of ['a', 'trace-01.A_b', 'x'.repeat(128)]) {
      const answer = await exchange(server.host, 'GET', '/v2/', { headers: { 'x-request-id': id } });
      expect(answer.headers['x-request-id']).to.equal(id);
      expect(await lineOf(id)).to.include({ path: '/v2/', status: 200 });
    }
    for (const id of ['', 'x'.repeat(129), 'two words', 'a,b', 'ä', '{"a":1}', '../x']) {
      const answer = await exchange(server.host, 'GET', '/v2/', { headers: { 'x-request-id': id } });
      expect(answer.headers['x-request-id']).to.match(/^[0-9a-f-]{36}$/);
    }
    const twice = await exchange(server.host, 'GET', '/v2/', { headers: { 'x-request-id': ['first', 'second'] } });
    expect(twice.headers['x-request-id']).to.match(/^[0-9a-f-]{36}$/);
  });

  it('says who did what where, how much came and went, and how long it took', async () => {
    const bytes = bytesOf('logged', 5_000);
    const digest = await pushBlob(server, REPOSITORY, bytes);
    const location = await openUpload(server, REPOSITORY);
    const headers = (id: string) => ({ 'x-request-id': id, 'x-forwarded-for': '192.0.2.7' });
    await exchange(server.host, 'PATCH', `${location}?secret=of-the-query`, { headers: headers('up'), body: bytes });
    const up = await lineOf('up');
    expect(up).to.include({
      level: 'info',
      method: 'PATCH',
      path: location,
      status: 202,
      actor: 'admin',
      repository: REPOSITORY,
      received: 5_000,
      sent: 0,
      address: '192.0.2.7',
    });
    expect(up.ms).to.be.a('number').within(0, 60_000);
    expect(up).not.to.have.property('broken');
    expect(await server.log()).not.to.include('of-the-query');

    const path = `/v2/${REPOSITORY}/blobs/${digest}`;
    await exchange(server.host, 'GET', path, { headers: headers('down') });
    expect(await lineOf('down')).to.include({ method: 'GET', path, status: 200, received: 0, sent: 5_000 });
    await exchange(server.host, 'GET', path, { headers: { ...headers('part'), range: 'bytes=10-19' } });
    expect(await lineOf('part')).to.include({ status: 206, sent: 10 });
    await exchange(server.host, 'HEAD', path, { headers: headers('head') });
    expect(await lineOf('head')).to.include({ method: 'HEAD', status: 200, sent: 0 });
    const list = await exchange(server.host, 'GET', `/v2/${REPOSITORY}/tags/nothing`, { headers: headers('none') });
    expect(await lineOf('none')).to.include({ status: 404, sent: list.body.length });
  });

  it('says where, also of what was refused there', async () => {
    const headers = { 'x-request-id': 'refused', authorization: '' };
    await exchange(server.host, 'GET', `/v2/${REPOSITORY}/tags/list`, { headers });
    expect(await lineOf('refused')).to.include({ status: 401, repository: REPOSITORY });
  });

  it('marks what was broken off, on the way up and on the way down', async () => {
    const location = await openUpload(server, REPOSITORY);
    const up = await Wire.open(server.host);
    await untilTaken(server, location, () =>
      up.write(`${head('PATCH', location, 'Content-Length: 10', 'X-Request-Id: cut-up')}half`),
    );
    up.end();
    const line = await lineOf('cut-up');
    expect(line).to.include({ broken: true, received: 4, sent: 0 });
    expect(line, 'no answer, no status').not.to.have.property('status');

    const digest = await pushBlob(server, REPOSITORY, bytesOf('cut', 30 * 1024 * 1024));
    const down = (await Wire.open(server.host)).write(
      head('GET', `/v2/${REPOSITORY}/blobs/${digest}`, 'X-Request-Id: cut-down'),
    );
    await down.until(({ received }) => received.length > 1000);
    down.end();
    const cut = await lineOf('cut-down');
    expect(cut).to.include({ broken: true, status: 200 });
    expect(cut.sent).to.be.within(1, 30 * 1024 * 1024 - 1);
  });
});
