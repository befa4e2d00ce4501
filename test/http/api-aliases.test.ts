import { expect } from 'chai';
import { randomUUID } from 'node:crypto';
import { makeKey } from '../support/keys.js';
import type { TestServer } from '../support/server.js';
import {
  allPages,
  type Ask,
  asker,
  faultsOf,
  pushFiles,
  pushRelease,
  releaseOf,
  type Resource,
  told,
} from './api-scene.js';
import { digestOf } from './content.js';
import { sharedServer } from './shared-server.js';

const MODEL = '/models/api-aliases%2Fone';

describe('aliases over HTTP', () => {
  let server: TestServer;
  let ask: Ask;
  let one: Resource;
  let two: Resource;
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
    await pushRelease(server, 'api-aliases/one', 'v1-fp16');
    await pushRelease(server, 'api-aliases/one', 'v2-fp16');
    one = await releaseOf(ask, 'api-aliases/one', 'v1-fp16');
    two = await releaseOf(ask, 'api-aliases/one', 'v2-fp16');
  });

  const put = (name: string, body: unknown, headers: Record<string, string> = {}) =>
    ask('PUT', `${MODEL}/aliases/${name}`, body, { headers });
  const pulled = async (tag: string) =>
    (await server.request('HEAD', `/v2/api-aliases/one/manifests/${tag}`)).headers.get('docker-content-digest');

  it('are made, moved and deleted, and are OCI tags all the while', async () => {
    const made = await put('prod', { release_id: one.id });
    expect(made.status).to.equal(201);
    expect(made.headers.get('location')).to.equal(`/api/v1/models/${one.model_id}/aliases/prod`);
    expect(made.body).to.include({
      name: 'prod',
      digest: one.digest,
      release_id: one.id,
      version: 'v1',
      quantization: 'fp16',
    });
    expect(await pulled('prod')).to.equal(one.digest);
    expect(await told(ask('GET', `${MODEL}/aliases/prod`))).to.deep.equal(made.body);
    const moved = await told(put('prod', { digest: two.digest }));
    expect(moved).to.include({
      digest: two.digest,
      release_id: two.id,
      version: 'v2',
      created_at: made.body.created_at,
    });
    expect(await told(put('prod', { release_id: two.id })), 'the same again').to.deep.equal(moved);
    expect(await pulled('prod')).to.equal(two.digest);
    expect((await ask('DELETE', `${MODEL}/aliases/prod`)).status).to.equal(204);
    expect(await pulled('prod')).to.equal(null);
    for (const method of ['GET', 'DELETE']) expect((await ask(method, `${MODEL}/aliases/prod`)).status).to.equal(404);
    const history = await told(ask('GET', `${MODEL}/aliases/prod/history`));
    expect(history.items.map(({ digest, previous }: Resource) => [previous, digest])).to.deep.equal([
      [two.digest, null],
      [one.digest, two.digest],
      [null, one.digest],
    ]);
    expect(await allPages(ask, `${MODEL}/aliases/prod/history`)).to.deep.equal(history.items);
    expect((await ask('GET', `/releases/${two.id}`)).status, 'what it named stays').to.equal(200);
  });

  it('may be moved by a push, and may name a digest without a release', async () => {
    const digest = digestOf(await pushFiles(server, 'api-aliases/one', 'nightly', { 'a.bin': 'no release' }));
    expect(await told(ask('GET', `${MODEL}/aliases/nightly`))).to.include({ digest, release_id: null, version: null });
    expect((await put('weekly', { digest })).status).to.equal(201);
    expect(await pulled('weekly')).to.equal(digest);
    const { items } = await told(ask('GET', `${MODEL}/aliases/nightly/history`));
    expect(items[0]).to.deep.include({ digest, previous: null });
  });

  it('need a name that is a tag and no release, and one target that is there', async () => {
    for (const name of ['v3', 'fp16', 'v1-fp16', `sha256-${'0'.repeat(64)}`, '.x', 'a%2Fb', 'x'.repeat(129), '%C3%A4'])
      expect(await faultsOf(put(name, { digest: one.digest })), name).to.deep.equal(['path.alias']);
    for (const body of [{}, { digest: one.digest, release_id: one.id }])
      expect(await faultsOf(put('bad', body)), JSON.stringify(body)).to.deep.equal(['body']);
    const { id: model_id } = await told(ask('GET', MODEL));
    const draft = await told(ask('POST', '/releases', { model_id, version: 'v9' }), 201);
    await pushRelease(server, 'api-aliases/two', 'v1');
    const foreign = await releaseOf(ask, 'api-aliases/two', 'v1');
    for (const release_id of [randomUUID(), draft.id, foreign.id])
      expect(await faultsOf(put('bad', { release_id }))).to.deep.equal(['body.release_id']);
    for (const digest of [foreign.digest, `sha256:${'0'.repeat(64)}`, 'x'])
      expect(await faultsOf(put('bad', { digest }))).to.deep.equal(['body.digest']);
    for (const [body, place] of [
      [{ digest: foreign.digest }, 'body.digest'],
      [{ release_id: draft.id }, 'body.release_id'],
    ] as const)
      expect(await faultsOf(put('v3', body)), 'both at once').to.deep.equal([place, 'path.alias']);
    expect(await pulled('bad')).to.equal(null);
  });

  it('are moved by who saw them last, and made only where there is none', async () => {
    const made = await put('guarded', { release_id: one.id }, { 'if-none-match': '*' });
    expect(made.status).to.equal(201);
    expect((await put('guarded', { release_id: two.id }, { 'if-none-match': '*' })).status).to.equal(412);
    const etag = (await ask('GET', `${MODEL}/aliases/guarded`)).headers.get('etag') ?? '';
    expect(made.headers.get('etag')).to.equal(etag);
    const unchanged = { headers: { 'if-none-match': etag } };
    expect((await ask('GET', `${MODEL}/aliases/guarded`, undefined, unchanged)).status).to.equal(304);
    expect((await put('guarded', { release_id: two.id }, { 'if-match': etag })).status).to.equal(200);
    expect((await put('guarded', { release_id: one.id }, { 'if-match': etag })).status).to.equal(412);
    const stale = { headers: { 'if-match': etag } };
    expect((await ask('DELETE', `${MODEL}/aliases/guarded`, undefined, stale)).status).to.equal(412);
    expect((await put('unmade', { release_id: one.id }, { 'if-match': '*' })).status).to.equal(412);
    expect(await pulled('guarded')).to.equal(two.digest);
  });

  it('are made by one of many who want to be the first', async () => {
    const answers = await Promise.all(
      [...Array(8)].map((_, at) => put('raced', { release_id: at % 2 ? one.id : two.id }, { 'if-none-match': '*' })),
    );
    expect(answers.map(({ status }) => status).sort()).to.deep.equal([201, 412, 412, 412, 412, 412, 412, 412]);
    const { items } = await told(ask('GET', `${MODEL}/aliases/raced/history`));
    expect(items).to.have.lengthOf(1);
  });

  it('are listed by name, without releases, in pages', async () => {
    await pushRelease(server, 'api-aliases/listed', 'v1');
    const { digest } = await releaseOf(ask, 'api-aliases/listed', 'v1');
    const path = '/models/api-aliases%2Flisted/aliases';
    for (const name of ['d', 'B', 'a', 'c', 'v.x']) await told(ask('PUT', `${path}/${name}`, { digest }), 201);
    const listed = await allPages(ask, path);
    expect(listed.map(({ name }) => name)).to.deep.equal(['B', 'a', 'c', 'd', 'v.x']);
    expect(await told(ask('GET', `${path}?total=true&limit=1`))).to.include({ total: 5 });
    expect(await told(ask('GET', path))).to.deep.equal({ items: listed, next: null });
    expect(await faultsOf(ask('GET', `${path}?cursor=%2F`))).to.deep.equal(['query.cursor']);
  });

  it('take the right to deploy', async () => {
    const reader = (await makeKey(server, ['api-aliases/one=pull,push,delete'])).text;
    const deployer = (await makeKey(server, ['api-aliases/one=pull,deploy'])).text;
    const stranger = (await makeKey(server, ['elsewhere/**=pull,deploy'])).text;
    const body = { release_id: one.id };
    const status = async (key: string, method: string) =>
      (await ask(method, `${MODEL}/aliases/rights`, method === 'PUT' ? body : undefined, { key })).status;
    expect(await status(stranger, 'PUT')).to.equal(404);
    expect(await status(reader, 'PUT')).to.equal(403);
    expect(await status(deployer, 'PUT')).to.equal(201);
    expect(await status(reader, 'GET')).to.equal(200);
    expect(await status(reader, 'DELETE')).to.equal(403);
    expect(await status(deployer, 'DELETE')).to.equal(204);
  });
});
