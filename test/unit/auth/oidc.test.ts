import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose';
import { ForgedToken } from '../../../src/auth/forged-token.js';
import { Oidc } from '../../../src/auth/oidc.js';
import { isFailure } from '../../../src/errors.js';

const AUDIENCE = 'https://registry.example';

describe('an issuer of tokens', () => {
  let server: Server;
  let url: string;
  let requests: string[];
  let answer: RequestListener;
  let key: Awaited<ReturnType<typeof generateKeyPair>>;
  let jwk: JWK;

  before(async () => {
    key = await generateKeyPair('RS256', { extractable: true });
    jwk = { ...(await exportJWK(key.publicKey)), kid: 'one', alg: 'RS256', use: 'sig' };
  });
  beforeEach(async () => {
    requests = [];
    answer = (request, response) => {
      const found = request.url === '/jwks' ? { keys: [jwk] } : { issuer: url, jwks_uri: `${url}/jwks` };
      response.end(JSON.stringify(found));
    };
    server = createServer((request, response) => {
      requests.push(request.url ?? '');
      answer(request, response);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  const oidc = (freshMs?: number) => {
    const grants = [{ repository: '**', actions: ['pull'] as const }];
    const rules = [{ claims: { team: '*' }, grants }];
    return new Oidc([{ name: 'ci', issuer: url, audience: AUDIENCE, jwksUri: undefined, rules }], freshMs);
  };
  const token = async (sub: unknown, claims: Record<string, unknown> = {}, header: object = {}, by = key) => {
    const now = Math.floor(Date.now() / 1000);
    return await new SignJWT({
      iss: url,
      aud: AUDIENCE,
      iat: now,
      exp: now + 60,
      team: 'a',
      sub,
      ...claims,
    } as JWTPayload)
      .setProtectedHeader({ alg: 'RS256', kid: 'one', ...header })
      .sign(by.privateKey);
  };
  const outcomeOf = (error: unknown) => (isFailure(error) ? error.failure : String(error));
  const outcome = async (issuers: Oidc, text: string) =>
    await issuers.verify(text, url).then(({ identity }) => identity.id, outcomeOf);

  it('is asked for its keys once, however many tokens come', async () => {
    const issuers = oidc();
    const one = await token('one');
    expect(await Promise.all([1, 2, 3].map(() => outcome(issuers, one)))).to.deep.equal(Array(3).fill('oidc:ci:one'));
    expect(requests).to.deep.equal(['/.well-known/openid-configuration', '/jwks']);
  });

  it('that is away is not asked for every token, and asked again after a moment', async () => {
    const healthy = answer;
    answer = (_request, response) => response.writeHead(500).end();
    const issuers = oidc();
    const one = await token('one');
    for (let index = 0; index < 10; index++) expect(await outcome(issuers, one)).to.equal('Unavailable');
    expect(requests).to.have.length(1);
    answer = healthy;
    for (const deadline = performance.now() + 10_000; (await outcome(issuers, one)) !== 'oidc:ci:one'; ) {
      expect(performance.now(), 'it is never asked again').to.be.below(deadline);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });

  it('that answers nonsense instead of keys is away; its tokens are not wrong', async () => {
    const healthy = answer;
    answer = (request, response) =>
      request.url === '/jwks' ? void response.end('{"error":"try later"}') : healthy(request, response);
    expect(await outcome(oidc(), await token('one'))).to.equal('Unavailable');
  });

  it('that does not give its keys is not asked for every token either', async () => {
    const healthy = answer;
    answer = (request, response) =>
      request.url === '/jwks' ? void response.writeHead(500).end() : healthy(request, response);
    const issuers = oidc();
    const one = await token('one');
    for (let index = 0; index < 10; index++) expect(await outcome(issuers, one)).to.equal('Unavailable');
    expect(requests).to.deep.equal(['/.well-known/openid-configuration', '/jwks']);
  });

  it('is asked anew after a while, and its keys are kept as long as it is away', async () => {
    const freshMs = 200;
    const past = async () => await new Promise((resolve) => setTimeout(resolve, freshMs + 20));
    const healthy = answer;
    const issuers = oidc(freshMs);
    const one = await token('one');
    expect(await outcome(issuers, one)).to.equal('oidc:ci:one');
    await past();
    answer = (_request, response) => response.writeHead(500).end();
    const began = performance.now();
    for (let index = 0; index < 3; index++) expect(await outcome(issuers, one)).to.equal('oidc:ci:one');
    // After a failure it is asked again in a tenth of the time, which a slow machine may need for three tokens.
    const again = Math.floor((performance.now() - began) / (freshMs / 10));
    const [discovery, first, ...more] = requests;
    expect([discovery, first]).to.deep.equal(['/.well-known/openid-configuration', '/jwks']);
    expect(new Set(more)).to.deep.equal(new Set(['/jwks']));
    expect(more.length).to.be.within(1, 1 + again);
    // One that the issuer gave up meanwhile counts no longer when it is back.
    const { kid: _former, ...others } = jwk;
    answer = (request, response) =>
      request.url === '/jwks'
        ? void response.end(JSON.stringify({ keys: [{ ...others, kid: 'two' }] }))
        : healthy(request, response);
    await past();
    expect(await outcome(issuers, one)).to.equal('Unauthorized');
  });

  it('whose discovery document is of another issuer is not believed', async () => {
    const healthy = answer;
    answer = (request, response) =>
      request.url === '/jwks'
        ? healthy(request, response)
        : void response.end(JSON.stringify({ issuer: 'https://other.example', jwks_uri: `${url}/jwks` }));
    expect(await outcome(oidc(), await token('one'))).to.equal('Unavailable');
  });

  it('names its holders so that no two are taken for one', async () => {
    const issuers = oidc();
    const long = 's'.repeat(255);
    expect(await outcome(issuers, await token(long))).to.equal(`oidc:ci:${long}`);
    for (const sub of [`${long}s`, '', 'a\0b', 'a\nb', 'é', 7])
      expect(await outcome(issuers, await token(sub)), JSON.stringify(sub)).to.equal('Unauthorized');
  });

  it('is told what it can not have signed from what it may have signed, and from what can not be looked at', async () => {
    const issuers = oidc();
    const other = await generateKeyPair('RS256');
    const pair = await generateKeyPair('ES256');
    const forged = async (text: string) =>
      await issuers.verify(text, url).then(
        () => 'good',
        (error: unknown) => (error instanceof ForgedToken ? `forged ${error.claimed}` : outcomeOf(error)),
      );
    const one = await token('one');
    const [header = '', payload = '', signature = ''] = one.split('.');
    const headed = (fields: object) => Buffer.from(JSON.stringify(fields)).toString('base64url');
    const past = Math.floor(Date.now() / 1000) - 3600;
    for (const [what, text, wanted] of [
      ['itself', one, 'good'],
      ['signed by another', await token('one', {}, {}, other), 'forged token:ci'],
      ['signed by another and over', await token('one', { exp: past }, {}, other), 'forged token:ci'],
      ['cut', `${header}.${payload}.${signature.slice(0, -8)}`, 'forged token:ci'],
      ['without a signature', `${headed({ alg: 'none' })}.${payload}.`, 'forged token:ci'],
      ['with a shared secret', `${headed({ alg: 'HS256', kid: 'one' })}.${payload}.${signature}`, 'forged token:ci'],
      ['with a head that is none', `${Buffer.from('7').toString('base64url')}.${payload}.x`, 'forged token:ci'],
      ['by a key that is not there', await token('one', {}, { kid: 'new' }, other), 'Unauthorized'],
      ['by some key', await token('one', {}, { kid: undefined }, other), 'Unauthorized'],
      ['by another kind of key', await token('one', {}, { alg: 'ES256' }, pair), 'Unauthorized'],
      ['by what is not taken here', `${headed({ alg: 'ES256K', kid: 'one' })}.${payload}.${signature}`, 'Unauthorized'],
      ['that is over', await token('one', { exp: past }), 'good'],
      ['for another', await token('one', { aud: 'other' }), 'Unauthorized'],
      ['that no rule takes', await token('one', { team: undefined }), 'Unauthorized'],
    ] as const)
      expect(await forged(text), what).to.equal(wanted);
    answer = (_request, response) => response.writeHead(500).end();
    const away = oidc();
    expect(await outcome(away, await token('one', {}, {}, other))).to.equal('Unavailable');
  });
});
