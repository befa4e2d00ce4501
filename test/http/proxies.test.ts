import { expect } from 'chai';
import { startServer, type TestServer } from '../support/server.js';
import { exchange } from './wire.js';

const FORWARDED = {
  authorization: '',
  'x-forwarded-for': '203.0.113.9',
  'x-forwarded-proto': 'https',
  'x-forwarded-host': 'weights.example',
};

describe('behind a proxy', () => {
  const challengeOf = async (server: TestServer) =>
    (await exchange(server.host, 'GET', '/v2/', { headers: FORWARDED })).headers['www-authenticate'];
  let server: TestServer;
  afterEach(() => server.dispose());

  it('that is trusted the challenge and the failures are the client’s', async () => {
    server = await startServer({
      environment: {
        REGISTRY_TRUSTED_PROXIES: '127.0.0.0/8, ::1',
        REGISTRY_WORKERS: '1',
        REGISTRY_AUTH_FAILURES_PER_ADDRESS: '3',
      },
    });
    expect(await challengeOf(server)).to.equal(
      'Bearer realm="https://weights.example/v2/token",service="weights.example"',
    );
    const guess = async (address: string, key: string) => {
      const headers = {
        'x-forwarded-for': address,
        authorization: `Basic ${Buffer.from(`x:${key}`).toString('base64')}`,
      };
      return await exchange(server.host, 'GET', '/v2/', { headers });
    };
    for (const index of [1, 2, 3]) expect((await guess('203.0.113.9', `wh_id${index}_x`)).status).to.equal(401);
    const slowed = await guess('203.0.113.9', 'wh_id4_x');
    expect(slowed.status).to.equal(429);
    expect(Number(slowed.headers['retry-after'])).to.be.within(1, 60);
    expect(JSON.parse(slowed.body.toString()).errors[0].code).to.equal('TOOMANYREQUESTS');
    expect((await guess('203.0.113.10', 'wh_id5_x')).status).to.equal(401);
  });

  it('that is not trusted the client is the proxy', async () => {
    server = await startServer();
    expect(await challengeOf(server)).to.equal(`Bearer realm="${server.url}/v2/token",service="${server.host}"`);
  });

  it('the public address may be a setting', async () => {
    server = await startServer({ environment: { REGISTRY_PUBLIC_URL: 'https://public.example:8443' } });
    expect(await challengeOf(server)).to.equal(
      'Bearer realm="https://public.example:8443/v2/token",service="public.example:8443"',
    );
  });
});
