import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import type { S3Options } from '../../src/storage/s3/client.js';
import { bytesOf, digestOf } from '../http/content.js';
import { ADMIN_KEY, AUTHORIZATION, startServer, type TestServer } from '../support/server.js';
import { empty, placeIn, settingsOf } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';

const BYTES = bytesOf('redirected', 9_000_000);
const DIGEST = digestOf(BYTES);
const PATH = `/v2/team/model/blobs/${DIGEST}`;

describe('downloads that are sent to the gateway', () => {
  let ceph: Ceph;
  let place: S3Options;
  let server: TestServer;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
    place = placeIn(ceph);
    const environment = {
      ...settingsOf(place),
      // The registry's own name is 127.0.0.1 to whoever asks it by that.
      REGISTRY_S3_PUBLIC_ENDPOINT: `http://localhost:${ceph.port}`,
      REGISTRY_REDIRECT: '1000000',
      REGISTRY_REDIRECT_NETWORKS: '127.0.0.0/8',
      REGISTRY_REDIRECT_LIFETIME: '6',
      REGISTRY_TRUSTED_PROXIES: '127.0.0.1',
    };
    server = await startServer({ environment });
    for (const bytes of [BYTES, Buffer.from('small')]) await push(bytes);
  });
  after(async () => {
    await server?.dispose();
    if (place) await empty(place);
  });

  async function push(body: Buffer): Promise<void> {
    const begun = await server.request('POST', '/v2/team/model/blobs/uploads/');
    const path = `${begun.headers.get('location')}?digest=${digestOf(body)}`;
    expect((await server.request('PUT', path, { body })).status).to.equal(201);
  }

  it('are sent there with the whole and with one range, and the address does for both', async () => {
    const answer = await server.request('GET', PATH);
    expect(answer.status).to.equal(307);
    expect(answer.headers.get('cache-control')).to.equal('no-store');
    const url = new URL(answer.headers.get('location') ?? '');
    expect(url.host).to.equal(`localhost:${ceph.port}`);
    const whole = await fetch(url);
    expect(whole.headers.get('content-type')).to.equal('application/octet-stream');
    expect(Buffer.from(await whole.arrayBuffer()).equals(BYTES)).to.equal(true);
    const headers = { range: 'bytes=8000000-' };
    const range = await server.request('GET', PATH, { headers });
    expect(range.status).to.equal(307);
    const part = await fetch(range.headers.get('location') ?? '', { headers });
    expect(part.status).to.equal(206);
    expect(Buffer.from(await part.arrayBuffer()).equals(BYTES.subarray(8_000_000))).to.equal(true);
  });

  it('are given an address that is good for a while, to which an altered one is no match', async () => {
    const location = (await server.request('GET', PATH)).headers.get('location') ?? '';
    expect((await fetch(location.replace(/Signature=./, 'Signature=z'))).status).to.equal(403);
    await sleep(7_500);
    expect((await fetch(location)).status).to.equal(403);
  });

  for (const [what, status, method, headers] of [
    ['HEAD', 200, 'HEAD', {}],
    ['several ranges', 206, 'GET', { range: 'bytes=0-1,5-6' }],
    ['an unsatisfiable range', 416, 'GET', { range: 'bytes=9000000-' }],
    ['If-Range', 206, 'GET', { range: 'bytes=0-1', 'if-range': `"${DIGEST}"` }],
    ['a key in a header that follows everywhere', 200, 'GET', { 'x-api-key': ADMIN_KEY }],
    ['a client from elsewhere', 200, 'GET', { 'x-forwarded-for': '10.1.2.3' }],
    ['what the client has', 304, 'GET', { 'if-none-match': `"${DIGEST}"` }],
  ] as const) {
    it(`are not with ${what}`, async () => {
      const answer = await server.request(method, PATH, { headers });
      expect(answer.status).to.equal(status);
      await answer.arrayBuffer();
    });
  }

  it('are not of small blobs', async () => {
    const answer = await server.request('GET', `/v2/team/model/blobs/${digestOf('small')}`);
    expect([answer.status, await answer.text()]).to.deep.equal([200, 'small']);
  });

  for (const [host, status] of [
    ['localhost', 200],
    ['registry.example.com', 307],
  ] as const) {
    it(`are answered ${status} when the registry is ${host} to its client`, async () => {
      const answer = await new Promise<number | undefined>((resolve, reject) => {
        const asked = request(
          new URL(PATH, server.url),
          { headers: { host, authorization: AUTHORIZATION } },
          (found) => {
            resolve(found.statusCode);
            found.resume();
          },
        );
        asked.on('error', reject).end();
      });
      expect(answer).to.equal(status);
    });
  }
});
