import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import { allPages, type Ask, asker, faultsOf, pushRelease, releaseOf, type Resource, told } from './api-scene.js';
import { sharedServer } from './shared-server.js';

/** As they are pushed; by the order of versions, the newest last. */
const PUSHED = ['v1.10.0-fp16', 'v2.0.0-rc.1-fp16', 'v1.9.0-FP16', 'v1.9.0-Q4_K_M', 'v1.10.0-q4_k_m', 'v0.9'];

describe('the order of releases over HTTP', () => {
  let server: TestServer;
  let ask: Ask;
  let model: Resource;
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
    for (const tag of PUSHED) await pushRelease(server, 'api-order/one', tag);
    const input = { company: 'Order', base_model: 'order base', parameter_count: '70B', tags: ['order'] };
    model = await told(ask('PATCH', '/models/api-order%2Fone', input));
  });

  const latest = async (query = '') => (await told(ask('GET', `/releases/latest?model=api-order%2Fone${query}`))).tag;
  const tags = (items: readonly Resource[]) => items.map(({ tag }) => tag);

  it('has the newest version as the latest, of a quantization in any case', async () => {
    expect(await latest()).to.be.oneOf(['v1.10.0-fp16', 'v1.10.0-q4_k_m']);
    expect(await latest('&quantization=Fp16')).to.equal('v1.10.0-fp16');
    expect(await latest('&quantization=Q4_K_M')).to.equal('v1.10.0-q4_k_m');
    expect(await latest('&quantization=')).to.equal('v0.9');
    const byId = await told(ask('GET', `/releases/latest?model=${model.id}&quantization=fp16`));
    expect(byId).to.deep.equal(await releaseOf(ask, 'api-order/one', 'v1.10.0-fp16'));
    expect((await ask('GET', `/releases/latest?model=${model.id}&quantization=int8`)).status).to.equal(404);
    expect((await ask('GET', '/releases/latest?model=nobody')).status).to.equal(404);
    expect(await faultsOf(ask('GET', '/releases/latest'))).to.deep.equal(['query.model']);
  });

  it('passes over pre-releases, drafts and what is withdrawn, and over what is deprecated as long as it can', async () => {
    const place = 'api-order/latest';
    const of = async () =>
      (await ask('GET', `/releases/latest?model=${encodeURIComponent(place)}`)).body.tag as unknown;
    const set = async (tag: string, status: string) => {
      const { id } = await releaseOf(ask, place, tag);
      await told(ask('PATCH', `/releases/${id}`, { status }));
    };
    for (const tag of ['v3.0-alpha', 'v1', 'v2']) await pushRelease(server, place, tag);
    const { id } = await told(ask('GET', `/models/${encodeURIComponent(place)}`));
    await told(ask('POST', '/releases', { model_id: id, version: 'v9' }), 201);
    expect(await of()).to.equal('v2');
    await set('v2', 'deprecated');
    expect(await of()).to.equal('v1');
    await set('v1', 'withdrawn');
    expect(await of(), 'a pre-release, if nothing else is published').to.equal('v3.0-alpha');
    await set('v3.0-alpha', 'deprecated');
    expect(await of()).to.equal('v2');
    for (const tag of ['v3.0-alpha', 'v2']) await set(tag, 'withdrawn');
    expect(await of()).to.equal(undefined);
  });

  it('is that of lists of a model, on all pages', async () => {
    const wanted = ['v1.10.0', 'v1.10.0', 'v1.9.0', 'v1.9.0', 'v0.9', 'v2.0.0-rc.1'];
    const listed = await allPages(ask, '/models/api-order%2Fone/releases');
    expect(listed.map(({ version }) => version)).to.deep.equal(wanted);
    const upwards = await allPages(ask, '/models/api-order%2Fone/releases?sort=version');
    expect(tags(upwards)).to.deep.equal(tags(listed).reverse());
  });

  it('makes the matrix: each version and quantization once, none last', async () => {
    const { id: release_id } = await releaseOf(ask, 'api-order/one', 'v1.9.0-FP16');
    for (const environment of ['order-b', 'order-a'])
      await told(ask('POST', '/deployments', { release_id, environment }), 201);
    const matrix = await told(ask('GET', `/models/${model.id}/matrix`));
    expect(matrix.versions).to.deep.equal(['v1.10.0', 'v1.9.0', 'v0.9', 'v2.0.0-rc.1']);
    expect(matrix.quantizations).to.deep.equal(['fp16', 'q4_k_m', null]);
    expect(matrix.cells).to.have.lengthOf(PUSHED.length);
    const cell = matrix.cells.find((one: Resource) => one.release_id === release_id);
    expect(cell).to.deep.include({
      version: 'v1.9.0',
      quantization: 'fp16',
      status: 'published',
      environments: ['order-a', 'order-b'],
    });
    for (const { version, quantization } of matrix.cells) {
      expect(matrix.versions).to.include(version);
      expect(matrix.quantizations).to.include(quantization);
    }
  });

  it('can be another one in lists of releases, which are filtered by every field', async () => {
    const { digest } = await releaseOf(ask, 'api-order/one', 'v0.9');
    await told(
      ask('PATCH', `/releases/${(await releaseOf(ask, 'api-order/one', 'v0.9')).id}`, {
        release_notes: 'Order 100%',
        status: 'deprecated',
      }),
    );
    const all = PUSHED.length;
    for (const [query, count] of [
      ['model=api-order%2Fone', all],
      [`model=${model.id}`, all],
      [`model_id=${model.id}`, all],
      [`image_id=${model.id}`, all],
      ['company=Order', all],
      ['base_model=order%20base', all],
      ['parameter_count=%3E=70B&company=Order', all],
      ['tags=order', all],
      ['tags=order,other', 0],
      ['tags=order&quantization=FP16', 3],
      ['tags=order&version=V1.9.0', 2],
      ['tags=order&status=deprecated', 1],
      ['environment=order-a', 1],
      [`digest=${digest}`, 1],
      ['q=order%20100%25', 1],
      ['tags=order&q=RC.1', 1],
      ['model=nobody', 0],
    ] as const)
      expect((await told(ask('GET', `/releases?${query}&total=true`))).total, query).to.equal(count);
    const names = { created_at: 'created_at', updated_at: 'updated_at', size_bytes: 'size_bytes' } as const;
    for (const sort of Object.values(names))
      for (const way of ['', '-']) {
        const listed = await allPages(ask, `/releases?tags=order&sort=${way}${sort}`);
        const values = listed.map((release) => release[sort] as number | string);
        const sorted = [...values].sort((one, other) => (one < other ? -1 : one > other ? 1 : 0));
        expect(values, `${way}${sort}`).to.deep.equal(way === '' ? sorted : sorted.reverse());
        expect(new Set(listed.map(({ id }) => id)).size).to.equal(all);
      }
    expect(await faultsOf(ask('GET', '/releases?sort=tag&status=gone&digest=x'))).to.deep.equal([
      'query.digest',
      'query.sort',
      'query.status',
    ]);
  });
});
