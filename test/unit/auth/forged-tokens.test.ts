import { expect } from 'chai';
import { decodeJwt, SignJWT } from 'jose';
import { Authenticator } from '../../../src/auth/authenticator.js';
import { createKey, revokeKey } from '../../../src/auth/keys.js';
import { revokeAllTokens } from '../../../src/auth/signing-keys.js';
import { connect, type Database } from '../../../src/database/connect.js';
import { isFailure } from '../../../src/errors.js';
import { UNHEARD } from '../../support/keys.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const ADDRESS = '192.0.2.1';
const OTHER = '192.0.2.2';
const PULL = [{ repository: '**', actions: ['pull' as const] }];
const REQUEST = { repositories: ['a/b'], catalog: false, refresh: true };
const ALLOWED = 3;

describe('forged tokens', () => {
  let site: TestDatabase;
  let database: Database;
  let authenticator: Authenticator;
  let key: { id: string; text: string };
  let token: string;
  let refreshToken: string;

  before(async () => {
    site = await createDatabase();
    database = connect({ url: site.url, pool: 2, timeout: 5 });
  });
  beforeEach(async () => {
    authenticator = new Authenticator({
      database,
      anonymous: 'none',
      tokenLifetimeSeconds: 60,
      refreshLifetimeSeconds: 60,
      signingKeyLifetimeSeconds: 60,
      uploadLifetimeSeconds: 60,
      sessions: { lifetimeSeconds: 60, idleSeconds: 60 },
      issuers: [],
      failuresPerAddress: ALLOWED,
      failuresPerKey: ALLOWED,
    });
    key = await createKey(database, { name: 'x', grants: PULL, readOnly: false }, 4, UNHEARD);
    const given = await authenticator.giveToken(await secret(key.text), REQUEST);
    token = given.token;
    refreshToken = given.refreshToken ?? '';
  });
  after(async () => {
    await database.close();
    await site.drop();
  });

  const secret = async (text: string, address = ADDRESS) =>
    await authenticator.authenticate({ kind: 'secret', text }, address);
  const bearer = async (text: string, address = ADDRESS) =>
    await authenticator.authenticate({ kind: 'bearer', text }, address);
  const outcome = async (work: Promise<unknown>) =>
    await work.then(
      () => 'passed',
      (error: unknown) => (isFailure(error) ? error.failure : String(error)),
    );
  const forge = (of: string) => `${of.slice(0, -4)}${of.endsWith('AAAA') ? 'BBBB' : 'AAAA'}`;
  const many = async (work: () => Promise<unknown>, times = 3 * ALLOWED) => {
    const outcomes: string[] = [];
    for (let index = 0; index < times; index++) outcomes.push(await outcome(work()));
    return outcomes;
  };
  const slowed = [...Array(ALLOWED).fill('Unauthorized'), ...Array(2 * ALLOWED).fill('TooManyRequests')];

  it('are counted by address like wrong keys, and who is right goes on', async () => {
    expect(await many(() => bearer(forge(token)))).to.deep.equal(slowed);
    const { failures, refused } = authenticator.statistics();
    expect([failures, refused]).to.deep.equal([ALLOWED, 2 * ALLOWED]);
    expect(await outcome(bearer(token))).to.equal('passed');
    expect(await outcome(secret(key.text))).to.equal('passed');
    expect(await outcome(bearer(forge(token), OTHER))).to.equal('Unauthorized');
    // The allowance of the address is one for all kinds of attempts.
    expect(await outcome(secret('wh_nobody_x'))).to.equal('TooManyRequests');
  });

  it('do not let more wrong keys be tried, nor the other way round', async () => {
    expect(await many(() => secret('wh_nobody_x'))).to.deep.equal(slowed);
    expect(await many(() => bearer(forge(token)))).to.deep.equal(Array(3 * ALLOWED).fill('TooManyRequests'));
    expect(await outcome(bearer(token))).to.equal('passed');
  });

  it('are counted where a refresh token is shown, too', async () => {
    expect(await many(() => authenticator.refresh(forge(refreshToken), ADDRESS))).to.deep.equal(slowed);
    expect(await outcome(authenticator.refresh(refreshToken, ADDRESS))).to.equal('passed');
  });

  it('are counted also without a signature, or under a name that no key of ours has', async () => {
    const head = (fields: object) => Buffer.from(JSON.stringify(fields)).toString('base64url');
    const payload = token.split('.')[1] ?? '';
    expect(await many(() => bearer(`${head({ alg: 'none' })}.${payload}.`))).to.deep.equal(slowed);
    expect(await outcome(bearer(`${head({ alg: 'HS256', kid: 'x' })}.${payload}.x`, OTHER))).to.equal('Unauthorized');
    expect(await many(() => bearer(`${head({ alg: 'HS256', kid: 'x' })}.${payload}.x`, OTHER), ALLOWED)).to.deep.equal(
      slowed.slice(1, ALLOWED + 1),
    );
  });

  it('are told from tokens that were good once, and from those of others, which are counted nowhere', async () => {
    const refused = Array(3 * ALLOWED).fill('Unauthorized');
    const foreign = await new SignJWT({ ...decodeJwt(token), iss: 'https://elsewhere.example' })
      .setProtectedHeader({ alg: 'HS256', kid: 'x' })
      .sign(new Uint8Array(32));
    expect(await many(() => bearer(foreign))).to.deep.equal(refused);
    expect(await many(() => bearer('what is no token'))).to.deep.equal(refused);
    expect(await many(() => authenticator.refresh(foreign, ADDRESS))).to.deep.equal(refused);
    // One for another use, and one whose key was revoked.
    expect(await many(() => bearer(refreshToken))).to.deep.equal(refused);
    await revokeKey(database, key.id, UNHEARD);
    authenticator.onChange(`key ${key.id}`);
    expect(await many(() => bearer(token))).to.deep.equal(refused);
    expect(await many(() => authenticator.refresh(refreshToken, ADDRESS))).to.deep.equal(refused);
    // Signed with a key that is gone: what every honest client sends after this.
    await revokeAllTokens(database, UNHEARD);
    authenticator.onChange('signing-keys');
    expect(await many(() => bearer(token))).to.deep.equal(refused);
    expect(authenticator.statistics().failures).to.equal(0);
  });

  it('are told from tokens that have expired, with which nothing is wrong', async () => {
    const [row] = await database.query<{ id: string; secret: Buffer }>(
      'select id, secret from signing_keys order by created_at desc limit 1',
    );
    const past = await new SignJWT({ ...decodeJwt(token), exp: Math.floor(Date.now() / 1000) - 60 })
      .setProtectedHeader({ alg: 'HS256', kid: row?.id ?? '' })
      .sign(new Uint8Array(row?.secret ?? []));
    expect(new Set(await many(() => bearer(past)))).to.deep.equal(new Set(['passed']));
    expect((await bearer(past)).token?.expired).to.equal(true);
    expect(authenticator.statistics().failures).to.equal(0);
  });
});
