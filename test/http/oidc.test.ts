import { writeFile } from 'node:fs/promises';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { untilLogged } from '../faults/support/processes.js';
import { importJWK, SignJWT } from 'jose';
import { AUDIENCE, type Issuer, startIssuer } from '../support/issuer.js';
import { askToken, basic, bearer, type TokenAnswer } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import { bytesOf, digestOf, expectError } from './content.js';

const CLAIMS = { project: 'team-a/train', ref_protected: true, groups: ['ml', 'infra'] };

describe('tokens of OIDC issuers', function () {
  this.timeout(120_000);
  let issuer: Issuer;
  let server: TestServer;
  let folder: string;

  before(async () => {
    issuer = await startIssuer();
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-oidc-'));
    const file = join(folder, 'issuers.json');
    const settings = {
      issuers: [
        {
          name: 'ci',
          issuer: issuer.url,
          audience: AUDIENCE,
          rules: [
            {
              claims: { project: 'team-a/*', ref_protected: 'true' },
              grants: [{ repository: 'team-a/**', actions: ['pull', 'push'] }],
            },
            { claims: { groups: 'infra' }, grants: [{ repository: 'infra/*', actions: ['pull'] }] },
            {
              claims: { 'kubernetes.io.namespace': 'serving' },
              grants: [{ repository: '**', actions: ['pull'] }],
            },
          ],
        },
      ],
    };
    await writeFile(file, JSON.stringify(settings));
    server = await startServer({ environment: { REGISTRY_OIDC_FILE: file } });
  });
  after(async () => {
    await server.dispose();
    await issuer.stop();
    await rm(folder, { recursive: true });
  });

  const status = async (method: string, path: string, authorization: string) =>
    (await server.request(method, path, { headers: { authorization } })).status;
  const uploads = (name: string) => `/v2/${name}/blobs/uploads/`;

  it('are accepted as Bearer, as a password and as X-API-Key, with the grants that the rules give their claims', async () => {
    const token = await issuer.token(CLAIMS);
    for (const authorization of [`Bearer ${token}`, basic(token)]) {
      expect(await status('GET', '/v2/', authorization)).to.equal(200);
      expect(await status('POST', uploads('team-a/model'), authorization)).to.equal(202);
      expect(await status('GET', '/v2/infra/base/tags/list', authorization)).to.equal(404);
      expect(await status('POST', uploads('infra/base'), authorization)).to.equal(403);
      expect(await status('GET', '/v2/team-b/model/tags/list', authorization)).to.equal(403);
    }
    const keyed = await fetch(`${server.url}/v2/`, { headers: { 'x-api-key': token } });
    expect(keyed.status).to.equal(200);
  });

  it('are exchanged for tokens of the registry, which do not outlive them', async () => {
    const token = await issuer.token(CLAIMS, { lifetime: 20 });
    const authorization = await bearer(server, basic(token), 'team-a/model');
    expect(await status('POST', uploads('team-a/model'), authorization)).to.equal(202);
    expect(await status('POST', uploads('team-a/other'), authorization)).to.equal(401);
    const given = (await (
      await askToken(server, basic(token), [
        ['scope', 'repository:team-a/model:pull'],
        ['offline_token', 'true'],
      ])
    ).json()) as TokenAnswer;
    expect(given.expires_in).to.be.within(1, 20);
    expect(given).not.to.have.property('refresh_token');
  });

  it('reach into objects, also by names with dots', async () => {
    const token = await issuer.token({ 'kubernetes.io': { namespace: 'serving' } });
    expect(await status('GET', '/v2/any/model/tags/list', `Bearer ${token}`)).to.equal(404);
  });

  it('are noted as the actor of what they do', async () => {
    const token = await issuer.token(CLAIMS);
    const bytes = bytesOf('by a workload', 100);
    const pushed = await server.request('POST', `${uploads('team-a/model')}?digest=${digestOf(bytes)}`, {
      headers: { authorization: `Bearer ${token}` },
      body: bytes,
    });
    expect(pushed.status).to.equal(201);
    await untilLogged(server, '"actor":"oidc:ci:ci"');
  });

  const refused: [string, () => Promise<string>][] = [
    ['with claims that no rule takes', () => issuer.token({ project: 'team-b/x', ref_protected: true })],
    ['without claims', () => issuer.token({})],
    ['for another audience', () => issuer.token(CLAIMS, { audience: 'https://elsewhere.example' })],
    ['whose end was cut off', async () => (await issuer.token(CLAIMS)).slice(0, -6)],
    [
      'signed by another key under the same name',
      async () => {
        const now = Math.floor(Date.now() / 1000);
        const { privateKey } = await (await import('jose')).generateKeyPair('RS256');
        return await new SignJWT({ ...CLAIMS, iss: issuer.url, aud: AUDIENCE, sub: 'ci', iat: now, exp: now + 60 })
          .setProtectedHeader({ alg: 'RS256', kid: issuer.keys[0]?.kid ?? '' })
          .sign(privateKey);
      },
    ],
    [
      'signed with the public key as if it were a shared secret',
      async () => {
        const now = Math.floor(Date.now() / 1000);
        const secret = new TextEncoder().encode(JSON.stringify(issuer.keys[0]?.n));
        return await new SignJWT({ ...CLAIMS, iss: issuer.url, aud: AUDIENCE, sub: 'ci', iat: now, exp: now + 60 })
          .setProtectedHeader({ alg: 'HS256', kid: issuer.keys[0]?.kid ?? '' })
          .sign(secret);
      },
    ],
    [
      'of an issuer that is not configured',
      async () => {
        const now = Math.floor(Date.now() / 1000);
        const key = await importJWK(issuer.keys[0] ?? { kty: 'RSA' }, 'RS256');
        return await new SignJWT({ ...CLAIMS, iss: 'https://x.example', aud: AUDIENCE, sub: 'ci', exp: now + 60 })
          .setProtectedHeader({ alg: 'RS256', kid: issuer.keys[0]?.kid ?? '' })
          .sign(key);
      },
    ],
    [
      'that has no end',
      async () => {
        const key = await importJWK(issuer.keys[0] ?? { kty: 'RSA' }, 'RS256');
        return await new SignJWT({ ...CLAIMS, iss: issuer.url, aud: AUDIENCE, sub: 'ci' })
          .setProtectedHeader({ alg: 'RS256', kid: issuer.keys[0]?.kid ?? '' })
          .sign(key);
      },
    ],
    [
      'that has expired long ago',
      async () => {
        const now = Math.floor(Date.now() / 1000);
        const key = await importJWK(issuer.keys[0] ?? { kty: 'RSA' }, 'RS256');
        return await new SignJWT({ ...CLAIMS, iss: issuer.url, aud: AUDIENCE, sub: 'ci', exp: now - 3600 })
          .setProtectedHeader({ alg: 'RS256', kid: issuer.keys[0]?.kid ?? '' })
          .sign(key);
      },
    ],
  ];
  for (const [what, make] of refused) {
    it(`are refused ${what}`, async () => {
      const token = await make();
      for (const authorization of [`Bearer ${token}`, basic(token)])
        await expectError(await server.request('GET', '/v2/', { headers: { authorization } }), 401, 'UNAUTHORIZED');
    });
  }

  it('are verified with a key that the issuer has changed to, and not lost while it is away', async () => {
    const former = await issuer.token(CLAIMS);
    expect(await status('GET', '/v2/', `Bearer ${former}`)).to.equal(200);
    await issuer.rotate();
    // It has to last until another registry has started.
    const token = await issuer.token(CLAIMS, { lifetime: 300 });
    // The set of keys is asked for again at most every ten seconds.
    let answer = 401;
    for (const deadline = performance.now() + 30_000; answer !== 200 && performance.now() < deadline; ) {
      answer = await status('GET', '/v2/', `Bearer ${token}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(answer).to.equal(200);
    await issuer.stop();
    const fresh = await startServer({
      environment: { REGISTRY_OIDC_FILE: join(folder, 'issuers.json'), REGISTRY_WORKERS: '1' },
    });
    try {
      const away = await fresh.request('GET', '/v2/', { headers: { authorization: `Bearer ${token}` } });
      expect(away.headers.get('retry-after')).to.match(/^[0-9]+$/);
      await expectError(away, 503, 'UNAVAILABLE');
      await issuer.start();
      // It is asked again after a moment.
      let back = 503;
      for (const deadline = performance.now() + 30_000; back === 503 && performance.now() < deadline; ) {
        back = (await fresh.request('GET', '/v2/', { headers: { authorization: `Bearer ${token}` } })).status;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      expect(back).to.equal(200);
    } finally {
      await fresh.dispose();
    }
  });
});
