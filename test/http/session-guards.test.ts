import { expect } from 'chai';
import { api } from '../support/api.js';
import { makeKey, type SessionAnswer, signIn, type TestSession } from '../support/keys.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';
import { exchange } from './wire.js';

const REPOSITORY = 'guards/model';
const UPLOADS = `/v2/${REPOSITORY}/blobs/uploads/`;
type Headers = Readonly<Record<string, string>>;

describe('the cookie of a session', function () {
  this.timeout(60_000);
  let server: TestServer;
  let session: TestSession;
  let other: TestSession;

  before(async () => {
    server = await startServer({ tls: false });
    session = await signIn(server, ADMIN_KEY);
    other = await signIn(server, ADMIN_KEY);
  });
  after(() => server.dispose());

  const who = async (headers: Headers, of = server) =>
    await api<SessionAnswer>(of, 'GET', '/session', { key: null, headers });
  const make = async (headers: Headers) =>
    await api(server, 'POST', '/models', { key: null, headers, body: { name: '' } });
  const ask = async (method: string, path: string, headers: Headers, of = server) =>
    await exchange(of.host, method, path, { headers: { authorization: '', ...headers } });

  it('changes nothing without its own token, by any method at either door', async () => {
    const { cookie } = session;
    const without: Headers[] = [
      { cookie },
      { cookie, 'x-csrf-token': '' },
      { cookie, 'x-csrf-token': `${session.csrf}x` },
      { cookie, 'x-csrf-token': other.csrf },
      { cookie, 'x-csrf-token': cookie.split('=')[1] ?? '' },
    ];
    for (const headers of without) {
      const refused = await make(headers);
      expect(refused.status).to.equal(403);
      expect(refused.body.detail).to.equal('the header X-CSRF-Token is missing, or is not of this session');
      for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'PURGE'])
        for (const path of [UPLOADS, '/v2/', '/api/v1/models', '/api/v1/session', '/api/v1/nothing']) {
          if (method === 'POST' && path === '/api/v1/session') continue;
          expect((await ask(method, path, headers)).status, `${method} ${path}`).to.equal(403);
        }
      const uploading = await ask('POST', UPLOADS, headers);
      expect(JSON.parse(uploading.body.toString())).to.have.nested.property('errors[0].code', 'DENIED');
      for (const method of ['GET', 'HEAD']) expect((await ask(method, '/v2/', headers)).status).to.equal(200);
    }
    expect((await make(session.headers)).status).to.equal(422);
    expect((await ask('POST', UPLOADS, session.headers)).status).to.equal(202);
    // It has not been signed out above.
    expect((await who({ cookie })).body.id).to.equal('admin');
  });

  it('changes nothing for pages of other origins, and shows them nothing, though they had its token', async () => {
    const origin = server.url;
    const foreign: Headers[] = [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { 'sec-fetch-site': 'none' },
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: origin.replace(/:\d+$/, ':1') },
      { origin, 'sec-fetch-site': 'same-site' },
      { origin: 'https://evil.example', 'sec-fetch-site': 'same-origin' },
    ];
    for (const headers of foreign) {
      const refused = await make({ ...session.headers, ...headers });
      expect([refused.status, refused.body.detail], JSON.stringify(headers)).to.deep.equal([
        403,
        'pages of other sites may change nothing',
      ]);
      const signing = await api(server, 'POST', '/session', { key: null, headers, body: { key: ADMIN_KEY } });
      expect([signing.status, signing.headers.get('set-cookie')]).to.deep.equal([403, null]);
      if (headers.origin === undefined || headers.origin === origin) continue;
      const read = await who({ cookie: session.cookie, ...headers });
      expect([read.body.kind, read.headers.get('set-cookie')]).to.deep.equal(['anonymous', null]);
    }
    for (const headers of [
      { 'sec-fetch-site': 'same-origin' },
      { origin },
      { origin, 'sec-fetch-site': 'same-origin' },
    ])
      expect((await make({ ...session.headers, ...headers })).status).to.equal(422);
    // An address that was typed in, or a link from elsewhere: the browser decides whether it sends the cookie.
    for (const site of ['none', 'same-site'])
      expect((await who({ cookie: session.cookie, 'sec-fetch-site': site })).body.id).to.equal('admin');
  });

  it('gives way to a key or a token in the head, right or wrong', async () => {
    const { id, text, authorization } = await makeKey(server, ['guards/**=pull']);
    for (const headers of [{ 'x-api-key': text }, { authorization }]) {
      expect((await who({ ...session.headers, ...headers })).body).to.deep.include({ id, session: null });
      // Whoever can set headers needs no token of the session.
      expect((await make({ cookie: session.cookie, ...headers })).status).to.equal(422);
    }
    for (const headers of [
      { 'x-api-key': 'wh_nobody_x' },
      { authorization: 'Bearer x' },
      { authorization: 'nonsense' },
    ]) {
      const answer = await who({ ...session.headers, ...headers });
      expect([answer.status, answer.body]).to.deep.equal([401, { detail: 'Invalid API key' }]);
      expect(answer.headers.get('set-cookie')).to.equal(null);
    }
  });

  it('is found among others, and is none if there are two, or it is no such thing', async () => {
    const { cookie } = session;
    for (const text of [`a=b; ${cookie}; c=d`, `${cookie};a=b`, `=; ;;${cookie}`, `${cookie}; ${cookie}`])
      expect((await who({ cookie: text })).body.id, text).to.equal('admin');
    for (const text of ['a=b', `x${cookie}`, cookie.toUpperCase(), `my_${cookie}`, ';'])
      expect((await who({ cookie: text })).headers.get('session-ended'), text).to.equal(null);
    const [name = '', value = ''] = cookie.split('=');
    for (const text of [
      `${cookie}; ${other.cookie}`,
      `${name}=`,
      `${name}="${value}"`,
      `${name}=${value}x`,
      `${name}=${value.slice(0, -1)}`,
      `${name}=%00`,
      `${name}='; drop table sessions`,
      `${name}=${'x'.repeat(10_000)}`,
    ]) {
      const answer = await who({ cookie: text });
      expect([answer.status, answer.body.kind, answer.headers.get('session-ended')], text.slice(0, 100)).to.deep.equal([
        200,
        'anonymous',
        'true',
      ]);
    }
    const long = await ask('GET', '/api/v1/session', { cookie: `${name}=${'x'.repeat(20_000)}` });
    expect(long.status).to.equal(431);
    expect((await ask('GET', '/api/v1/session', { cookie: `${name}=caf\xe9` })).status).to.equal(200);
  });

  it('of a session that has ended keeps nobody from reading what everybody may, and writes in nobody’s name', async () => {
    const open = await startServer({
      tls: false,
      environment: { REGISTRY_ANONYMOUS: 'push', REGISTRY_WORKERS: '1' },
    });
    try {
      const { headers } = await signIn(open, ADMIN_KEY);
      expect((await ask('POST', UPLOADS, headers, open)).status).to.equal(202);
      expect((await api(open, 'DELETE', '/session', { key: null, headers })).status).to.equal(204);
      const read = await api(open, 'GET', '/models', { key: null, headers });
      expect([read.status, read.headers.get('session-ended')]).to.deep.equal([200, 'true']);
      expect(read.headers.get('set-cookie')).to.match(/^weighhouse_session=; /);
      const tags = await ask('GET', `/v2/${REPOSITORY}/tags/list`, headers, open);
      expect(tags.status).to.equal(200);
      expect((await api(open, 'GET', '/api-keys', { key: null, headers })).body).to.deep.equal({
        detail: 'This session has ended: sign in again',
      });
      const written = await ask('POST', UPLOADS, headers, open);
      expect([written.status, written.headers['session-ended']]).to.deep.equal([401, 'true']);
      expect(written.headers['set-cookie']?.[0]).to.match(/^weighhouse_session=; /);
      // Once the cookie is gone, whoever has none may.
      expect((await ask('POST', UPLOADS, {}, open)).status).to.equal(202);
    } finally {
      await open.dispose();
    }
  });
});
