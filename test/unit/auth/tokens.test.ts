import { createHmac } from 'node:crypto';
import { expect } from 'chai';
import type { SigningKeys } from '../../../src/auth/signing-keys.js';
import { TOKEN_ISSUER, Tokens } from '../../../src/auth/tokens.js';
import { ForgedToken } from '../../../src/auth/forged-token.js';
import { isFailure } from '../../../src/errors.js';

const KEY = { id: '00000000-0000-4000-8000-000000000001', secret: new Uint8Array(64).fill(7) };
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

describe('tokens that this registry signs', () => {
  const find = async (id: string) => (id === KEY.id ? KEY : undefined);
  // Of PostgreSQL, not of this process.
  const now = 2_000_000_000;
  const tokens = new Tokens({ find, now: async () => await Promise.resolve(now) } as SigningKeys);
  const payload = {
    use: 'access',
    kind: 'key',
    sub: 'one',
    iss: TOKEN_ISSUER,
    iat: now,
    exp: now + 24 * 60 * 60,
    fingerprint: 'x',
  };
  const signed = (claims: object, header: object = {}, digest = 'sha256') => {
    const text = `${encode({ alg: 'HS256', kid: KEY.id, ...header })}.${encode({ ...payload, ...claims })}`;
    return `${text}.${createHmac(digest, KEY.secret).update(text).digest('base64url')}`;
  };
  const outcome = async (work: Promise<object>) =>
    await work.then(
      () => 'good',
      (error: unknown) => (isFailure(error) ? error.failure : String(error)),
    );

  it('are good for the one use that they are made for', async () => {
    expect(await outcome(tokens.verifyAccess(signed({})))).to.equal('good');
    expect(await outcome(tokens.verifyRefresh(signed({})))).to.equal('Unauthorized');
    expect(await outcome(tokens.verifyRefresh(signed({ use: 'refresh' })))).to.equal('good');
    expect(await outcome(tokens.verifyAccess(signed({ use: 'refresh' })))).to.equal('Unauthorized');
  });

  it('are checked once, but end when they do, or with their key', async () => {
    let clock = now;
    const keys = new Map([[KEY.id, KEY]]);
    const seen = new Tokens({ find: async (id) => keys.get(id), now: async () => clock } as SigningKeys);
    const token = signed({ exp: now + 60 });
    for (let time = 0; time < 2; time++) expect((await seen.verifyAccess(token)).expired).to.equal(false);
    expect(await outcome(seen.verifyRefresh(token))).to.equal('Unauthorized');
    clock = now + 60;
    expect((await seen.verifyAccess(token)).expired).to.equal(true);
    clock = now;
    keys.set(KEY.id, { ...KEY, secret: new Uint8Array(64).fill(8) });
    expect(await outcome(seen.verifyAccess(token))).not.to.equal('good');
    keys.clear();
    expect(await outcome(seen.verifyAccess(token))).to.equal('Unauthorized');
  });

  it('are still known when they have expired, but refresh nothing', async () => {
    const past = { exp: now - 60 };
    expect(await tokens.verifyAccess(signed(past))).to.include({ expired: true, expiresAt: now - 60 });
    expect((await tokens.verifyAccess(signed({}))).expired).to.equal(false);
    expect(await outcome(tokens.verifyRefresh(signed({ ...past, use: 'refresh' })))).to.equal('Unauthorized');
    expect(await outcome(tokens.verifyAccess(signed({ ...past, iss: 'somebody' })))).to.equal('Unauthorized');
    expect(await outcome(tokens.verifyAccess(signed({ ...past, use: 'refresh' })))).to.equal('Unauthorized');
  });

  for (const [what, text, forged] of [
    ['another algorithm with the same secret', signed({}, { alg: 'HS512' }, 'sha512'), true],
    ['an algorithm of key pairs', signed({}, { alg: 'ES256' }), true],
    ['no algorithm', signed({}, { alg: 'none' }), true],
    ['another issuer', signed({ iss: 'somebody' }), false],
    ['no issuer', signed({ iss: undefined }), false],
    ['no end', signed({ exp: undefined }), false],
    ['no subject', signed({ sub: undefined }), false],
    ['no name of a key', signed({}, { kid: undefined }), true],
    ['a name that no key has', signed({}, { kid: 'other' }), true],
    ['the name of a key that is gone', signed({}, { kid: '00000000-0000-4000-8000-000000000002' }), false],
    ['extensions that must be understood', signed({}, { crit: ['exp'] }), false],
    ['another signature', `${signed({}).slice(0, -4)}AAAA`, true],
    ['another signature and the end of it over', `${signed({ exp: now - 60 }).slice(0, -4)}AAAA`, true],
    ['no signature', signed({}).replace(/[^.]*$/, ''), true],
  ] as const) {
    it(`are no tokens with ${what}, and ${forged ? 'forged' : 'not called forged'}`, async () => {
      const error: unknown = await tokens.verifyAccess(text).catch((thrown: unknown) => thrown);
      expect(isFailure(error, 'Unauthorized'), String(error)).to.equal(true);
      expect(error instanceof ForgedToken).to.equal(forged);
    });
  }
});
