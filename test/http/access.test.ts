import { expect } from 'chai';
import { ADMIN_KEY, type TestServer } from '../support/server.js';
import { digestOf, expectError } from './content.js';
import { sharedServer } from './shared-server.js';
import { exchange } from './wire.js';

const DIGEST = digestOf('nothing');
const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;

describe('access over HTTP', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  it('answers the base with 200 to a key, with and without the slash', async () => {
    for (const path of ['/v2/', '/v2']) {
      const answer = await server.request('GET', path);
      expect(answer.status).to.equal(200);
      expect(answer.headers.get('docker-distribution-api-version')).to.equal('registry/2.0');
      expect(answer.headers.get('content-length')).to.equal('2');
    }
    expect((await server.request('HEAD', '/v2/')).status).to.equal(200);
  });

  const routes: [string, string][] = [
    ['GET', '/v2/'],
    ['HEAD', '/v2/'],
    ['GET', '/v2/_catalog'],
    ['GET', `/v2/team/model/blobs/${DIGEST}`],
    ['HEAD', `/v2/team/model/blobs/${DIGEST}`],
    ['DELETE', `/v2/team/model/blobs/${DIGEST}`],
    ['GET', '/v2/team/model/blobs/no-digest'],
    ['POST', '/v2/team/model/blobs/uploads/'],
    ['POST', '/v2/UPPER/blobs/uploads/'],
    ['PATCH', '/v2/team/model/blobs/uploads/no-upload'],
    ['PUT', '/v2/team/model/blobs/uploads/no-upload'],
    ['GET', '/v2/team/model/blobs/uploads/no-upload'],
    ['DELETE', '/v2/team/model/blobs/uploads/no-upload'],
    ['GET', '/v2/team/model/manifests/latest'],
    ['HEAD', '/v2/team/model/manifests/latest'],
    ['PUT', '/v2/team/model/manifests/latest'],
    ['DELETE', '/v2/team/model/manifests/latest'],
    ['GET', '/v2/team/model/manifests/-not-a-tag'],
    ['GET', '/v2/team/model/tags/list?n=nonsense'],
    ['GET', `/v2/team/model/referrers/${DIGEST}`],
    ['GET', '/v2/team/model/referrers/no-digest'],
    ['GET', '/v2/no/such/route'],
    ['GET', '/'],
    ['GET', '/favicon.ico'],
    ['GET', '/v2/%E0%A4%A/tags/list'],
    ['GET', '/v2/../etc/passwd'],
    ['OPTIONS', '/v2/'],
    ['DELETE', '/v2/'],
    ['PURGE', '/v2/'],
  ];
  for (const [method, path] of routes) {
    it(`challenges ${method} ${path} without a key before anything is looked at`, async () => {
      const answer = await exchange(server.host, method, path, { headers: { authorization: '' } });
      expect(answer.status).to.equal(401);
      expect(answer.headers['www-authenticate']).to.match(/^Bearer realm="http:[^"]+\/v2\/token",service="127[^"]+"/);
      if (method === 'HEAD') expect(answer.body).to.have.lengthOf(0);
      else expect(JSON.parse(answer.body.toString())).to.have.nested.property('errors[0].code', 'UNAUTHORIZED');
    });
  }

  const refused: [string, string][] = [
    ['a wrong key', basic('admin:wrong-key')],
    ['the key with a byte more', basic(`admin:${ADMIN_KEY}x`)],
    ['the key with a byte less', basic(`admin:${ADMIN_KEY.slice(0, -1)}`)],
    ['the key as the user name', basic(`${ADMIN_KEY}:`)],
    ['the key without a colon', basic(ADMIN_KEY)],
    ['an empty key', basic('admin:')],
    ['a key of a megabyte less than the limit of a head', basic(`admin:${'k'.repeat(8000)}`)],
    ['a key with a NUL', basic(`admin:${ADMIN_KEY}\0`)],
    ['a NUL before the colon alone', basic('\0:\0')],
    ['what is not base64', 'Basic !!!!'],
    ['no credentials', 'Basic'],
    ['another scheme', `Bearer ${ADMIN_KEY}`],
    ['two schemes', `Basic Basic ${Buffer.from(`a:${ADMIN_KEY}`).toString('base64')}`],
  ];
  for (const [what, authorization] of refused) {
    it(`refuses ${what} with a challenge`, async () => {
      const answer = await server.request('GET', '/v2/', { headers: { authorization } });
      expect(answer.headers.get('www-authenticate')).to.match(/^Bearer /);
      await expectError(answer, 401, 'UNAUTHORIZED');
    });
  }

  const accepted: [string, string][] = [
    ['another user name', basic(`somebody else:${ADMIN_KEY}`)],
    ['an empty user name', basic(`:${ADMIN_KEY}`)],
    ['a user name beyond ASCII', basic(`Müller:${ADMIN_KEY}`)],
    ['the scheme in lower case', basic(`a:${ADMIN_KEY}`).replace('Basic', 'basic')],
    ['the scheme in upper case', basic(`a:${ADMIN_KEY}`).replace('Basic', 'BASIC')],
    ['two blanks after the scheme', basic(`a:${ADMIN_KEY}`).replace(' ', '  ')],
    ['no padding', basic(`ab:${ADMIN_KEY}`).replace(/=+$/, '')],
  ];
  for (const [what, authorization] of accepted) {
    it(`takes the key with ${what}`, async () => {
      expect((await server.request('GET', '/v2/', { headers: { authorization } })).status).to.equal(200);
    });
  }

  it('does not mention in its log any key that was sent', async () => {
    await exchange(server.host, 'GET', '/v2/', { headers: { authorization: basic('admin:a-key-of-somebody') } });
    const log = await server.log();
    for (const secret of ['a-key-of-somebody', ADMIN_KEY, basic(`anyone:${ADMIN_KEY}`).slice(6)])
      expect(log).not.to.include(secret);
  });

  it('names each request in its answer, also in a refusal', async () => {
    const ids = await Promise.all(
      ['/v2/', '/v2/x/tags/list', '/nothing'].map(async (path) =>
        (await server.request('GET', path)).headers.get('x-request-id'),
      ),
    );
    for (const id of ids) expect(id).to.match(/^[0-9a-f-]{36}$/);
    expect(new Set(ids).size).to.equal(ids.length);
  });
});
