import { expect } from 'chai';
import { until, untilLogged } from '../faults/support/processes.js';
import { onDatabase } from '../support/keys.js';
import { AUTHORIZATION, startServer, type TestServer } from '../support/server.js';
import { expectError, openUpload } from './content.js';
import { untilTaken } from './under-way.js';
import { exchange, head, Wire } from './wire.js';

const FIELDS = head('GET', '/v2/').split('\r\n').slice(1, -2).join('').replaceAll(': ', '').length;

describe('limits of requests', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({
      environment: {
        REGISTRY_WORKERS: '1',
        REGISTRY_HEADER_MAX_BYTES: '4096',
        REGISTRY_URL_MAX_BYTES: '1024',
        REGISTRY_MAX_CONNECTIONS: '20',
      },
    });
  });
  after(async () => {
    await server?.dispose();
  });

  it('hold for header fields to the byte, and the connection goes on', async () => {
    const wire = await Wire.open(server.host);
    const padded = (size: number) => head('GET', '/v2/', `X: ${'x'.repeat(size - FIELDS - 1)}`);
    await wire.write(padded(4096)).untilAnswers(1);
    expect(wire.status).to.equal(200);
    await wire.write(padded(4097)).untilAnswers(2);
    expect(wire.status).to.equal(431);
    await wire.write(head('GET', '/v2/')).untilAnswers(3);
    expect(wire.status).to.equal(200);
    wire.end();
  });

  it('hold for the target to the byte, before the key is looked at', async () => {
    const target = (size: number) => `/v2/?${'x'.repeat(size - 5)}`;
    expect((await exchange(server.host, 'GET', target(1024))).status).to.equal(200);
    for (const size of [1025, 3000, 5000, 60_000]) {
      const refused = await exchange(server.host, 'GET', target(size), { headers: { authorization: '' } });
      expect(refused.status, `${size} bytes`).to.equal(414);
      expect(JSON.parse(refused.body.toString())).to.have.nested.property('errors[0].code', 'UNSUPPORTED');
    }
  });

  it('hold for a head of both that is beyond all of them', async () => {
    const wire = (await Wire.open(server.host)).write(head('GET', '/v2/', `X: ${'x'.repeat(50_000)}`));
    await wire.untilClosed();
    expect(wire.status).to.equal(431);
  });

  it('hold for the number of header fields', async () => {
    const fields = (count: number) => head('GET', '/v2/', ...Array.from({ length: count - 2 }, () => 'a: b'));
    const wire = await Wire.open(server.host);
    await wire.write(fields(256)).untilAnswers(1);
    expect(wire.status).to.equal(200);
    await wire.write(fields(257)).untilAnswers(2);
    expect(wire.status).to.equal(431);
    wire.end();
  });

  it('let a client read its refusal while it still sends a body', async () => {
    const wire = await Wire.open(server.host);
    wire
      .write(head('PUT', `/v2/a/manifests/${'x'.repeat(2000)}`, 'Content-Length: 1000000'))
      .write('x'.repeat(500_000));
    await wire.untilAnswers(1);
    expect(wire.status).to.equal(414);
    await wire.untilClosed();
  });

  it('hold for connections: further ones are closed at once, and the log says so', async () => {
    const wires: Wire[] = [];
    for (let count = 0; count < 30; count++) wires.push(await Wire.open(server.host));
    const left = () => wires.filter((wire) => !wire.closed);
    await until('those beyond the limit are closed', () => left().length <= 20);
    const open = left();
    expect(open.length, 'one or two may be those of the test before').to.be.within(15, 20);
    await open[0]?.write(head('GET', '/v2/')).untilAnswers(1);
    expect(open[0]?.status).to.equal(200);
    for (const wire of wires) wire.end();
    await untilLogged(server, /"level":"warn"[^\n]*"dropped":[0-9]+[^\n]*REGISTRY_MAX_CONNECTIONS/);
    // That connections have ended is noticed a moment later.
    await until('there is room again', async () => {
      const answer = await server.request('GET', '/v2/').catch(() => undefined);
      return answer?.status === 200;
    });
  });
});

describe('the limit of requests by address', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ environment: { REGISTRY_WORKERS: '1', REGISTRY_REQUESTS_PER_ADDRESS: '20' } });
  });
  after(async () => {
    await server?.dispose();
  });

  it('answers 429 with Retry-After beyond it, before the key is looked at, and lets go after a second', async () => {
    const begun = performance.now();
    const asked = await Promise.all(
      Array.from({ length: 60 }, () =>
        exchange(server.host, 'GET', '/v2/', { headers: { authorization: 'Basic eDp5' } }),
      ),
    );
    const refused = asked.filter(({ status }) => status === 429);
    // They may fall into two windows, or as many more as seconds have passed; what came before counts too.
    const windows = 2 + Math.floor((performance.now() - begun) / 1000);
    expect(refused.length).to.be.within(Math.max(60 - 20 * windows, 1), 59);
    expect(asked.filter(({ status }) => status === 401)).to.have.lengthOf(60 - refused.length);
    for (const { headers, body } of refused) {
      expect(headers['retry-after']).to.equal('1');
      expect(JSON.parse(body.toString())).to.have.nested.property('errors[0].code', 'TOOMANYREQUESTS');
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect((await server.request('GET', '/v2/')).status).to.equal(200);
  });

  it('counts addresses apart', async () => {
    const port = server.host.split(':')[1];
    const ask = async () =>
      (await fetch(`http://127.0.0.1:${port}/v2/`, { headers: { authorization: AUTHORIZATION } })).status;
    // Many at once: one after the other they may be too slow for the limit.
    while (!(await Promise.all(Array.from({ length: 30 }, ask))).includes(429));
    const other = await Wire.open(server.host, '127.0.0.2');
    await other.write(head('GET', '/v2/')).untilAnswers(1);
    expect(other.status).to.equal(200);
    other.end();
  });
});

describe('limits of one key', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({
      environment: {
        REGISTRY_WORKERS: '1',
        REGISTRY_UPLOADS_PER_KEY: '3',
        REGISTRY_SESSIONS_PER_KEY: '6',
      },
    });
  });
  after(async () => {
    await server?.dispose();
  });

  /** Whether there is room for an upload. What is sent is no manifest. */
  async function hasRoom(): Promise<boolean> {
    const { status } = await exchange(server.host, 'PUT', '/v2/limits/slow/manifests/probe', {
      body: Buffer.from('x'),
    });
    expect(status).to.be.oneOf([400, 429]);
    return status === 400;
  }

  it('hold for uploads that run, which reading and closing without bytes are not', async () => {
    const manifest = head('PUT', '/v2/limits/slow/manifests/x', 'Content-Length: 10');
    const wires = [(await Wire.open(server.host)).write(`${manifest}x`)];
    for (let count = 0; count < 2; count++) {
      const target = await openUpload(server, 'limits/slow');
      const wire = await Wire.open(server.host);
      await untilTaken(server, target, () => wire.write(`${head('PATCH', target, 'Content-Length: 10')}x`));
      wires.push(wire);
    }
    const location = await openUpload(server, 'limits/slow');
    const fourth = async (lines: string[] = [], body = 'x') => {
      const wire = await Wire.open(server.host);
      await wire.write(head('PATCH', location, `Content-Length: ${body.length}`, ...lines) + body).untilAnswers(1);
      wire.end();
      return wire;
    };
    const refused = await fourth();
    expect(refused.status).to.equal(429);
    expect(refused.text).to.match(/\r\nRetry-After: [0-9]+\r\n/);
    expect(refused.text).to.match(/"code":"TOOMANYREQUESTS"/);
    expect((await fourth(['Expect: 100-continue'], '')).status, 'nothing is brought').to.equal(202);
    const asking = await Wire.open(server.host);
    await asking.write(head('PATCH', location, 'Content-Length: 5', 'Expect: 100-continue')).untilAnswers(1);
    expect(asking.text).not.to.include('100 Continue');
    expect(asking.status).to.equal(429);
    asking.end();
    expect((await server.request('GET', location)).status).to.equal(204);
    expect((await server.request('GET', '/v2/_catalog')).status).to.equal(200);
    for (const wire of wires) wire.end();
    await until('the room of uploads that ended is given back', hasRoom);
    expect((await fourth()).status).to.equal(202);
  });

  it('answer a large body that is refused, and end its connection', async () => {
    const wires: Wire[] = [];
    for (let count = 0; count < 3; count++) {
      const target = `/v2/limits/slow/manifests/large-${count}`;
      wires.push((await Wire.open(server.host)).write(head('PUT', target, 'Content-Length: 10')));
    }
    // They run when one that came later is answered.
    expect((await server.request('GET', '/v2/_catalog')).status).to.equal(200);
    const wire = await Wire.open(server.host);
    wire.write(head('PUT', '/v2/limits/slow/manifests/large', 'Content-Length: 1000000')).write('x'.repeat(500_000));
    await wire.untilClosed();
    expect(wire.status).to.equal(429);
    expect(wire.text).to.match(/\r\nconnection: close\r\n/i);
    for (const other of wires) other.end();
  });

  it('hold for open sessions, of which committed, cancelled and expired ones are none', async () => {
    const name = 'limits/sessions';
    const open = () => server.request('POST', `/v2/${name}/blobs/uploads/`, { headers: { 'content-length': '0' } });
    const fill = async () => {
      for (;;) {
        const answer = await open();
        if (answer.status === 202) locations.push(answer.headers.get('location') ?? '');
        else return answer;
      }
    };
    const locations: string[] = [];
    const full = await fill();
    expect(full.headers.get('retry-after')).to.match(/^[0-9]+$/);
    const text = await full.clone().text();
    await expectError(full, 429, 'TOOMANYREQUESTS');
    expect(text).to.include('REGISTRY_SESSIONS_PER_KEY').and.include('6 uploads');
    const empty = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
    expect((await server.request('PUT', `${locations.pop()}?digest=${empty}`)).status).to.equal(201);
    expect((await server.request('DELETE', locations.pop() ?? '')).status).to.equal(204);
    const before = locations.length;
    await fill();
    expect(locations.length - before, 'two places were given back').to.be.at.least(2);
    expect((await open()).status).to.equal(429);
    await onDatabase(server, (database) => database.query('update uploads set expires_at = now()'));
    expect((await open()).status, 'the places of sessions that expired were given back').to.equal(202);
  });
});
