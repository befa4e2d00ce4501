import { expect } from 'chai';
import { basic, bearer, makeKey, onDatabase, type TestKey } from '../support/keys.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';
import { type Ask, asker, pushFiles, pushRelease, releaseOf, type Resource, told } from './api-scene.js';
import { digestOf, expectError, IMAGE, imageOf, pushConfig, putManifest } from './content.js';

describe('a protected tag', function () {
  this.timeout(120_000);
  let server: TestServer;
  let ask: Ask;
  let key: TestKey;
  let policy: Resource;

  before(async () => {
    server = await startServer();
    ask = asker(server);
    key = await makeKey(server, ['**=pull,push,delete,deploy']);
    policy = await told(ask('POST', '/policies', { pattern: 'guarded/**', protected_tags: ['v*', 'prod'] }), 201);
  });
  after(() => server.dispose());

  /** With the key of somebody who may do everything but administrate. */
  const asWriter = (method: string, path: string, body?: unknown) => ask(method, path, body, { key: key.text });
  const send = async (authorization: string, method: string, path: string, body?: Buffer) =>
    await server.request(method, `/v2/${path}`, {
      headers: { authorization, 'content-type': IMAGE },
      ...(body ? { body } : {}),
    });
  const meaning = async (repository: string, tag: string) =>
    (await server.request('HEAD', `/v2/${repository}/manifests/${tag}`)).headers.get('docker-content-digest');

  async function image(repository: string, name: string): Promise<Buffer> {
    return imageOf(await pushConfig(server, repository), [], { annotations: { name } });
  }

  async function refusedByOci(answer: Response, tag: string, pattern: string): Promise<void> {
    const { detail, message } = (await expectError(answer, 403, 'DENIED')) as { detail: Resource; message: string };
    expect(detail).to.deep.equal({ tag, protected_by: pattern, policy: 'guarded/**' });
    expect(message).to.include(tag).and.include(pattern);
  }

  async function refusedByApi(answer: ReturnType<Ask>, tag: string): Promise<void> {
    expect((await told(answer, 403)).detail).to.include(`the tag ${tag} is protected`);
  }

  it('is made by everybody, and set again to what it is', async () => {
    const manifest = await image('guarded/new', 'one');
    for (let time = 0; time < 2; time++) {
      const answer = await send(key.authorization, 'PUT', 'guarded/new/manifests/v1', manifest);
      expect(answer.status, await answer.text()).to.equal(201);
    }
  });

  it('is neither moved nor removed by a push, by itself, or with its manifest', async () => {
    const place = 'guarded/oci';
    const [first, second] = [await image(place, 'one'), await image(place, 'two')];
    await putManifest(server, place, 'prod', first);
    const put = async (path: string, manifest = second) =>
      await send(key.authorization, 'PUT', `${place}/${path}`, manifest);
    await refusedByOci(await put('manifests/prod'), 'prod', 'prod');
    await refusedByOci(await put('manifests/free?tag=prod'), 'prod', 'prod');
    await refusedByOci(await put(`manifests/${digestOf(second)}?tag=other&tag=prod`), 'prod', 'prod');
    // Nothing of it was kept.
    expect(await meaning(place, 'free')).to.equal(null);
    expect(await meaning(place, digestOf(second))).to.equal(null);
    for (const reference of ['prod', digestOf(first)])
      await refusedByOci(await send(key.authorization, 'DELETE', `${place}/manifests/${reference}`), 'prod', 'prod');
    expect(await meaning(place, 'prod')).to.equal(digestOf(first));
    // Others are free, and what nobody protects.
    expect((await put('manifests/latest')).status).to.equal(201);
    expect((await put('manifests/latest', first)).status).to.equal(201);
    expect((await send(key.authorization, 'DELETE', `${place}/manifests/latest`)).status).to.equal(202);
    await putManifest(server, 'elsewhere', 'prod', await image('elsewhere', 'one'));
    const free = await image('elsewhere', 'two');
    expect((await send(key.authorization, 'PUT', 'elsewhere/manifests/prod', free)).status).to.equal(201);
  });

  it('is moved and removed by an admin, also with a token for the repository', async () => {
    const place = 'guarded/admin';
    const admin = await makeKey(server, ['**=admin']);
    const reader = await makeKey(server, ['**=admin'], { readOnly: true });
    await putManifest(server, place, 'prod', await image(place, 'one'));
    for (const [name, authorization] of [
      ['two', basic(ADMIN_KEY)],
      ['three', admin.authorization],
    ] as const) {
      const manifest = await image(place, name);
      expect((await send(authorization, 'PUT', `${place}/manifests/prod`, manifest)).status).to.equal(201);
      expect(await meaning(place, 'prod')).to.equal(digestOf(manifest));
    }
    const token = await bearer(server, admin.authorization, place);
    const manifest = await image(place, 'four');
    expect((await send(token, 'PUT', `${place}/manifests/prod`, manifest)).status).to.equal(201);
    // A token of somebody else is no admin's.
    const other = await bearer(server, key.authorization, place);
    await refusedByOci(await send(other, 'DELETE', `${place}/manifests/prod`), 'prod', 'prod');
    expect((await send(reader.authorization, 'DELETE', `${place}/manifests/prod`)).status).to.equal(403);
    expect((await send(token, 'DELETE', `${place}/manifests/prod`)).status).to.equal(202);
  });

  it('is neither moved nor removed as an alias', async () => {
    const place = 'guarded/alias';
    const [one, two] = [await pushRelease(server, place, 'r1', 'a'), await pushRelease(server, place, '2.0', 'b')];
    const path = `/models/${encodeURIComponent(place)}/aliases/prod`;
    await told(asWriter('PUT', path, { digest: one }), 201);
    await told(asWriter('PUT', path, { digest: one }));
    await refusedByApi(asWriter('PUT', path, { digest: two }), 'prod');
    await refusedByApi(asWriter('DELETE', path), 'prod');
    expect(await meaning(place, 'prod')).to.equal(one);
    await told(ask('PUT', path, { digest: two }));
    expect((await ask('DELETE', path)).status).to.equal(204);
  });

  it('is neither moved nor removed as a release', async () => {
    const place = 'guarded/release';
    const one = await pushRelease(server, place, 'v1.0', 'a');
    const two = digestOf(await pushFiles(server, place, undefined, { 'model.safetensors': 'of two' }));
    const release = await releaseOf(ask, place, 'v1.0');
    await refusedByApi(asWriter('PATCH', `/releases/${release.id}`, { digest: two }), 'v1.0');
    await refusedByApi(asWriter('PUT', `/releases/${release.id}`, { version: 'v1.0', digest: two }), 'v1.0');
    await refusedByApi(asWriter('DELETE', `/releases/${release.id}`), 'v1.0');
    expect(await told(ask('GET', `/releases/${release.id}`))).to.deep.equal(release);
    expect(await meaning(place, 'v1.0')).to.equal(one);
    // A new one is free; publishing moves nothing.
    const model = encodeURIComponent(place);
    const { id } = await told(ask('GET', `/models/${model}`));
    const made = await told(asWriter('POST', '/releases', { model_id: id, version: 'v2.0', digest: two }), 201);
    await refusedByApi(asWriter('DELETE', `/releases/${made.id}`), 'v2.0');
    await told(ask('PATCH', `/releases/${release.id}`, { digest: two }));
    expect((await ask('DELETE', `/releases/${made.id}`)).status).to.equal(204);
  });

  it('of a draft that is published is not taken from what it means', async () => {
    const place = 'guarded/draft';
    await pushRelease(server, place, 'latest', 'a');
    const [layer] = [await pushFiles(server, place, undefined, { 'a.safetensors': 'a' })];
    const { id } = await told(ask('GET', `/models/${encodeURIComponent(place)}`));
    const draft = await told(asWriter('POST', '/releases', { model_id: id, version: 'v3.0' }), 201);
    await told(asWriter('POST', `/releases/${draft.id}/publish`, { digest: digestOf(layer) }));
    // It is new, and protected from now on.
    await refusedByApi(asWriter('DELETE', `/releases/${draft.id}`), 'v3.0');
  });

  it('does not go with its model, nor with what is attached', async () => {
    const place = 'guarded/model';
    const digest = await pushRelease(server, place, 'v1.0', 'a');
    const model = await told(ask('GET', `/models/${encodeURIComponent(place)}`));
    await refusedByApi(asWriter('DELETE', `/models/${model.id}`), 'v1.0');
    const release = await releaseOf(ask, place, 'v1.0');
    const { digest: blob } = (await told(ask('GET', `/releases/${release.id}/artifacts`))).items[0] as Resource;
    const attached = await told(
      asWriter('POST', '/artifacts', { release_id: release.id, digest: blob, name: 'report.json' }),
      201,
    );
    const [manifest] = await onDatabase(server, (database) =>
      database.query<{ manifest: string }>('select manifest from artifacts where id = $1', [attached.id]),
    );
    const bytes = Buffer.from(
      await (await server.request('GET', `/v2/${place}/manifests/${manifest?.manifest}`)).arrayBuffer(),
    );
    expect((await send(key.authorization, 'PUT', `${place}/manifests/vsig`, bytes)).status).to.equal(201);
    await refusedByApi(asWriter('DELETE', `/artifacts/${attached.id}`), 'vsig');
    expect(await told(ask('GET', `/models/${model.id}`))).to.deep.equal(model);
    expect(await meaning(place, 'v1.0')).to.equal(digest);
    expect((await ask('DELETE', `/models/${model.id}`)).status).to.equal(204);
    expect(await meaning(place, 'v1.0')).to.equal(null);
  });

  it('is so from the answer on, whatever is under way, and no longer when the policy goes', async () => {
    const place = 'later/model';
    const manifests = await Promise.all(Array.from({ length: 8 }, (_, index) => image(place, `${index}`)));
    let stop = false;
    let after = false;
    const statuses: { readonly late: boolean; readonly status: number }[] = [];
    const movers = [0, 1, 2, 3].map(async (mover) => {
      for (let turn = 0; !stop; turn++) {
        const late = after;
        const manifest = manifests[(mover * 2 + turn) % 8] as Buffer;
        const { status } = await send(key.authorization, 'PUT', `${place}/manifests/prod`, manifest);
        statuses.push({ late, status });
      }
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    const made = await told(ask('POST', '/policies', { pattern: 'later/*', protected_tags: ['p*d'] }), 201);
    after = true;
    const held = await meaning(place, 'prod');
    await new Promise((resolve) => setTimeout(resolve, 500));
    stop = true;
    await Promise.all(movers);
    expect(statuses.filter(({ late, status }) => !late && status === 201).length).to.be.above(3);
    // Who sets what it is already is not refused.
    expect(new Set(statuses.filter(({ late }) => late).map(({ status }) => status))).to.deep.equal(new Set([201, 403]));
    expect(await meaning(place, 'prod')).to.equal(held);
    expect((await ask('DELETE', `/policies/${made.id}`)).status).to.equal(204);
    expect((await send(key.authorization, 'DELETE', `${place}/manifests/prod`)).status).to.equal(202);
  });

  it('follows its policy', async () => {
    const place = 'guarded/changed';
    await putManifest(server, place, 'v9', await image(place, 'one'));
    await refusedByOci(await send(key.authorization, 'DELETE', `${place}/manifests/v9`), 'v9', 'v*');
    await told(ask('PATCH', `/policies/${policy.id}`, { protected_tags: ['prod'] }));
    expect((await send(key.authorization, 'DELETE', `${place}/manifests/v9`)).status).to.equal(202);
  });
});
