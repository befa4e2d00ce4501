import { expect } from 'chai';
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose';
import { putAdminKey } from '../../src/auth/keys.js';
import {
  askToken,
  basic,
  bearer,
  makeKey,
  onDatabase,
  revoke,
  type TestKey,
  type TokenAnswer,
  UNHEARD,
} from '../support/keys.js';
import { AUTHORIZATION, startServer, type TestServer } from '../support/server.js';
import { expectError, pushBlob } from './content.js';
import { exchange } from './wire.js';

const REPOSITORY = 'tokens/model';
const scope = (name: string, actions = 'pull') => ['scope', `repository:${name}:${actions}`] as const;

describe('the token endpoint', () => {
  let server: TestServer;
  let key: TestKey;
  let digest: string;
  const blob = (name = REPOSITORY) => `/v2/${name}/blobs/${digest}`;
  const status = async (method: string, path: string, authorization: string) =>
    (await server.request(method, path, { headers: { authorization } })).status;

  before(async () => {
    server = await startServer({ environment: { REGISTRY_TOKEN_LIFETIME: '120' } });
    key = await makeKey(server, ['tokens/**=pull,push']);
    digest = await pushBlob(server, REPOSITORY, Buffer.from('for tokens'));
    await pushBlob(server, 'tokens/other', Buffer.from('for tokens'));
  });
  after(() => server.dispose());

  const post = async (form: Record<string, string>) =>
    await fetch(`${server.url}/v2/token`, { method: 'POST', body: new URLSearchParams(form) });

  it('gives a short-lived JWT that opens the repository asked for, with all that the key may do there', async () => {
    const answer = await askToken(server, key.authorization, [['service', server.host], scope(REPOSITORY)]);
    expect(answer.status).to.equal(200);
    expect(answer.headers.get('cache-control')).to.equal('no-store');
    const given = (await answer.json()) as TokenAnswer;
    expect(given.access_token).to.equal(given.token);
    expect(given.expires_in).to.equal(120);
    expect(Date.parse(given.issued_at)).to.be.closeTo(Date.now(), 60_000);
    expect(given).not.to.have.property('refresh_token');
    expect(decodeProtectedHeader(given.token)).to.include({ alg: 'HS256', typ: 'JWT' });
    const { iat = 0, exp } = decodeJwt(given.token);
    expect(exp).to.equal(iat + 120);
    const authorization = `Bearer ${given.token}`;
    expect(await status('GET', '/v2/', authorization)).to.equal(200);
    expect(await status('GET', blob(), authorization)).to.equal(200);
    expect(await status('POST', `/v2/${REPOSITORY}/blobs/uploads/`, authorization)).to.equal(202);
  });

  it('makes tokens that do not count in other repositories of the key, and says for which to ask', async () => {
    const authorization = await bearer(server, key.authorization, REPOSITORY);
    const elsewhere = await server.request('PUT', '/v2/tokens/other/manifests/v1', { headers: { authorization } });
    expect(elsewhere.headers.get('www-authenticate')).to.equal(
      `Bearer realm="${server.url}/v2/token",service="${server.host}",scope="repository:tokens/other:pull,push",error="insufficient_scope"`,
    );
    await expectError(elsewhere, 401, 'UNAUTHORIZED');
    expect(await status('GET', '/v2/foreign/model/tags/list', authorization)).to.equal(403);
    const both = await bearer(server, key.authorization, REPOSITORY, 'tokens/other');
    expect(await status('GET', blob('tokens/other'), both)).to.equal(200);
    expect(await status('GET', '/v2/_catalog', both)).to.equal(401);
    expect(await status('GET', '/v2/_catalog', await bearer(server, key.authorization, 'catalog'))).to.equal(200);
  });

  it('takes several scopes in one parameter, in several, and passes over what is none', async () => {
    for (const scopes of [
      [['scope', `repository:${REPOSITORY}:pull,push repository:tokens/other:pull`] as const],
      [scope(REPOSITORY), scope('tokens/other')],
      [
        scope(REPOSITORY),
        ['scope', 'nonsense'] as const,
        scope('UPPER'),
        ['scope', ''] as const,
        scope('tokens/other', '*'),
      ],
    ]) {
      const given = (await (await askToken(server, key.authorization, scopes)).json()) as TokenAnswer;
      for (const name of [REPOSITORY, 'tokens/other'])
        expect(await status('GET', blob(name), `Bearer ${given.token}`)).to.equal(200);
    }
  });

  it('names the source of a mount beside its target in the challenge', async () => {
    const path = `/v2/${REPOSITORY}/blobs/uploads/?mount=${digest}&from=tokens/other`;
    const answer = await exchange(server.host, 'POST', path, { headers: { authorization: '' } });
    expect(answer.headers['www-authenticate']).to.include(
      `scope="repository:${REPOSITORY}:pull,push repository:tokens/other:pull"`,
    );
  });

  it('let a blob be mounted from wherever the key may pull, named or not', async () => {
    const bytes = Buffer.from('only in one repository');
    const only = await pushBlob(server, 'tokens/source', bytes);
    const hidden = await pushBlob(server, 'foreign/source', Buffer.from('not for this key'));
    const authorization = await bearer(server, key.authorization, 'tokens/target');
    const mount = async (query: string) =>
      await status('POST', `/v2/tokens/target/blobs/uploads/?${query}`, authorization);
    expect(await mount(`mount=${only}&from=tokens/source`)).to.equal(201);
    expect(await mount(`mount=${only}`)).to.equal(201);
    expect(await mount(`mount=${hidden}&from=foreign/source`)).to.equal(202);
    expect(await mount(`mount=${hidden}`)).to.equal(202);
  });

  it('challenges by the address that the client used', async () => {
    const { headers } = await exchange(server.host, 'GET', '/v2/', {
      headers: { authorization: '', host: 'weights.example:8443' },
    });
    expect(headers['www-authenticate']).to.equal(
      'Bearer realm="http://weights.example:8443/v2/token",service="weights.example:8443"',
    );
    // What would have to be quoted there is no host.
    for (const host of ['weights"example', 'a b', 'x,y']) {
      const refused = await exchange(server.host, 'GET', '/v2/', { headers: { authorization: '', host } });
      expect(refused.status, host).to.equal(400);
    }
  });

  it('refuses wrong credentials and nobody, by Basic', async () => {
    for (const authorization of [undefined, basic('wh_admin_wrong'), 'Bearer x.y.z']) {
      const answer = await askToken(server, authorization, [scope(REPOSITORY)]);
      expect(answer.headers.get('www-authenticate')).to.match(/^Basic realm="/);
      await expectError(answer, 401, 'UNAUTHORIZED');
    }
  });

  it('gives no token for a token, which would widen it', async () => {
    const authorization = await bearer(server, key.authorization, REPOSITORY);
    await expectError(await askToken(server, authorization, [scope('tokens/other')]), 401, 'UNAUTHORIZED');
  });

  it('speaks OAuth2: a password, a refresh token where it is asked for, and tokens for that', async () => {
    const form = { grant_type: 'password', username: 'x', password: key.text, client_id: 'test', service: server.host };
    const plain = (await (await post({ ...form, scope: `repository:${REPOSITORY}:pull` })).json()) as TokenAnswer;
    expect(plain).not.to.have.property('refresh_token');
    expect(await status('GET', blob(), `Bearer ${plain.access_token}`)).to.equal(200);
    const offline = (await (await post({ ...form, access_type: 'offline' })).json()) as TokenAnswer;
    const refresh_token = offline.refresh_token ?? '';
    const refreshed = await post({
      grant_type: 'refresh_token',
      refresh_token,
      scope: `repository:${REPOSITORY}:pull`,
    });
    const again = (await refreshed.json()) as TokenAnswer;
    expect(again.refresh_token).to.equal(refresh_token);
    expect(await status('GET', blob(), `Bearer ${again.access_token}`)).to.equal(200);
    // Each is for its own use.
    expect(await status('GET', '/v2/', `Bearer ${refresh_token}`)).to.equal(401);
    await expectError(
      await post({ grant_type: 'refresh_token', refresh_token: again.access_token }),
      401,
      'UNAUTHORIZED',
    );
  });

  it('gives a refresh token by GET to whom asks for one (offline_token)', async () => {
    const answer = await askToken(server, key.authorization, [
      ['offline_token', 'true'],
      ['account', 'x'],
    ]);
    expect((await answer.json()) as TokenAnswer).to.have.property('refresh_token');
  });

  const refused: [string, Record<string, string>, number][] = [
    ['another grant', { grant_type: 'authorization_code', code: 'x' }, 400],
    ['no grant', {}, 400],
    ['a wrong password', { grant_type: 'password', username: 'x', password: 'wh_admin_no' }, 401],
    ['no password', { grant_type: 'password', username: 'x' }, 401],
    ['a refresh token of nobody', { grant_type: 'refresh_token', refresh_token: 'a.b.c' }, 401],
  ];
  for (const [what, form, code] of refused) {
    it(`refuses a form with ${what}`, async () => {
      await expectError(await post(form), code, code === 400 ? 'UNSUPPORTED' : 'UNAUTHORIZED');
    });
  }

  it('refuses a body that is no form, or too large', async () => {
    const url = `${server.url}/v2/token`;
    const json = await fetch(url, { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } });
    expect(json.status).to.equal(415);
    const large = await fetch(url, { method: 'POST', body: new URLSearchParams({ scope: 'x'.repeat(70_000) }) });
    expect(large.status).to.equal(413);
  });

  it('ends tokens and refresh tokens with their key', async () => {
    const mine = await makeKey(server, ['tokens/**=pull']);
    const authorization = await bearer(server, mine.authorization, REPOSITORY);
    const form = { grant_type: 'password', username: 'x', password: mine.text, access_type: 'offline' };
    const { refresh_token = '' } = (await (await post(form)).json()) as TokenAnswer;
    expect(await status('GET', blob(), authorization)).to.equal(200);
    await revoke(server, mine.id);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(await status('GET', blob(), authorization)).to.equal(401);
    expect((await post({ grant_type: 'refresh_token', refresh_token })).status).to.equal(401);
  });

  it('ends tokens and refresh tokens with the secret of a key that gets another one', async () => {
    const replace = async (text: string) =>
      await onDatabase(server, (database) => putAdminKey(database, text, 'replaced', 4, UNHEARD));
    const settled = async () => await new Promise((resolve) => setTimeout(resolve, 1_000));
    await replace('wh_replaced_first-secret');
    await settled();
    const authorization = await bearer(server, basic('wh_replaced_first-secret'), REPOSITORY);
    const form = {
      grant_type: 'password',
      username: 'x',
      password: 'wh_replaced_first-secret',
      access_type: 'offline',
    };
    const { refresh_token = '' } = (await (await post(form)).json()) as TokenAnswer;
    expect(await status('GET', blob(), authorization)).to.equal(200);
    await replace('wh_replaced_second-secret');
    await settled();
    expect(await status('GET', blob(), authorization)).to.equal(401);
    expect((await post({ grant_type: 'refresh_token', refresh_token })).status).to.equal(401);
  });

  describe('refuses a token', () => {
    const secretOf = async () =>
      await onDatabase(server, async (database) => {
        const [row] = await database.query<{ id: string; secret: Buffer }>(
          'select id, secret from signing_keys limit 1',
        );
        if (!row) throw new Error('nothing signs');
        return row;
      });
    let claims: Record<string, unknown>;
    const signed = async (
      change: Record<string, unknown>,
      secret?: Uint8Array,
      header: Record<string, string> = {},
      life = 60,
    ) => {
      const { id, secret: real } = await secretOf();
      const now = Math.floor(Date.now() / 1000);
      const payload = { ...claims, iss: 'weighhouse', sub: key.id, iat: now - 100, exp: now + life, ...change };
      return await new SignJWT(payload)
        .setProtectedHeader({ alg: 'HS256', kid: id, ...header })
        .sign(secret ?? new Uint8Array(real));
    };
    before(async () => {
      claims = decodeJwt((await bearer(server, key.authorization, REPOSITORY)).replace('Bearer ', ''));
      // What is refused below is refused for one reason each.
      expect(await status('GET', blob(), `Bearer ${await signed({})}`)).to.equal(200);
    });

    for (const [what, make] of [
      ['with another signature', () => signed({}, new Uint8Array(32))],
      ['of a key that is not there', () => signed({}, undefined, { kid: 'nobody' })],
      ['of another algorithm', () => signed({}, undefined, { alg: 'HS512' })],
      [
        'without a signature',
        async () => `${Buffer.from('{"alg":"none"}').toString('base64url')}.${(await signed({})).split('.')[1]}.`,
      ],
      ['of another use', () => signed({ use: 'refresh' })],
      ['of another issuer', () => signed({ iss: 'somebody' })],
      ['given for another secret of the key', () => signed({ fingerprint: 'x'.repeat(22) })],
      ['of no secret in particular', () => signed({ fingerprint: undefined })],
      ['of a key of the API that is not there', () => signed({ sub: 'nobody' })],
      ['that has expired', () => signed({}, undefined, {}, -50)],
      ['without an end', () => signed({ exp: undefined })],
    ] as [string, () => Promise<string>][]) {
      it(what, async () => {
        const answer = await server.request('GET', blob(), { headers: { authorization: `Bearer ${await make()}` } });
        expect(answer.headers.get('www-authenticate')).to.include('error="invalid_token"');
        await expectError(answer, 401, 'UNAUTHORIZED');
      });
    }
  });

  it('opens the registry to an admin with a token for each repository, but not as a whole', async () => {
    const authorization = await bearer(server, AUTHORIZATION, 'any/repository');
    expect(await status('GET', '/v2/any/repository/tags/list', authorization)).to.equal(404);
  });
});
