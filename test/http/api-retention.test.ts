import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { makeKey, onDatabase } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import { type Ask, asker, faultsOf, pushRelease, releaseOf, type Resource, told } from './api-scene.js';

/** The job runs all the time, and spares nothing because it is new. */
const SETTINGS = { REGISTRY_RETENTION_INTERVAL: '1', REGISTRY_RETENTION_NEW: '0' };

describe('retention through the API', function () {
  this.timeout(120_000);
  let server: TestServer;
  let ask: Ask;

  before(async () => {
    server = await startServer({ environment: SETTINGS });
    ask = asker(server);
  });
  after(() => server.dispose());

  const preview = async (body: object, query = '') =>
    (await told(ask('POST', `/retention/preview${query}`, body))).items as Resource[];
  const tagsIn = async (repository: string) => {
    const answer = await server.request('GET', `/v2/${repository}/tags/list`);
    return ((await answer.json()) as { tags: string[] }).tags;
  };

  it('is previewed, said, carried out, and written down with its rule', async () => {
    const place = 'kept/model';
    for (const tag of ['v1-fp16', 'v2-fp16', 'v3-fp16', 'v1-int8']) await pushRelease(server, place, tag);
    await told(ask('POST', '/policies', { pattern: 'kept/**', retention: { keep: true } }), 201);
    expect(await preview({}, '?all=true')).to.deep.equal([]);
    const proposed = { pattern: 'kept/model', retention: { last: 1, tags: ['v2-*'] } };
    const found = await preview(proposed, '?all=true');
    expect(found.map(({ tag, goes, kept_by }) => [tag, goes, kept_by])).to.deep.equal([
      ['v1-fp16', true, []],
      ['v1-int8', false, ['last']],
      ['v2-fp16', false, ['tag']],
      ['v3-fp16', false, ['last']],
    ]);
    expect((await preview(proposed)).map(({ tag }) => tag)).to.deep.equal(['v1-fp16']);
    expect(found[0]?.rule).to.deep.include({ pattern: 'kept/model', model_id: null, retention: proposed.retention });
    const release = await releaseOf(ask, place, 'v1-fp16');
    expect(found[0]).to.include({ release_id: release.id, digest: release.digest, size_bytes: release.size_bytes });
    await sleep(1_500);
    expect(await tagsIn(place), 'nothing is said yet').to.have.length(4);

    const policy = await told(ask('POST', '/policies', proposed), 201);
    expect(policy.retention).to.deep.equal(proposed.retention);
    await until('it is gone', async () => (await tagsIn(place)).length === 3);
    expect(await tagsIn(place)).to.deep.equal(['v1-int8', 'v2-fp16', 'v3-fp16']);
    await told(ask('GET', `/releases/${release.id}`), 404);
    const { items } = await told(ask('GET', '/audit-logs?actor=retention'));
    expect(items).to.have.length(1);
    expect(items[0]).to.deep.include({ action: 'tag.delete', resource_id: 'v1-fp16', repository: place });
    expect(items[0].details.cause).to.deep.include({
      policy_id: policy.id,
      pattern: 'kept/model',
      release_id: release.id,
    });
    expect(await preview({})).to.deep.equal([]);
  });

  it('is overridden by a model, whose rule those change who may delete in it', async () => {
    const place = 'own/model';
    for (const tag of ['v1', 'v2']) await pushRelease(server, place, tag);
    const pusher = await makeKey(server, ['own/**=pull,push']);
    const owner = await makeKey(server, ['own/**=pull,push,delete']);
    const path = `/models/${encodeURIComponent(place)}`;
    const said = { retention: { last: 1 } };
    const { id } = await told(ask('GET', path));
    expect((await told(ask('GET', path))).retention).to.equal(null);
    await told(ask('PATCH', path, said, { key: pusher.text }), 403);
    await told(ask('PATCH', path, { description: 'by who pushes' }, { key: pusher.text }));
    const asked = { model_id: place, retention: { last: 1 } };
    const found = await told(ask('POST', '/retention/preview', asked, { key: pusher.text }));
    expect(found.items.map(({ tag, rule }: Resource) => [tag, rule.model_id])).to.deep.equal([['v1', id]]);
    const changed = await told(ask('PATCH', path, said, { key: owner.text }));
    expect(changed.retention).to.deep.equal({ last: 1 });
    await until('it is gone', async () => (await tagsIn(place)).length === 1);
    // Sent back as it is by who may not change it.
    const now = await told(ask('GET', path));
    await told(ask('PATCH', path, now, { key: pusher.text }));
    const { items } = await told(ask('GET', '/audit-logs?actor=retention&repository=own/model'));
    expect(items[0].details.cause).to.deep.include({ model_id: id, retention: { last: 1 } });
  });

  it('is shown to who may read it', async () => {
    const place = 'shown/model';
    await pushRelease(server, place, 'v1');
    const reader = await makeKey(server, ['shown/**=pull']);
    const stranger = await makeKey(server, ['elsewhere/**=pull']);
    const admin = await makeKey(server, ['**=admin'], { readOnly: true });
    const body = { model_id: place, retention: { younger_than_days: 1 } };
    await told(ask('POST', '/retention/preview', body, { key: reader.text }));
    await told(ask('POST', '/retention/preview', body, { key: stranger.text }), 404);
    await told(ask('POST', '/retention/preview', {}, { key: reader.text }), 403);
    await told(ask('POST', '/retention/preview', {}, { key: admin.text }));
  });

  it('is refused by the field that is wrong', async () => {
    const rule = (retention: unknown) => faultsOf(ask('POST', '/policies', { pattern: 'bad', retention }));
    for (const [wrong, faults] of [
      [{}, ['body.retention']],
      [7, ['body.retention']],
      [{ last: 0 }, ['body.retention.last']],
      [{ last: 1, first: 2 }, ['body.retention.first']],
      [{ last: 1, keep: true }, ['body.retention']],
      [{ keep: false, tags: ['a b'] }, ['body.retention', 'body.retention.keep', 'body.retention.tags.0']],
      [{ deployed: false }, ['body.retention.deployed']],
    ] as const)
      expect(await rule(wrong), JSON.stringify(wrong)).to.deep.equal(faults);
    const asked = (body: object) => faultsOf(ask('POST', '/retention/preview', body));
    const retention = { last: 1 };
    expect(await asked({ retention })).to.deep.equal(['body.retention']);
    expect(await asked({ pattern: 'a' })).to.deep.equal(['body.retention']);
    expect(await asked({ pattern: 'a', model_id: 'b', retention })).to.deep.equal(['body.pattern']);
    expect(await asked({ pattern: 'a//b', retention })).to.deep.equal(['body.pattern']);
    await told(ask('POST', '/retention/preview', { model_id: 'nowhere', retention }), 404);
    await told(ask('POST', '/retention/preview?cursor=YWJj', { pattern: 'a', retention }), 422);
    await onDatabase(server, async (database) => {
      expect(await database.query(`select from policies where pattern = 'bad'`)).to.deep.equal([]);
    });
  });
});
