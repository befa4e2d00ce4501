import { expect } from 'chai';
import { api } from '../support/api.js';
import { basic, bearer, makeKey, type SessionAnswer, signIn } from '../support/keys.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';
import { bytesOf, digestOf } from './content.js';
import { askWho, NOBODY } from './session-scene.js';
import { exchange } from './wire.js';

const REPOSITORY = 'session/model';
const MiB = 1024 * 1024;

describe('a browser that is signed in', function () {
  this.timeout(60_000);
  let server: TestServer;

  before(async () => {
    server = await startServer({
      tls: false,
      environment: {
        REGISTRY_WORKERS: '3',
        REGISTRY_LOG_LEVEL: 'trace',
        REGISTRY_TRUSTED_PROXIES: '127.0.0.0/8',
        REGISTRY_AUTH_FAILURES_PER_KEY: '6',
      },
    });
  });
  after(() => server.dispose());

  const who = async (headers: Readonly<Record<string, string>>) => await askWho(server, headers);

  it('has shown a key, in the head or the body, and is told who it is', async () => {
    const { id, text, authorization } = await makeKey(server, ['session/**=pull,push']);
    for (const [headers, body] of [
      [{}, { key: text }],
      [{ 'x-api-key': text }, undefined],
      [{ authorization }, undefined],
      [{ authorization }, { key: 'passed over' }],
    ] as const) {
      const made = await api<SessionAnswer>(server, 'POST', '/session', { key: null, headers, body });
      expect(made.status).to.equal(201);
      expect(made.headers.get('cache-control')).to.equal('no-store');
      expect(made.body).to.deep.include({
        kind: 'key',
        id,
        name: 'of a test',
        grants: [{ repository: 'session/**', actions: ['pull', 'push'] }],
        read_only: false,
        is_admin: false,
        anonymous: 'none',
        some_public: false,
      });
      const cookie = made.headers.get('set-cookie')?.split(';')[0] ?? '';
      // As a page that was loaded anew.
      expect((await who({ cookie })).body).to.deep.equal(made.body);
      const { created_at, expires_at } = made.body.session ?? { created_at: '', expires_at: '' };
      expect(Date.parse(expires_at) - Date.parse(created_at)).to.equal(12 * 60 * 60 * 1000);
    }
    expect((await who({})).body).to.deep.include(NOBODY);
    expect((await who({ authorization })).body).to.deep.include({ kind: 'key', id, session: null });
    expect((await who({ 'x-api-key': ADMIN_KEY })).body).to.deep.include({ id: 'admin', is_admin: true });
  });

  it('has a cookie that no script reads and no other site sends, bound to the host where TLS protects it', async () => {
    const flags = async (headers: Record<string, string>) => {
      const answer = await api(server, 'POST', '/session', { headers });
      return answer.headers.get('set-cookie')?.replace(/=whs_[\w-]{43}/, '');
    };
    const plain = 'weighhouse_session; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict';
    expect(await flags({})).to.equal(plain);
    // What a trusted proxy says, and a setting.
    expect(await flags({ 'x-forwarded-proto': 'https' })).to.equal(`__Host-${plain}; Secure`);
    const proxied = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'weights.example' };
    const session = await signIn(server, ADMIN_KEY, { ...proxied, origin: 'https://weights.example' });
    expect((await who({ ...proxied, cookie: session.cookie })).body.id).to.equal('admin');
    // The name without the promise counts for nothing there, and the other for nothing here.
    expect((await who({ ...proxied, cookie: session.cookie.replace('__Host-', '') })).body).to.deep.include(NOBODY);
    expect((await who({ cookie: session.cookie })).body).to.deep.include(NOBODY);
    for (const [tls, publicUrl] of [
      [true, ''],
      [false, 'https://weights.example'],
    ] as const) {
      const secure = await startServer({ tls, environment: { REGISTRY_PUBLIC_URL: publicUrl, REGISTRY_WORKERS: '1' } });
      try {
        const { headers } = await api(secure, 'POST', '/session');
        expect(headers.get('set-cookie')?.replace(/=whs_[\w-]{43}/, '')).to.equal(`__Host-${plain}; Secure`);
        const cookie = headers.get('set-cookie')?.split(';')[0] ?? '';
        expect((await api(secure, 'GET', '/models', { key: null, headers: { cookie } })).status).to.equal(200);
      } finally {
        await secure.dispose();
      }
    }
  });

  it('is not, with a wrong key or none, and guesses are slowed', async () => {
    const attempt = async (body?: object) =>
      await api(server, 'POST', '/session', { key: null, body, headers: { 'x-forwarded-for': '203.0.113.7' } });
    const none = await attempt();
    expect([none.status, none.body]).to.deep.equal([401, { detail: 'Missing API key' }]);
    const wrong = await attempt({ key: 'wh_nobody_x' });
    expect([wrong.status, wrong.body]).to.deep.equal([401, { detail: 'Invalid API key' }]);
    for (const answer of [none, wrong]) expect(answer.headers.get('set-cookie')).to.equal(null);
    for (const body of [{}, { key: '' }, { key: 7 }, { key: 'x'.repeat(256) }, { key: 'x', more: 1 }])
      expect((await attempt(body)).status, JSON.stringify(body)).to.equal(422);
    let slowed = wrong;
    // Each worker counts its share.
    for (let index = 0; index < 20 && slowed.status === 401; index++) slowed = await attempt({ key: 'wh_nobody_x' });
    expect(slowed.status).to.equal(429);
    expect(Number(slowed.headers.get('retry-after'))).to.be.within(1, 60);
  });

  it('is not for tokens, nor does it get any', async () => {
    const { authorization } = await makeKey(server, ['**=pull']);
    const token = await bearer(server, authorization, REPOSITORY);
    const refused = await api(server, 'POST', '/session', { key: null, headers: { authorization: token } });
    expect([refused.status, refused.body]).to.deep.equal([401, { detail: 'Invalid API key' }]);
    const { headers } = await signIn(server, ADMIN_KEY);
    for (const path of ['/v2/token', '/v2/token/', '/v2/token?offline_token=true', '/metrics']) {
      const answer = await exchange(server.host, 'GET', path, { headers: { authorization: '', ...headers } });
      expect(answer.status, path).to.equal(401);
      // A browser would ask for a password by itself.
      expect(answer.headers['www-authenticate'], path).to.match(/^Bearer /);
    }
  });

  it('may do what its key may, at both doors, and uploads in chunks', async () => {
    const { text } = await makeKey(server, ['session/**=pull,push']);
    const { headers } = await signIn(server, text);
    const asked = async (method: string, path: string, body?: Buffer, more = {}) =>
      await exchange(server.host, method, path, {
        headers: { authorization: '', ...headers, 'sec-fetch-site': 'same-origin', ...more },
        ...(body ? { body } : {}),
      });
    const bytes = bytesOf('dragged into a page', MiB);
    const opened = await asked('POST', `/v2/${REPOSITORY}/blobs/uploads/`);
    expect(opened.status).to.equal(202);
    const half = bytes.length / 2;
    const ranges = [0, half].map((start) => ({ start, range: { 'content-range': `${start}-${start + half - 1}` } }));
    let location = opened.headers.location ?? '';
    for (const { start, range } of ranges) {
      const sent = await asked('PATCH', location, bytes.subarray(start, start + half), range);
      expect(sent.status).to.equal(202);
      location = sent.headers.location ?? '';
    }
    const put = await asked('PUT', `${location}?digest=${digestOf(bytes)}`);
    expect(put.status).to.equal(201);
    expect((await asked('GET', `/v2/${REPOSITORY}/blobs/${digestOf(bytes)}`)).body.equals(bytes)).to.equal(true);
    expect((await asked('GET', '/v2/other/model/tags/list')).status).to.equal(403);
    const model = { name: 'of a session', storage_path: REPOSITORY };
    const made = await api<{ id: string; created_by: string }>(server, 'POST', '/models', {
      key: null,
      headers,
      body: model,
    });
    expect(made.status).to.equal(201);
    expect((await api(server, 'GET', '/api-keys', { key: null, headers })).status).to.equal(403);
  });

  it('of a read-only key only reads, and of an admin manages keys', async () => {
    const reader = await makeKey(server, ['**=admin'], { readOnly: true });
    const { headers } = await signIn(server, reader.text);
    expect((await api(server, 'GET', '/api-keys', { key: null, headers })).status).to.equal(200);
    const body = { name: 'made in a page', grants: [] };
    expect((await api(server, 'POST', '/api-keys', { key: null, headers, body })).status).to.equal(403);
    const upload = await exchange(server.host, 'POST', `/v2/${REPOSITORY}/blobs/uploads/`, {
      headers: { authorization: '', ...headers },
    });
    expect(upload.status).to.equal(403);
    const admin = await signIn(server, ADMIN_KEY);
    expect((await api(server, 'POST', '/api-keys', { key: null, headers: admin.headers, body })).status).to.equal(201);
  });

  it('leaves nothing of its cookie in the log', async () => {
    const { cookie, headers } = await signIn(server, ADMIN_KEY);
    await api(server, 'GET', `/models/${cookie.split('=')[1]}`, { key: null, headers });
    await api(server, 'POST', '/models', { key: null, headers, body: { [`${cookie}`]: cookie } });
    expect((await who({ authorization: basic(cookie.split('=')[1] ?? '') }).catch(() => undefined))?.status).to.equal(
      401,
    );
    const secret = (cookie.split('whs_')[1] ?? '').slice(0, 20);
    expect(secret).to.have.length(20);
    expect(await server.log()).not.to.include(secret);
  });
});
