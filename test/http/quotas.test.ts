import { expect } from 'chai';
import { join } from 'node:path';
import { makeKey } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import { until } from '../faults/support/processes.js';
import { type Ask, asker, pushRelease, type Resource, told } from './api-scene.js';
import {
  bytesOf,
  close,
  descriptorOf,
  digestOf,
  expectError,
  imageOf,
  LAYER,
  openUpload,
  patch,
  pushBlob,
  pushConfig,
  putManifest,
} from './content.js';

const QUICK = { REGISTRY_RECORD_INTERVAL: '1', REGISTRY_USAGE_INTERVAL: '1' };
const KiB = 1024;

describe('a quota', function () {
  this.timeout(120_000);
  let server: TestServer;
  let other: TestServer;
  let ask: Ask;

  before(async () => {
    server = await startServer({ environment: QUICK });
    other = await startServer({
      environment: {
        ...QUICK,
        REGISTRY_DATABASE_URL: server.environment.REGISTRY_DATABASE_URL ?? '',
        REGISTRY_FILESYSTEM_ROOT: join(server.folder, 'data', 'blobs'),
      },
    });
    ask = asker(server);
  });
  after(async () => {
    await other?.dispose();
    await server?.dispose();
  });

  const quotaOf = async (pattern: string, of: Ask = ask): Promise<Resource | undefined> => {
    const { quotas } = await told(of('GET', '/usage'));
    return (quotas as Resource[]).find((quota) => quota.pattern === pattern);
  };
  const used = async (pattern: string, bytes: number) => {
    await until(`${pattern} uses ${bytes}`, async () => (await quotaOf(pattern))?.used_bytes === bytes);
    // By then every process has read it.
    await new Promise((resolve) => setTimeout(resolve, 500));
  };
  const limit = async (pattern: string, quota_bytes: number | null) =>
    await told(ask('POST', '/policies', { pattern, quota_bytes }), 201);
  const post = async (to: TestServer, repository: string, query = '', body?: Buffer) =>
    await to.request('POST', `/v2/${repository}/blobs/uploads/${query}`, body ? { body } : {});

  async function refused(answer: Response, pattern: string, limit: number, used: number): Promise<void> {
    const { detail, message } = (await expectError(answer, 403, 'DENIED')) as { detail: Resource; message: string };
    expect(detail).to.deep.equal({ quota: pattern, limit_bytes: limit, used_bytes: used });
    for (const said of [pattern, limit, used]) expect(message).to.include(String(said));
  }

  it('refuses the start of an upload when it is used up, on every node, and lets in again what fits', async () => {
    const policy = await limit('full/**', 10 * KiB);
    await post(server, 'full/a');
    const bytes = bytesOf('full', 10 * KiB);
    const digest = await pushBlob(server, 'full/a', bytes);
    await used('full/**', 10 * KiB);
    for (const node of [server, other])
      for (let time = 0; time < 4; time++) await refused(await post(node, 'full/b'), 'full/**', 10 * KiB, 10 * KiB);
    // Of other repositories it says nothing.
    expect((await post(server, 'fuller/b')).status).to.equal(202);
    await told(ask('PATCH', `/policies/${policy.id}`, { quota_bytes: 20 * KiB }));
    for (const node of [server, other]) expect((await post(node, 'full/b')).status).to.equal(202);
    await told(ask('PATCH', `/policies/${policy.id}`, { quota_bytes: 10 * KiB }));
    await refused(await post(other, 'full/b'), 'full/**', 10 * KiB, 10 * KiB);
    expect((await server.request('DELETE', `/v2/full/a/blobs/${digest}`)).status).to.equal(202);
    await used('full/**', 0);
    for (const node of [server, other]) expect((await post(node, 'full/b')).status).to.equal(202);
  });

  it('refuses bytes of which somebody says that they are too many, before they come', async () => {
    await limit('said/*', 100 * KiB);
    await pushBlob(server, 'said/a', bytesOf('said', 60 * KiB));
    await used('said/*', 60 * KiB);
    const [fits, tooMany] = [bytesOf('fits', 40 * KiB), bytesOf('too many', 40 * KiB + 1)];
    await refused(await post(server, 'said/b', `?digest=${digestOf(tooMany)}`, tooMany), 'said/*', 100 * KiB, 60 * KiB);
    const location = await openUpload(server, 'said/b');
    await refused(await patch(server, location, tooMany), 'said/*', 100 * KiB, 60 * KiB);
    await refused(await close(server, location, digestOf(tooMany), tooMany), 'said/*', 100 * KiB, 60 * KiB);
    expect((await close(server, location, digestOf(fits), fits)).status).to.equal(201);
    await used('said/*', 100 * KiB);
    // What is there may be sent again: the answer may have been lost.
    expect((await close(server, location, digestOf(fits), fits)).status).to.equal(201);
    expect((await post(server, 'said/b', `?digest=${digestOf(fits)}`, fits)).status).to.equal(201);
  });

  it('refuses the manifest of bytes that went past it, but neither those that fill it nor what was there', async () => {
    const policy = await limit('past/*', 50 * KiB);
    const config = await pushConfig(server, 'past/a');
    const layer = bytesOf('past', 50 * KiB - config.size);
    await pushBlob(server, 'past/a', layer);
    await used('past/*', 50 * KiB);
    const manifest = imageOf(config, [descriptorOf(layer, LAYER)]);
    expect((await putManifest(server, 'past/a', 'v1', manifest)).status).to.equal(201);
    await told(ask('PATCH', `/policies/${policy.id}`, { quota_bytes: 50 * KiB - 1 }));
    const another = imageOf(config, [descriptorOf(layer, LAYER)], { annotations: { a: 'b' } });
    for (const node of [server, other])
      await refused(await putManifest(node, 'past/a', 'v2', another), 'past/*', 50 * KiB - 1, 50 * KiB);
    expect((await putManifest(server, 'past/a', 'stable', manifest)).status, 'a tag of what is there').to.equal(201);
  });

  it('charges what is mounted to where it was first, and refuses no mount', async () => {
    const bytes = bytesOf('mounted', 30 * KiB);
    const digest = await pushBlob(server, 'origin', bytes);
    await limit('mounts/*', 10 * KiB);
    await pushBlob(server, 'mounts/a', bytesOf('little', 10 * KiB));
    await used('mounts/*', 10 * KiB);
    expect((await post(server, 'mounts/a', `?mount=${digest}&from=origin`)).status).to.equal(201);
    await until('the mount is counted', async () => {
      const { items } = await told(ask('GET', '/usage/repositories?limit=1000'));
      const found = (items as Resource[]).find(({ repository }) => repository === 'mounts/a');
      return found?.stored_bytes === 40 * KiB && found.charged_bytes === 10 * KiB;
    });
    expect((await quotaOf('mounts/*'))?.used_bytes).to.equal(10 * KiB);
    expect((await server.request('DELETE', `/v2/origin/blobs/${digest}`)).status).to.equal(202);
    await used('mounts/*', 40 * KiB);
  });

  it('refuses uploads of the metadata API as well', async () => {
    await pushRelease(server, 'api-quota/model', 'v1');
    const { id } = await told(ask('GET', `/models/${encodeURIComponent('api-quota/model')}`));
    const draft = await told(ask('POST', '/releases', { model_id: id, version: 'v2' }), 201);
    await limit('api-quota/model', 1);
    await until('the release is counted', async () => (await quotaOf('api-quota/model'))?.used_bytes > 1);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const upload = async (key?: string) =>
      await ask('POST', `/artifacts/upload?release_id=${draft.id}&name=x`, Buffer.from('more than it holds'), {
        headers: { 'content-type': 'application/octet-stream' },
        ...(key === undefined ? {} : { key }),
      });
    expect((await told(upload(), 403)).detail).to.include('api-quota/model');
    const form = new FormData();
    form.set('file', new Blob(['bytes of a form']), 'x.bin');
    expect((await told(ask('POST', `/artifacts/upload?release_id=${draft.id}`, form), 403)).detail).to.include('quota');
    expect((await told(ask('GET', `/releases/${draft.id}/artifacts`))).items).to.deep.equal([]);
  });

  it('is told to whoever may read all that it counts', async () => {
    await limit('told/model', 5);
    await limit('told/*', 50);
    const { text } = await makeKey(server, ['told/**=pull']);
    const { quotas } = await told(ask('GET', '/usage', undefined, { key: text }));
    expect(quotas).to.deep.equal([{ pattern: 'told/model', limit_bytes: 5, used_bytes: 0 }]);
  });

  it('is a metric, and so are the totals', async () => {
    await limit('metric/*', 1234);
    await until('the metric is there', async () => {
      const text = await (await server.request('GET', '/metrics')).text();
      return text.includes('weighhouse_quota_limit_bytes{pattern="metric/*"} 1234');
    });
    const { total } = await told(ask('GET', '/usage'));
    const text = await (await server.request('GET', '/metrics')).text();
    expect(text).to.include('weighhouse_quota_used_bytes{pattern="metric/*"} 0');
    expect(text).to.match(/^weighhouse_named_bytes [1-9][0-9]*$/m);
    expect(text).to.include(`weighhouse_stored_bytes ${total.stored_bytes}`);
  });

  it('of nothing lets nothing in', async () => {
    await limit('closed', 0);
    await refused(await post(server, 'closed'), 'closed', 0, 0);
  });
});
