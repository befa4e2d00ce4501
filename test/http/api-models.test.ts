import { expect } from 'chai';
import { randomUUID } from 'node:crypto';
import { makeKey } from '../support/keys.js';
import type { TestServer } from '../support/server.js';
import { allPages, type Ask, asker, faultsOf, pushFiles, pushRelease, type Resource, told } from './api-scene.js';
import { digestOf } from './content.js';
import { sharedServer } from './shared-server.js';

const FIELDS = [
  'id',
  'name',
  'storage_path',
  'repository',
  'company',
  'base_model',
  'parameter_count',
  'description',
  'tags',
  'metadata',
  'immutable',
  'retention',
  'created_by',
  'created_at',
  'updated_at',
];

describe('models over HTTP', () => {
  let server: TestServer;
  let ask: Ask;
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
  });

  const make = (input: Resource) => told(ask('POST', '/models', input), 201);

  it('are created with every field, and found by id and by name', async () => {
    const input = {
      name: 'Models one/ä 50%',
      storage_path: 'api-models/one',
      company: 'Acme',
      base_model: 'polaris',
      parameter_count: '1.5B',
      description: 'Zwei\nZeilen',
      tags: ['chat', 'german'],
      metadata: { nested: { a: [1, null] } },
      immutable: true,
    };
    const created = await ask('POST', '/models', input);
    const model = await told(Promise.resolve(created), 201);
    expect(created.headers.get('location')).to.equal(`/api/v1/models/${model.id}`);
    expect(model).to.have.all.keys(FIELDS);
    expect(model).to.deep.include({ ...input, parameter_count: 1_500_000_000, repository: 'api-models/one' });
    expect(model.created_at).to.match(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(model.updated_at).to.equal(model.created_at);
    expect(await told(ask('GET', `/models/${model.id}`))).to.deep.equal(model);
    expect(await told(ask('GET', `/models/${encodeURIComponent(input.name)}`))).to.deep.equal(model);
    const listed = await told(ask('GET', `/models?name=${encodeURIComponent(input.name)}`));
    expect(listed).to.deep.equal({ items: [model], next: null });
  });

  it('have what was not said as null, or empty', async () => {
    const model = await make({ name: 'models bare', storage_path: 'api-models/bare' });
    expect(model).to.deep.include({
      company: null,
      base_model: null,
      parameter_count: null,
      description: null,
      tags: [],
      metadata: {},
      immutable: false,
    });
  });

  it('take `repository` alone as the path', async () => {
    const model = await make({ name: 'models older', repository: 'api-models/older' });
    expect(model).to.include({ storage_path: 'api-models/older', repository: 'api-models/older' });
  });

  it('show the path as `repository` also after it was changed', async () => {
    const { id } = await make({ name: 'models moving', storage_path: 'api-models/moving' });
    const moved = await told(ask('PATCH', `/models/${id}`, { storage_path: 'api-models/moved' }));
    expect(moved).to.include({ storage_path: 'api-models/moved', repository: 'api-models/moved' });
    const again = await told(ask('PATCH', `/models/${id}`, { repository: 'api-models/moved-again' }));
    expect(again).to.include({ storage_path: 'api-models/moved-again', repository: 'api-models/moved-again' });
  });

  it('may be as long as the columns, and not longer, which is told of all fields at once', async () => {
    const longest = {
      name: `models ${'n'.repeat(248)}`,
      storage_path: `api-models/${'p'.repeat(244)}`,
      company: 'c'.repeat(255),
      base_model: 'b'.repeat(255),
      description: 'd'.repeat(20_000),
      tags: ['t'.repeat(128)],
    };
    const model = await make(longest);
    expect(model).to.deep.include(longest);
    const beyond = {
      name: `${longest.name}x`,
      storage_path: `${longest.storage_path}x`,
      repository: 'Not/A/Name',
      company: `${longest.company}x`,
      base_model: `${longest.base_model}x`,
      parameter_count: 'many',
      description: `${longest.description}x`,
      tags: [`${longest.tags[0]}x`],
      metadata: [],
      immutable: 'yes',
      bogus: 1,
    };
    const places = [...Object.keys(beyond).filter((name) => name !== 'tags'), 'tags.0'].map((name) => `body.${name}`);
    expect(await faultsOf(ask('POST', '/models', beyond))).to.deep.equal(places.sort());
    expect(await faultsOf(ask('PATCH', `/models/${model.id}`, beyond))).to.deep.equal(places);
    expect(await faultsOf(ask('POST', '/models', {}))).to.deep.equal(['body.name', 'body.storage_path']);
  });

  it('count characters, not bytes or halves of them', async () => {
    const name = `models ${'🦙'.repeat(248)}`;
    expect(await make({ name, storage_path: 'api-models/llamas' })).to.include({ name });
    expect(await faultsOf(ask('POST', '/models', { name: `${name}🦙`, storage_path: 'x' }))).to.deep.equal([
      'body.name',
    ]);
  });

  it('may not be named as ids are, nor as no path can say', async () => {
    for (const name of [randomUUID(), randomUUID().toUpperCase(), '', '.', '..', ' models', 'models\u0000', 'models\n'])
      expect(await faultsOf(ask('POST', '/models', { name, storage_path: 'api-models/id' })), name).to.deep.equal([
        'body.name',
      ]);
  });

  it('lie only in what can be a repository', async () => {
    for (const storage_path of ['', '/x', 'x/', 'a//b', 'A', 'a/../b', 'a b', '-a', 'a:b', 'ä'])
      expect(
        await faultsOf(ask('POST', '/models', { name: 'models nowhere', storage_path })),
        storage_path,
      ).to.deep.equal(['body.storage_path']);
  });

  it('are one each by name and by repository, and what is in the way is told', async () => {
    const one = await make({ name: 'models unique', storage_path: 'api-models/unique' });
    const two = await make({ name: 'models unique 2', storage_path: 'api-models/unique2' });
    const inTheWay = { type: 'model', id: one.id, name: one.name };
    for (const input of [
      { name: 'models unique', storage_path: 'api-models/unique3' },
      { name: 'models unique 3', storage_path: 'api-models/unique' },
    ]) {
      const refused = await told(ask('POST', '/models', input), 409);
      expect(refused.conflicts).to.deep.equal([inTheWay]);
    }
    for (const input of [{ name: 'models unique' }, { storage_path: 'api-models/unique' }]) {
      const refused = await told(ask('PATCH', `/models/${two.id}`, input), 409);
      expect(refused.conflicts).to.deep.equal([inTheWay]);
    }
    expect(await told(ask('GET', `/models/${two.id}`))).to.deep.equal(two);
  });

  it('are changed in part by PATCH, and wholly by PUT', async () => {
    const model = await make({
      name: 'models changing',
      storage_path: 'api-models/changing',
      company: 'Acme',
      tags: ['a'],
      metadata: { a: 1 },
    });
    const patched = await told(
      ask('PATCH', `/models/${model.id}`, { base_model: 'b', parameter_count: 7, company: null }),
    );
    expect(patched).to.deep.include({
      ...model,
      base_model: 'b',
      parameter_count: 7,
      company: null,
      updated_at: patched.updated_at,
    });
    expect(Date.parse(patched.updated_at)).to.be.greaterThanOrEqual(Date.parse(model.updated_at));
    const put = { name: 'models changed', storage_path: 'api-models/changing', description: 'new' };
    const replaced = await told(ask('PUT', `/models/models%20changing`, put));
    expect(replaced).to.deep.include({
      ...put,
      id: model.id,
      base_model: null,
      parameter_count: null,
      tags: [],
      metadata: {},
    });
    expect((await ask('GET', '/models/models%20changing')).status).to.equal(404);
    expect(await told(ask('GET', '/models/models%20changed'))).to.deep.equal(replaced);
  });

  it('take back what was read, but no other value of what is fixed', async () => {
    const model = await make({ name: 'models fixed', storage_path: 'api-models/fixed' });
    expect((await ask('PUT', `/models/${model.id}`, model)).status).to.equal(200);
    const { body: now } = await ask('GET', `/models/${model.id}`);
    const other = { ...now, id: randomUUID(), created_by: 'x', created_at: '2020-01-01T00:00:00.000Z' };
    for (const method of ['PUT', 'PATCH'])
      expect(await faultsOf(ask(method, `/models/${model.id}`, other))).to.deep.equal([
        'body.created_at',
        'body.created_by',
        'body.id',
      ]);
  });

  it('keep their path once they have releases', async () => {
    await pushRelease(server, 'api-models/held', 'v1-fp16');
    const refused = await told(ask('PATCH', '/models/api-models%2Fheld', { storage_path: 'api-models/other' }), 409);
    expect(refused.conflicts[0]).to.include({ type: 'release', tag: 'v1-fp16' });
  });

  it('are not there for an unknown id, an unknown name, and a broken one', async () => {
    for (const path of [randomUUID(), 'no%20such', '%00', 'a%2Fb', 'x'.repeat(300)])
      for (const [method, body] of [
        ['GET', undefined],
        ['PATCH', {}],
        ['DELETE', undefined],
      ] as const)
        expect((await ask(method, `/models/${path}`, body)).status, `${method} ${path}`).to.equal(404);
  });

  describe('with ETags', () => {
    it('are not sent twice, and not overwritten unseen', async () => {
      const created = await ask('POST', '/models', { name: 'models tagged', storage_path: 'api-models/tagged' });
      const path = `/models/${created.body.id}`;
      const read = await ask('GET', path);
      const etag = read.headers.get('etag') ?? '';
      expect(created.headers.get('etag')).to.equal(etag);
      expect((await ask('GET', path, undefined, { headers: { 'if-none-match': `"x", ${etag}` } })).status).to.equal(
        304,
      );
      expect((await ask('GET', path, undefined, { headers: { 'if-none-match': '"x"' } })).status).to.equal(200);
      const ifMatch = { headers: { 'if-match': etag } };
      const changed = await ask('PATCH', path, { company: 'first' }, ifMatch);
      expect(changed.status).to.equal(200);
      expect(changed.headers.get('etag')).not.to.equal(etag);
      for (const [method, body] of [
        ['PATCH', { company: 'second' }],
        ['PUT', created.body],
        ['DELETE', undefined],
      ] as const)
        expect((await ask(method, path, body, ifMatch)).status, method).to.equal(412);
      expect(
        (await ask('PATCH', path, {}, { headers: { 'if-match': `W/${changed.headers.get('etag')}` } })).status,
      ).to.equal(412);
      expect((await told(ask('GET', path))).company).to.equal('first');
      expect((await ask('DELETE', path, undefined, { headers: { 'if-match': '*' } })).status).to.equal(204);
      expect((await ask('GET', path)).status).to.equal(404);
    });
  });

  describe('with an Idempotency-Key', () => {
    const once = (key: string) => ({ headers: { 'idempotency-key': key } });

    it('are made once, and the answer is the same', async () => {
      const input = { name: 'models once', storage_path: 'api-models/once' };
      const first = await ask('POST', '/models', input, once('models-1'));
      const second = await ask('POST', '/models', input, once('models-1'));
      expect(first.status).to.equal(201);
      expect(second.status).to.equal(201);
      expect(second.bytes.equals(first.bytes)).to.equal(true);
      for (const name of ['etag', 'location']) expect(second.headers.get(name)).to.equal(first.headers.get(name));
      const faults = await faultsOf(ask('POST', '/models', { ...input, company: 'x' }, once('models-1')));
      expect(faults).to.deep.equal(['header.Idempotency-Key']);
      expect((await ask('POST', '/models', input, once('models-2'))).status).to.equal(409);
    });

    it('are one model although they came at the same time', async () => {
      const input = { name: 'models twice', storage_path: 'api-models/twice' };
      const answers = await Promise.all([...Array(6)].map(() => ask('POST', '/models', input, once('models-3'))));
      expect(answers.map(({ status }) => status)).to.deep.equal([...Array(6)].map(() => 201));
      expect(new Set(answers.map(({ body }) => body.id)).size).to.equal(1);
    });

    it('may be tried again after a failure', async () => {
      const blocker = await make({ name: 'models blocker', storage_path: 'api-models/blocker' });
      const input = { name: 'models retried', storage_path: 'api-models/blocker' };
      expect((await ask('POST', '/models', input, once('models-4'))).status).to.equal(409);
      expect((await ask('DELETE', `/models/${blocker.id}`)).status).to.equal(204);
      expect((await ask('POST', '/models', input, once('models-4'))).status).to.equal(201);
    });

    it('keep the keys of others apart', async () => {
      const { text } = await makeKey(server, ['api-models/**=pull,push']);
      const input = { name: 'models other key', storage_path: 'api-models/other-key' };
      expect((await ask('POST', '/models', input, { key: text, ...once('models-5') })).status).to.equal(201);
      expect((await ask('POST', '/models', input, once('models-5'))).status).to.equal(409);
    });
  });

  it('get the releases of the tags that their repository has', async () => {
    const digest = digestOf(await pushFiles(server, 'api-models/adopting', 'v1.0-fp16', { 'notes.txt': 'no weights' }));
    await pushFiles(server, 'api-models/adopting', 'latest', { 'notes.txt': 'no weights' });
    await pushFiles(server, 'api-models/adopting', 'V1.0_FP16', { 'notes.txt': 'newer' });
    const model = await make({ name: 'models adopting', storage_path: 'api-models/adopting' });
    const { items } = await told(ask('GET', `/models/${model.id}/releases`));
    expect(items).to.have.lengthOf(1);
    expect(items[0]).to.include({ tag: 'V1.0_FP16', version: 'V1.0', quantization: 'FP16', status: 'published' });
    expect(items[0].digest).not.to.equal(digest);
    const aliases = await told(ask('GET', `/models/${model.id}/aliases`));
    expect(aliases.items.map((alias: Resource) => [alias.name, alias.digest])).to.deep.equal([['latest', digest]]);
  });

  it('take their releases, tags and aliases with them, and leave other tags', async () => {
    const digest = await pushRelease(server, 'api-models/leaving', 'v1-fp16');
    await pushRelease(server, 'api-models/leaving', 'latest', 'v1-fp16');
    await pushFiles(server, 'api-models/leaving', 'notes', { 'notes.txt': 'not of the model' });
    const release = (await told(ask('GET', '/models/api-models%2Fleaving/releases'))).items[0];
    expect((await ask('DELETE', '/models/api-models%2Fleaving')).status).to.equal(204);
    expect((await ask('GET', `/releases/${release.id}`)).status).to.equal(404);
    for (const tag of ['v1-fp16', 'latest'])
      expect((await server.request('GET', `/v2/api-models/leaving/manifests/${tag}`)).status, tag).to.equal(404);
    expect((await server.request('GET', '/v2/api-models/leaving/manifests/notes')).status).to.equal(200);
    expect((await server.request('GET', `/v2/api-models/leaving/manifests/${digest}`)).status).to.equal(200);
    expect((await ask('DELETE', '/models/api-models%2Fleaving')).status).to.equal(404);
  });

  it('stay while one of them is deployed, unless an admin forces it', async () => {
    await pushRelease(server, 'api-models/deployed', 'v1-fp16');
    const release = (await told(ask('GET', '/models/api-models%2Fdeployed/releases'))).items[0];
    const deployment = await told(
      ask('POST', '/deployments', { release_id: release.id, environment: 'models-prod' }),
      201,
    );
    const refused = await told(ask('DELETE', '/models/api-models%2Fdeployed'), 409);
    expect(refused.conflicts).to.have.lengthOf(1);
    expect(refused.conflicts[0]).to.include({ type: 'deployment', id: deployment.id, environment: 'models-prod' });
    const { text: key } = await makeKey(server, ['api-models/**=pull,push,delete']);
    expect((await ask('DELETE', '/models/api-models%2Fdeployed?force=true', undefined, { key })).status).to.equal(403);
    expect((await ask('DELETE', '/models/api-models%2Fdeployed?force=true')).status).to.equal(204);
    expect((await ask('GET', `/deployments/${deployment.id}`)).status).to.equal(404);
    expect((await server.request('GET', '/v2/api-models/deployed/manifests/v1-fp16')).status).to.equal(404);
  });

  it('take the right that each change needs, and are not there for who may not read', async () => {
    const model = await make({ name: 'models guarded', storage_path: 'api-models/guarded' });
    const reader = (await makeKey(server, ['api-models/guarded=pull'])).text;
    const writer = (await makeKey(server, ['api-models/guarded=pull,push'])).text;
    const stranger = (await makeKey(server, ['elsewhere/**=pull,push,delete'])).text;
    const status = async (key: string, method: string, body?: unknown) =>
      (await ask(method, `/models/${model.id}`, body, { key })).status;
    expect(await status(reader, 'GET')).to.equal(200);
    expect(await status(reader, 'PATCH', {})).to.equal(403);
    expect(await status(writer, 'PATCH', {})).to.equal(200);
    expect(await status(writer, 'DELETE')).to.equal(403);
    for (const method of ['GET', 'PATCH', 'DELETE'])
      expect(await status(stranger, method, method === 'PATCH' ? {} : undefined), method).to.equal(404);
    const input = { name: 'models foreign', storage_path: 'api-models/foreign' };
    expect((await ask('POST', '/models', input, { key: stranger })).status).to.equal(403);
    const mine = await told(ask('GET', '/models?total=true', undefined, { key: reader }));
    expect([mine.total, mine.items.map((item: Resource) => item.id)]).to.deep.equal([1, [model.id]]);
  });

  it('tell what happened to them, without addresses', async () => {
    const model = await make({ name: 'models eventful', storage_path: 'api-models/eventful' });
    await pushRelease(server, 'api-models/eventful', 'v1-fp16');
    await told(ask('PATCH', `/models/${model.id}`, { company: 'Acme' }));
    const events = await allPages(ask, `/models/${model.id}/events`);
    expect(events[0]).to.include({ action: 'model.update', repository: 'api-models/eventful' });
    expect(events[0]?.details.after.company).to.equal('Acme');
    expect(events.at(-1)).to.include({ action: 'model.create', resource_id: model.id });
    expect(events.map((event) => event.action)).to.include('manifest.push');
    expect(events[0]).not.to.have.any.keys('ip_address', 'user_agent');
    expect(events.map((event) => event.action)).not.to.include('blob.push');
    expect(events.map((event) => event.id)).to.deep.equal(
      [...new Set(events.map((event) => event.id))].sort((a, b) => b - a),
    );
  });
});
