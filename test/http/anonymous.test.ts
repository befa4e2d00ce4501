import { expect } from 'chai';
import { REVOKED_MS } from '../../src/auth/lease.js';
import { setVisibility } from '../../src/auth/visibility.js';
import { bearer, makeKey, onDatabase, UNHEARD } from '../support/keys.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';
import { digestOf, pushBlob } from './content.js';
import { exchange } from './wire.js';

const BYTES = Buffer.from('open to everybody');
const DIGEST = digestOf(BYTES);

async function started(mode: string): Promise<TestServer> {
  const server = await startServer({ environment: { REGISTRY_ANONYMOUS: mode } });
  await onDatabase(server, async (database) => {
    await setVisibility(database, 'open/**', true, UNHEARD);
    await setVisibility(database, 'open/closed', false, UNHEARD);
    await setVisibility(database, 'closed/*', false, UNHEARD);
  });
  for (const name of ['team/model', 'open/model', 'open/closed', 'closed/model']) {
    await pushBlob(server, name, BYTES);
    const path = `/v2/${name}/manifests/v1`;
    const body = JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: DIGEST, size: BYTES.length },
      layers: [],
    });
    const headers = { 'content-type': 'application/vnd.oci.image.manifest.v1+json' };
    expect((await server.request('PUT', path, { body, headers })).status).to.equal(201);
  }
  // Nobody was told of what is open.
  await new Promise((resolve) => setTimeout(resolve, REVOKED_MS));
  return server;
}

/** Which of these nobody in particular may pull and push, by mode. */
const OPEN: Record<string, { pull: string[]; push: string[] }> = {
  none: { pull: ['open/model'], push: [] },
  pull: { pull: ['open/model', 'team/model'], push: [] },
  push: { pull: ['open/model', 'team/model'], push: ['open/model', 'team/model'] },
};
const ALL = ['closed/model', 'open/closed', 'open/model', 'team/model'];

for (const [mode, open] of Object.entries(OPEN)) {
  describe(`a registry with REGISTRY_ANONYMOUS=${mode}`, () => {
    let server: TestServer;
    before(async () => {
      server = await started(mode);
    });
    after(() => server.dispose());
    const ask = async (method: string, path: string, authorization = '', body?: Buffer) =>
      await exchange(server.host, method, path, { headers: { authorization }, ...(body ? { body } : {}) });

    it('lets nobody in particular do what is open, and no more', async () => {
      for (const name of ALL) {
        const pulls = open.pull.includes(name) ? 200 : 401;
        expect((await ask('GET', `/v2/${name}/blobs/${DIGEST}`)).status, `pull ${name}`).to.equal(pulls);
        const pushes = open.push.includes(name) ? 202 : 401;
        expect((await ask('POST', `/v2/${name}/blobs/uploads/`)).status, `push ${name}`).to.equal(pushes);
        expect((await ask('DELETE', `/v2/${name}/manifests/v1`)).status, `delete ${name}`).to.equal(401);
      }
    });

    it('gives a log-in challenge at the base, and tokens for what is open', async () => {
      expect((await ask('GET', '/v2/')).status).to.equal(401);
      const token = await bearer(server, undefined, ...ALL);
      expect((await ask('GET', '/v2/', token)).status).to.equal(200);
      for (const name of ALL) {
        const status = open.pull.includes(name) ? 200 : 401;
        expect((await ask('GET', `/v2/${name}/manifests/v1`, token)).status, name).to.equal(status);
      }
    });

    it('lists to everybody the names that they may pull', async () => {
      const named = async (authorization: string) => {
        const { status, body } = await ask('GET', '/v2/_catalog', authorization);
        return status === 200 ? (JSON.parse(body.toString()) as { repositories: string[] }).repositories : status;
      };
      expect(await named(await bearer(server, undefined, 'catalog'))).to.deep.equal(open.pull);
      expect(await named('')).to.deep.equal(mode === 'none' ? 401 : open.pull);
      const key = await makeKey(server, ['closed/*=pull', 'nothing/**=push']);
      expect(await named(key.authorization)).to.deep.equal(['closed/model', ...open.pull]);
      // The way to the next page tells no other names either.
      const paged: string[] = [];
      for (let next: string | undefined = '/v2/_catalog?n=1'; next !== undefined; ) {
        const { body, headers } = await ask('GET', next, key.authorization);
        paged.push(...(JSON.parse(body.toString()) as { repositories: string[] }).repositories);
        next = /^<(.+)>; rel="next"$/.exec(String(headers.link ?? ''))?.[1];
        if (next !== undefined)
          expect(next).to.equal(`/v2/_catalog?${new URLSearchParams({ n: '1', last: paged.at(-1) ?? '' })}`);
      }
      expect(paged).to.deep.equal(['closed/model', ...open.pull]);
      const admin = `Basic ${Buffer.from(`x:${ADMIN_KEY}`).toString('base64')}`;
      expect(await named(admin)).to.deep.equal(ALL);
    });

    it('refuses wrong keys also where no key is needed', async () => {
      const wrong = `Basic ${Buffer.from('x:wh_admin_wrong').toString('base64')}`;
      expect((await ask('GET', `/v2/open/model/blobs/${DIGEST}`, wrong)).status).to.equal(401);
    });

    it('lets every key do what is open to everybody, a read-only one only pull', async () => {
      const { authorization } = await makeKey(server, ['nothing=pull']);
      const reader = await makeKey(server, ['**=pull,push'], { readOnly: true });
      for (const name of ALL) {
        const pulls = open.pull.includes(name) ? 200 : 403;
        expect((await ask('GET', `/v2/${name}/blobs/${DIGEST}`, authorization)).status).to.equal(pulls);
        const pushes = open.push.includes(name) ? 202 : 403;
        expect((await ask('POST', `/v2/${name}/blobs/uploads/`, authorization)).status).to.equal(pushes);
        expect((await ask('POST', `/v2/${name}/blobs/uploads/`, reader.authorization)).status).to.equal(403);
        expect((await ask('GET', `/v2/${name}/blobs/${DIGEST}`, reader.authorization)).status).to.equal(200);
      }
    });

    it('mounts from where one may pull, and else asks for the bytes without telling whether they are there', async () => {
      const { authorization } = await makeKey(server, ['mine/*=pull,push']);
      for (const name of [...ALL, 'absent/model']) {
        const path = `/v2/mine/${mode}${ALL.indexOf(name) + 1}/blobs/uploads/?mount=${DIGEST}&from=${name}`;
        const { status, headers } = await ask('POST', path, authorization);
        expect(status, name).to.equal(open.pull.includes(name) ? 201 : 202);
        expect(headers.location).to.be.a('string');
      }
      const path = `/v2/mine/any/blobs/uploads/?mount=${digestOf('closed alone')}`;
      await pushBlob(server, 'closed/alone', Buffer.from('closed alone'));
      expect((await ask('POST', path, authorization)).status).to.equal(202);
    });

    it('gives ollama absolute addresses, and others relative ones', async () => {
      const key = await makeKey(server, ['**=pull,push']);
      for (const [agent, base] of [
        ['ollama/0.6.5 (amd64 linux) Go/1.24.0', server.url],
        ['oras/1.3.6', ''],
      ] as const) {
        const headers = { authorization: key.authorization, 'user-agent': agent };
        const opened = await exchange(server.host, 'POST', '/v2/team/model/blobs/uploads/', { headers });
        expect(opened.headers.location).to.match(new RegExp(`^${base}/v2/team/model/blobs/uploads/[0-9a-f-]{36}$`));
        const path = opened.headers.location?.replace(server.url, '') ?? '';
        const patched = await exchange(server.host, 'PATCH', path, { headers, body: BYTES });
        expect(patched.headers.location).to.equal(`${base}${path}`);
        const got = await exchange(server.host, 'GET', `/v2/team/model/blobs/${DIGEST}`, { headers });
        expect(got.headers.location).to.equal(base === '' ? undefined : `${base}/v2/team/model/blobs/${DIGEST}`);
      }
    });
  });
}
