import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { AUDIENCE, type Issuer, startIssuer } from '../support/issuer.js';
import { basic, bearer, makeKey } from '../support/keys.js';
import { AUTHORIZATION, startServer, type TestServer } from '../support/server.js';
import { expectError } from './content.js';

const ALLOWED = 3;

describe('whoever forges tokens', function () {
  this.timeout(60_000);
  let issuer: Issuer;
  let server: TestServer;
  let folder: string;

  before(async () => {
    issuer = await startIssuer();
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-forged-'));
    const file = join(folder, 'issuers.json');
    const rules = [{ claims: { team: '*' }, grants: [{ repository: '**', actions: ['pull'] }] }];
    await writeFile(file, JSON.stringify({ issuers: [{ name: 'ci', issuer: issuer.url, audience: AUDIENCE, rules }] }));
    server = await startServer({
      environment: {
        REGISTRY_OIDC_FILE: file,
        REGISTRY_WORKERS: '1',
        REGISTRY_TRUSTED_PROXIES: '127.0.0.0/8, ::1',
        REGISTRY_AUTH_FAILURES_PER_ADDRESS: '100',
        REGISTRY_AUTH_FAILURES_PER_KEY: String(ALLOWED),
      },
    });
  });
  after(async () => {
    await server.dispose();
    await issuer.stop();
    await rm(folder, { recursive: true });
  });

  const ask = async (address: string, authorization: string) =>
    await server.request('GET', '/v2/', { headers: { authorization, 'x-forwarded-for': address } });
  const cut = (token: string) => token.slice(0, -6);

  it('is slowed per address with 429 and Retry-After, and good tokens and keys of the address go on', async () => {
    const address = '203.0.113.1';
    const { authorization } = await makeKey(server, ['**=pull']);
    const token = await bearer(server, authorization, 'a/b');
    for (let index = 0; index < ALLOWED; index++)
      await expectError(await ask(address, cut(token)), 401, 'UNAUTHORIZED');
    const slowed = await ask(address, cut(token));
    expect(Number(slowed.headers.get('retry-after'))).to.be.within(1, 60);
    await expectError(slowed, 429, 'TOOMANYREQUESTS');
    for (const good of [token, authorization, AUTHORIZATION]) expect((await ask(address, good)).status).to.equal(200);
    expect((await ask('203.0.113.2', cut(token))).status).to.equal(401);
    const form = { grant_type: 'refresh_token', refresh_token: cut(token).replace('Bearer ', '') };
    const refreshed = await fetch(`${server.url}/v2/token`, {
      method: 'POST',
      body: new URLSearchParams(form),
      headers: { 'x-forwarded-for': address },
    });
    expect(refreshed.status).to.equal(429);
  });

  it('is slowed also with tokens of an issuer, as password or Bearer, and good ones of the issuer go on', async () => {
    const address = '203.0.113.3';
    const token = await issuer.token({ team: 'a' });
    const forged = [`Bearer ${cut(token)}`, basic(cut(token))];
    for (let index = 0; index < ALLOWED; index++)
      expect((await ask(address, forged[index % 2] ?? '')).status).to.equal(401);
    for (const authorization of forged) expect((await ask(address, authorization)).status).to.equal(429);
    for (const authorization of [`Bearer ${token}`, basic(token)])
      expect((await ask(address, authorization)).status).to.equal(200);
    // What is wrong with these is no forgery.
    const elsewhere = await issuer.token({ team: 'a' }, { audience: 'https://elsewhere.example' });
    for (let index = 0; index < 3 * ALLOWED; index++)
      expect((await ask('203.0.113.4', `Bearer ${elsewhere}`)).status).to.equal(401);
  });
});
