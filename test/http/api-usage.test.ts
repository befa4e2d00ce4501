import { expect } from 'chai';
import { makeKey } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import { until } from '../faults/support/processes.js';
import { allPages, type Ask, asker, faultsOf, pushFiles, releaseOf, type Resource, told } from './api-scene.js';
import { bytesOf, digestOf, pushBlob } from './content.js';

const DAY_MS = 86_400_000;

describe('the usage', function () {
  this.timeout(120_000);
  let server: TestServer;
  let ask: Ask;
  let manifest: Buffer;
  const [MODEL, PLAIN, SHARING] = ['usage/model', 'usage/plain', 'elsewhere/sharing'] as const;
  const shared = bytesOf('shared', 5_000);

  before(async () => {
    server = await startServer({ environment: { REGISTRY_RECORD_INTERVAL: '1', REGISTRY_USAGE_INTERVAL: '1' } });
    ask = asker(server);
    manifest = await pushFiles(server, MODEL, 'v1.0', { 'model.safetensors': 'x'.repeat(1_000) });
    await pushBlob(server, MODEL, shared);
    await pushBlob(server, PLAIN, bytesOf('plain', 20_000));
    await pushBlob(server, SHARING, shared);
    const pushed = Date.now();
    await until(
      'all of it is counted',
      async () => new Date((await told(ask('GET', '/usage'))).as_of as string).getTime() > pushed,
    );
  });
  after(() => server.dispose());

  const day = (time: number) => new Date(time).toISOString().slice(0, 10);

  it('of the registry counts each blob once', async () => {
    const { total, as_of } = await told(ask('GET', '/usage'));
    expect(total).to.deep.equal({
      repositories: 3,
      manifests: 1,
      tags: 1,
      blobs: 4,
      named_bytes: manifest.length + 2 + 1_000,
      stored_bytes: 2 + 1_000 + 5_000 + 20_000,
    });
    expect(Date.now() - new Date(as_of as string).getTime()).to.be.within(0, 10_000);
  });

  it('lists repositories and models by their bytes', async () => {
    const all = await allPages(ask, '/usage/repositories', 1);
    expect(
      all.map(({ repository, stored_bytes, charged_bytes }) => [repository, stored_bytes, charged_bytes]),
    ).to.deep.equal([
      [PLAIN, 20_000, 20_000],
      [MODEL, 6_002, 6_002],
      [SHARING, 5_000, 0],
    ]);
    const model = await told(ask('GET', `/models/${encodeURIComponent(MODEL)}`));
    const ofModel = {
      repository: MODEL,
      model_id: model.id,
      model_name: model.name,
      named_bytes: manifest.length + 1_002,
      stored_bytes: 6_002,
      charged_bytes: 6_002,
      manifests: 1,
      tags: 1,
      blobs: 3,
      pulls: 0,
      last_pulled_at: null,
    };
    expect(all[1]).to.deep.equal(ofModel);
    expect(await allPages(ask, '/usage/models')).to.deep.equal([ofModel]);
    const sorted = async (sort: string) =>
      (await allPages(ask, `/usage/repositories?sort=${sort}`)).map(({ repository }) => repository as string);
    expect(await sorted('stored_bytes')).to.deep.equal([SHARING, MODEL, PLAIN]);
    expect((await sorted('-named_bytes'))[0]).to.equal(MODEL);
    expect((await told(ask('GET', '/usage/repositories?total=true&limit=1'))).total).to.equal(3);
    expect(await faultsOf(ask('GET', '/usage/repositories?sort=tags'))).to.deep.equal(['query.sort']);
  });

  it('of a release is what it holds, and what it alone does', async () => {
    const release = await releaseOf(ask, MODEL, 'v1.0');
    const usage = await told(ask('GET', `/releases/${release.id}/usage`));
    const never = { pulls: 0, last_pulled_at: null };
    expect(usage).to.deep.equal({ named_bytes: manifest.length + 1_002, alone_bytes: 1_002, ...never });
    const model = await told(ask('GET', `/models/${encodeURIComponent(MODEL)}`));
    const draft = await told(ask('POST', '/releases', { model_id: model.id, version: 'v2.0' }), 201);
    const nothing = { named_bytes: 0, alone_bytes: 0, ...never };
    expect(await told(ask('GET', `/releases/${draft.id}/usage`))).to.deep.equal(nothing);
    const { text } = await makeKey(server, ['other/**=pull']);
    await told(ask('GET', `/releases/${release.id}/usage`, undefined, { key: text }), 404);
  });

  it('is told day by day', async () => {
    const today = day(Date.now());
    const { items } = await told(ask('GET', '/usage/days'));
    expect((items as Resource[]).at(-1)).to.deep.equal({
      day: today,
      named_bytes: manifest.length + 1_002,
      stored_bytes: 26_002,
    });
    const of = async (query: string) => (await told(ask('GET', `/usage/days?${query}`))).items as Resource[];
    expect((await of(`repository=${encodeURIComponent(SHARING)}`)).at(-1)?.stored_bytes).to.equal(5_000);
    expect(await of(`since=2020-01-01&until=2020-02-01`)).to.deep.equal([]);
    expect((await of(`until=${day(Date.now() + 2 * DAY_MS)}`)).length).to.be.at.least(3);
    for (const query of [
      'since=2026-05-05&until=2026-05-04',
      'since=2020-01-01&until=2026-05-04',
      'since=2026-02-30',
      'since=yesterday',
      'since=0000-01-01',
    ])
      expect(await faultsOf(ask('GET', `/usage/days?${query}`)), query).to.deep.equal(['query.since']);
  });

  it('shows who may not read everything only what it may', async () => {
    const { text } = await makeKey(server, ['elsewhere/*=pull', 'usage/plain=pull']);
    const as = (path: string) => ask('GET', path, undefined, { key: text });
    const { items } = await told(as('/usage/repositories'));
    expect((items as Resource[]).map(({ repository }) => repository as string)).to.deep.equal([PLAIN, SHARING]);
    expect((await told(as('/usage/models'))).items).to.deep.equal([]);
    expect((await told(as('/usage'))).total).to.deep.equal({
      repositories: 2,
      manifests: 0,
      tags: 0,
      blobs: null,
      named_bytes: 0,
      stored_bytes: null,
    });
    await told(as('/usage/days'), 403);
    await told(as(`/usage/days?repository=${encodeURIComponent(MODEL)}`), 404);
    expect((await told(as(`/usage/days?repository=${encodeURIComponent(PLAIN)}`))).items).not.to.deep.equal([]);
    const { text: all } = await makeKey(server, ['**=pull']);
    expect((await told(ask('GET', '/usage', undefined, { key: all }))).total).to.include({ stored_bytes: 26_002 });
  });

  it('is counted down when something goes', async () => {
    const answer = await server.request('DELETE', `/v2/${MODEL}/manifests/${digestOf(manifest)}`);
    expect(answer.status).to.equal(202);
    const empty = (of: Resource) => of.manifests === 0 && of.tags === 0 && of.named_bytes === 0;
    await until('it is counted', async () => empty((await told(ask('GET', '/usage'))).total as Resource));
  });
});
