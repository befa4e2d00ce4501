import { expect } from 'chai';
import { Authenticator } from '../../../src/auth/authenticator.js';
import { createKey, putAdminKey, revokeKey } from '../../../src/auth/keys.js';
import { revokeAllTokens } from '../../../src/auth/signing-keys.js';
import { setVisibility } from '../../../src/auth/visibility.js';
import { connect, type Database } from '../../../src/database/connect.js';
import { isFailure } from '../../../src/errors.js';
import { parseRepositoryName } from '../../../src/oci/name.js';
import { UNHEARD } from '../../support/keys.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const ADDRESS = '192.0.2.1';
const NAME = parseRepositoryName('a/b');
const NOTHING = { kind: 'none' } as const;
const REQUEST = { repositories: [NAME], catalog: false, refresh: true };

// Leases alone would do so within REVOKED_MS; what is shown here is that nobody waits for them.
describe('a process that is told of a change', () => {
  let site: TestDatabase;
  let database: Database;
  let authenticator: Authenticator;

  before(async () => {
    site = await createDatabase();
    database = connect({ url: site.url, pool: 2, timeout: 5 });
    authenticator = new Authenticator({
      database,
      anonymous: 'none',
      tokenLifetimeSeconds: 60,
      refreshLifetimeSeconds: 60,
      signingKeyLifetimeSeconds: 60,
      uploadLifetimeSeconds: 60,
      sessions: { lifetimeSeconds: 60, idleSeconds: 60 },
      issuers: [],
      failuresPerAddress: 1_000,
      failuresPerKey: 1_000,
    });
  });
  after(async () => {
    await database.close();
    await site.drop();
  });

  const secret = async (text: string) => await authenticator.authenticate({ kind: 'secret', text }, ADDRESS);
  const bearer = async (text: string) => await authenticator.authenticate({ kind: 'bearer', text }, ADDRESS);
  const outcome = async (work: Promise<unknown>) =>
    await work.then(
      () => 'passed',
      (error: unknown) => (isFailure(error) ? error.failure : String(error)),
    );
  const made = async () =>
    await createKey(
      database,
      { name: 'x', grants: [{ repository: '**', actions: ['pull'] }], readOnly: false, expiresAt: undefined },
      4,
      UNHEARD,
    );

  it('believes in a revoked key no longer, nor in its tokens', async () => {
    const { id, text } = await made();
    const { token, refreshToken = '' } = await authenticator.giveToken(await secret(text), REQUEST);
    const { identity } = await bearer(token);
    expect(await outcome(authenticator.refresh(refreshToken, ADDRESS))).to.equal('passed');
    await revokeKey(database, id, UNHEARD);
    authenticator.onChange(`key ${id}`);
    expect(await authenticator.isAlive(identity)).to.equal(false);
    const outcomes = [secret(text), bearer(token), authenticator.refresh(refreshToken, ADDRESS)].map(outcome);
    expect(await Promise.all(outcomes)).to.deep.equal(Array(3).fill('Unauthorized'));
  });

  it('believes in the former secret of a key no longer, nor in the tokens given for it', async () => {
    await putAdminKey(database, 'wh_two_first', 'x', 4, UNHEARD);
    const shown = await secret('wh_two_first');
    const { token, refreshToken = '' } = await authenticator.giveToken(shown, REQUEST);
    expect(await authenticator.isAlive(shown.identity)).to.equal(true);
    await putAdminKey(database, 'wh_two_second', 'x', 4, UNHEARD);
    authenticator.onChange('key two');
    expect(await authenticator.isAlive(shown.identity)).to.equal(false);
    const outcomes = [secret('wh_two_first'), bearer(token), authenticator.refresh(refreshToken, ADDRESS)].map(outcome);
    expect(await Promise.all(outcomes)).to.deep.equal(Array(3).fill('Unauthorized'));
    expect(await outcome(secret('wh_two_second'))).to.equal('passed');
  });

  it('knows at once what has become public or private', async () => {
    const decision = async () => (await authenticator.authenticate(NOTHING, ADDRESS)).decide('pull', NAME);
    expect(await decision()).to.equal('challenge');
    await setVisibility(database, NAME, true, UNHEARD);
    authenticator.onChange('visibility');
    expect(await decision()).to.equal('allowed');
    await setVisibility(database, NAME, undefined, UNHEARD);
    authenticator.onChange('visibility');
    expect(await decision()).to.equal('challenge');
  });

  it('believes in no token any more when all are revoked', async () => {
    const { text } = await made();
    const { token } = await authenticator.giveToken(await secret(text), REQUEST);
    expect(await outcome(bearer(token))).to.equal('passed');
    await revokeAllTokens(database, UNHEARD);
    authenticator.onChange('signing-keys');
    expect(await outcome(bearer(token))).to.equal('Unauthorized');
  });

  it('believes in nothing that it knew when changes may have been missed', async () => {
    const { id, text } = await made();
    const other = await made();
    const decision = async () => (await authenticator.authenticate(NOTHING, ADDRESS)).decide('pull', NAME);
    const { token } = await authenticator.giveToken(await secret(other.text), REQUEST);
    const shown = await secret(text);
    const [session, cookie] = await authenticator.signIn(await secret(other.text), undefined, UNHEARD);
    expect(await decision()).to.equal('challenge');
    expect(await outcome(bearer(token))).to.equal('passed');
    expect(await authenticator.resume(cookie)).to.not.equal(undefined);
    await authenticator.sessions.end(session.id, UNHEARD);
    await revokeKey(database, id, UNHEARD);
    await setVisibility(database, NAME, true, UNHEARD);
    await revokeAllTokens(database, UNHEARD);
    authenticator.onGap();
    expect(await authenticator.isAlive(shown.identity)).to.equal(false);
    expect(await decision()).to.equal('allowed');
    expect(await outcome(bearer(token))).to.equal('Unauthorized');
    expect(await authenticator.resume(cookie)).to.equal(undefined);
    await setVisibility(database, NAME, undefined, UNHEARD);
    authenticator.onGap();
  });

  it('gives no token to whom came with one, good or expired, or by a session, nor to nobody where nothing is open', async () => {
    const { text } = await made();
    const access = await secret(text);
    const { token } = await authenticator.giveToken(access, REQUEST);
    expect(await outcome(authenticator.giveToken(await bearer(token), REQUEST))).to.equal('Unauthorized');
    const expired = { repositories: 'all', catalog: true, expiresAt: 1, expired: true } as const;
    const late = Object.assign(Object.create(access) as typeof access, { token: expired });
    expect(await outcome(authenticator.giveToken(late, REQUEST))).to.equal('Unauthorized');
    const signedIn = Object.assign(Object.create(access) as typeof access, {
      identity: { ...access.identity, session: 'x' },
    });
    expect(await outcome(authenticator.giveToken(signedIn, REQUEST))).to.equal('Unauthorized');
    const nobody = await authenticator.authenticate(NOTHING, ADDRESS);
    expect(await outcome(authenticator.giveToken(nobody, REQUEST))).to.equal('Unauthorized');
  });
});
