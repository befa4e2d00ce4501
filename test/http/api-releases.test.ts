import { expect } from 'chai';
import { randomUUID } from 'node:crypto';
import { makeKey, onDatabase } from '../support/keys.js';
import type { TestServer } from '../support/server.js';
import { type Ask, asker, faultsOf, pushFiles, releaseOf, type Resource, told } from './api-scene.js';
import { digestOf, IMAGE } from './content.js';
import { sharedServer } from './shared-server.js';

describe('releases over HTTP', () => {
  let server: TestServer;
  let ask: Ask;
  let model: Resource;
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
    model = await told(ask('POST', '/models', { name: 'releases', storage_path: 'api-releases/one' }), 201);
  });

  const draft = (input: Resource) => told(ask('POST', '/releases', { model_id: model.id, ...input }), 201);
  const pull = async (reference: string) =>
    (await server.request('GET', `/v2/api-releases/one/manifests/${reference}`)).headers.get('docker-content-digest');

  it('are drafts until they have a digest', async () => {
    const created = await ask('POST', '/releases', {
      image_id: model.id,
      version: 'v1.0',
      quantization: 'FP16',
      release_notes: 'first',
      metadata: { a: 1 },
    });
    const release = await told(Promise.resolve(created), 201);
    expect(created.headers.get('location')).to.equal(`/api/v1/releases/${release.id}`);
    expect(release).to.deep.include({
      tag: 'v1.0-FP16',
      digest: null,
      status: 'draft',
      media_type: null,
      size_bytes: 0,
      facts: null,
      release_notes: 'first',
      metadata: { a: 1 },
      image_id: model.id,
    });
    expect(await pull('v1.0-FP16')).to.equal(null);
    expect((await ask('GET', `/releases/${release.id}/manifest`)).status).to.equal(404);
    expect(await told(ask('GET', `/releases/${release.id}`))).to.deep.equal(release);
  });

  it('read version and quantization from a tag alone', async () => {
    expect(await draft({ tag: '2.5_q4_k_m' })).to.include({
      version: '2.5',
      quantization: 'q4_k_m',
      tag: '2.5_q4_k_m',
    });
    expect(await draft({ version: 'v1-bnb', quantization: '4bit' })).to.include({
      version: 'v1-bnb',
      quantization: '4bit',
    });
  });

  it('refuse tags that say something else, and what would be no release', async () => {
    for (const [input, place] of [
      [{ version: 'v9', quantization: 'fp16', tag: 'v9-int8' }, 'tag'],
      [{ version: 'v9', quantization: 'fp16', tag: 'v8-fp16' }, 'tag'],
      [{ version: 'v9', quantization: null, tag: 'v9-fp16' }, 'tag'],
      [{ version: 'v9', quantization: 'fp16', tag: 'v9' }, 'tag'],
      [{ quantization: 'int8', tag: 'v9-fp16' }, 'tag'],
      [{ tag: 'latest' }, 'tag'],
      [{ tag: `sha256-${'0'.repeat(64)}` }, 'tag'],
      [{ tag: 'v9/fp16' }, 'tag'],
      [{ version: 'latest' }, 'version'],
      [{ version: 'v9', quantization: 'fp17' }, 'quantization'],
      [{ version: 'v9-int8', quantization: null }, 'version'],
      [{ version: '' }, 'version'],
      [{ version: 'x'.repeat(129) }, 'version'],
      [{ version: `v${'9'.repeat(127)}`, quantization: 'fp16' }, 'version'],
      [{ quantization: 'fp16' }, 'version'],
      [{ version: 'v9', digest: `sha256:${'0'.repeat(64)}` }, 'digest'],
      [{ version: 'v9', status: 'published' }, 'status'],
      [{ version: 'v9', release_notes: 'x'.repeat(100_001) }, 'release_notes'],
    ] as const)
      expect(
        await faultsOf(ask('POST', '/releases', { model_id: model.id, ...input })),
        JSON.stringify(input).slice(0, 99),
      ).to.deep.equal([`body.${place}`]);
    expect(
      await faultsOf(ask('POST', '/releases', { model_id: 'x', version: 'a b', tag: '', bogus: 1 })),
    ).to.deep.equal(['body.bogus', 'body.model_id', 'body.tag', 'body.version']);
    const digest = `sha256:${'0'.repeat(64)}`;
    for (const [input, places] of [
      [{ version: 'v9', quantization: 'fp17', status: 'withdrawn', digest }, ['digest', 'quantization', 'status']],
      [{ version: 'v8', quantization: 'fp17', tag: 'v9', status: 'published' }, ['quantization', 'status', 'tag']],
      [{ tag: 'latest', digest }, ['digest', 'tag']],
    ] as const)
      expect(await faultsOf(ask('POST', '/releases', { model_id: model.id, ...input }))).to.deep.equal(
        places.map((place) => `body.${place}`),
      );
    const { id } = await draft({ version: 'v8.9' });
    for (const method of ['PATCH', 'PUT']) {
      const input = { version: 'latest', digest, status: 'draft' };
      const wrong = await faultsOf(ask(method, `/releases/${id}`, input));
      expect(wrong, method).to.deep.equal(['body.digest', 'body.status', 'body.version']);
    }
    const both = { model_id: model.id, image_id: randomUUID(), version: 'v9' };
    expect(await faultsOf(ask('POST', '/releases', both))).to.deep.equal(['body.image_id']);
    expect(await faultsOf(ask('POST', '/releases', { ...both, version: 'latest' }))).to.deep.equal([
      'body.image_id',
      'body.version',
    ]);
    expect(await faultsOf(ask('PATCH', `/releases/${id}`, { size_bytes: 1, version: 'latest' }))).to.deep.equal([
      'body.size_bytes',
      'body.version',
    ]);
    expect((await ask('POST', '/releases', { model_id: randomUUID(), version: 'v9' })).status).to.equal(404);
  });

  it('are one for each version and quantization, in any case', async () => {
    const { id, tag } = await draft({ version: 'v2.0', quantization: 'fp16' });
    for (const input of [{ version: 'V2.0', quantization: 'FP16' }, { tag: 'v2.0.fp16' }]) {
      const refused = await told(ask('POST', '/releases', { model_id: model.id, ...input }), 409);
      expect(refused.conflicts[0]).to.include({ type: 'release', id, tag });
    }
    const other = await draft({ version: 'v2.0' });
    expect((await ask('PATCH', `/releases/${other.id}`, { quantization: 'Fp16' })).status).to.equal(409);
  });

  it('put the tag when they are created with a digest', async () => {
    const digest = digestOf(await pushFiles(server, 'api-releases/one', undefined, { 'a.bin': 'published at once' }));
    const release = await draft({ version: 'v3.0', quantization: 'int8', digest, status: 'deprecated' });
    expect(release).to.include({ tag: 'v3.0-int8', digest, status: 'deprecated', media_type: IMAGE });
    expect(await pull('v3.0-int8')).to.equal(digest);
    const { items } = await told(ask('GET', `/releases?model=releases&digest=${digest}`));
    expect(items).to.deep.equal([release]);
  });

  it('fix their identity when they are published', async () => {
    const digest = digestOf(await pushFiles(server, 'api-releases/one', 'v4.0-fp16', { 'a.bin': 'fixed' }));
    const release = await releaseOf(ask, 'releases', 'v4.0-fp16');
    for (const input of [
      { version: 'v4.1' },
      { quantization: null },
      { quantization: 'FP16' },
      { tag: 'v4.0_fp16' },
      { digest: null },
    ])
      expect((await ask('PATCH', `/releases/${release.id}`, input)).status, JSON.stringify(input)).to.equal(409);
    expect(await faultsOf(ask('PATCH', `/releases/${release.id}`, { status: 'draft' }))).to.deep.equal(['body.status']);
    expect(await faultsOf(ask('PATCH', `/releases/${release.id}`, { size_bytes: 1, image_name: 'x' }))).to.deep.equal([
      'body.image_name',
      'body.size_bytes',
    ]);
    const same = { version: 'v4.0', quantization: 'fp16', tag: 'v4.0-fp16', digest };
    await told(ask('PATCH', `/releases/${release.id}`, same));
    const full = await told(ask('GET', `/releases/${release.id}`));
    const put = await told(ask('PUT', `/releases/${release.id}`, full));
    expect({ ...put, updated_at: null }).to.deep.equal({ ...full, updated_at: null });
  });

  it('are replaced by PUT, but for what makes them what they are', async () => {
    const digest = digestOf(await pushFiles(server, 'api-releases/one', 'v4.1', { 'a.bin': 'put' }));
    const { id } = await releaseOf(ask, 'releases', 'v4.1');
    await told(ask('PATCH', `/releases/${id}`, { release_notes: 'x', metadata: { a: 1 }, status: 'deprecated' }));
    const put = await told(ask('PUT', `/releases/${id}`, { version: 'v4.1' }));
    expect(put).to.deep.include({ release_notes: null, metadata: {}, status: 'deprecated', digest });
    expect(await faultsOf(ask('PUT', `/releases/${id}`, {}))).to.deep.equal(['body.version']);
  });

  it('can be deprecated, withdrawn and published again, and keep their tag', async () => {
    const digest = digestOf(await pushFiles(server, 'api-releases/one', 'v4.2', { 'a.bin': 'status' }));
    const { id } = await releaseOf(ask, 'releases', 'v4.2');
    for (const status of ['deprecated', 'withdrawn', 'deprecated', 'published', 'withdrawn', 'published']) {
      expect(await told(ask('PATCH', `/releases/${id}`, { status }))).to.include({ status, digest });
      expect(await pull('v4.2')).to.equal(digest);
    }
  });

  it('move their tag to another manifest of the repository', async () => {
    await pushFiles(server, 'api-releases/one', 'v4.3', { 'a.bin': 'moves' });
    const { id } = await releaseOf(ask, 'releases', 'v4.3');
    const digest = digestOf(await pushFiles(server, 'api-releases/one', undefined, { 'b.bin': 'moved' }));
    expect(await told(ask('PATCH', `/releases/${id}`, { digest }))).to.include({ id, digest });
    expect(await pull('v4.3')).to.equal(digest);
    const { items } = await told(ask('GET', `/releases/${id}/artifacts`));
    expect(items.map(({ path }: Resource) => path)).to.deep.equal(['b.bin']);
    const nowhere = { digest: `sha256:${'1'.repeat(64)}` };
    expect(await faultsOf(ask('PATCH', `/releases/${id}`, nowhere))).to.deep.equal(['body.digest']);
  });

  it('change their identity as drafts', async () => {
    const { id } = await draft({ version: 'v5.0', quantization: 'fp16' });
    expect(await told(ask('PATCH', `/releases/${id}`, { version: 'v5.1' }))).to.include({
      tag: 'v5.1-fp16',
      version: 'v5.1',
    });
    expect(await told(ask('PATCH', `/releases/${id}`, { tag: 'v5.2.int8' }))).to.include({
      version: 'v5.2',
      quantization: 'int8',
    });
    expect(await told(ask('PATCH', `/releases/${id}`, { quantization: null }))).to.include({
      tag: 'v5.2',
      quantization: null,
    });
    expect(await faultsOf(ask('PATCH', `/releases/${id}`, { version: 'v5.2', tag: 'v5.3' }))).to.deep.equal([
      'body.tag',
    ]);
  });

  it('are changed by who saw them last', async () => {
    const { id } = await draft({ version: 'v5.5' });
    const path = `/releases/${id}`;
    const etag = (await ask('GET', path)).headers.get('etag') ?? '';
    expect((await ask('GET', path, undefined, { headers: { 'if-none-match': etag } })).status).to.equal(304);
    const headers = { 'if-match': etag };
    expect((await ask('PATCH', path, { release_notes: 'first' }, { headers })).status).to.equal(200);
    for (const [method, at, body] of [
      ['PATCH', path, {}],
      ['PUT', path, { version: 'v5.5' }],
      ['DELETE', path, undefined],
    ] as const)
      expect((await ask(method, at, body, { headers })).status, method).to.equal(412);
    const digest = digestOf(await pushFiles(server, 'api-releases/one', undefined, { 'a.bin': 'unseen' }));
    expect((await ask('POST', `${path}/publish`, { digest }, { headers })).status).to.equal(412);
  });

  it('are published with their files, or as a manifest that is there', async () => {
    const { id } = await draft({ version: 'v6.0', quantization: 'fp16' });
    expect((await ask('POST', `/releases/${id}/publish`)).status).to.equal(409);
    for (const [path, text] of [
      ['weights/model.safetensors', 'weights'],
      ['config.json', '{"model_type":"llama"}'],
    ])
      await told(
        ask('POST', `/artifacts/upload?release_id=${id}&path=${encodeURIComponent(path ?? '')}`, text, octets),
        201,
      );
    expect(await told(ask('GET', `/releases/${id}`))).to.include({ status: 'draft', size_bytes: 7 + 22 });
    const once = { headers: { 'idempotency-key': 'publish-1' } };
    const published = await ask('POST', `/releases/${id}/publish`, undefined, once);
    const release = await told(Promise.resolve(published));
    expect(release).to.include({ id, status: 'published', tag: 'v6.0-fp16' });
    expect(await pull('v6.0-fp16')).to.equal(release.digest);
    const repeated = await ask('POST', `/releases/${id}/publish`, undefined, once);
    expect(repeated.bytes.equals(published.bytes)).to.equal(true);
    expect((await ask('POST', `/releases/${id}/publish`)).status).to.equal(409);
    const manifest = JSON.parse((await ask('GET', `/releases/${id}/manifest`)).bytes.toString('utf8')) as Resource;
    expect(manifest.artifactType).to.equal('application/vnd.cncf.model.manifest.v1+json');
    expect(manifest.layers.map((layer: Resource) => layer.digest)).to.deep.equal([
      digestOf('weights'),
      digestOf('{"model_type":"llama"}'),
    ]);
    const config = await server.request('GET', `/v2/api-releases/one/blobs/${manifest.config.digest}`);
    expect(await config.json()).to.be.an('object');

    const other = await draft({ version: 'v6.1' });
    const digest = digestOf(await pushFiles(server, 'api-releases/one', undefined, { 'a.bin': 'of a manifest' }));
    expect(await told(ask('POST', `/releases/${other.id}/publish`, { digest }))).to.include({
      status: 'published',
      digest,
    });
    expect(await pull('v6.1')).to.equal(digest);
    expect((await ask('POST', `/releases/${other.id}/publish`, { digest })).status).to.equal(409);
    expect((await ask('POST', `/releases/${randomUUID()}/publish`)).status).to.equal(404);
  });

  it('become what is pushed, if they are drafts', async () => {
    const { id } = await draft({ version: 'v6.2', release_notes: 'planned' });
    await told(ask('POST', `/artifacts/upload?release_id=${id}&path=a.bin`, 'draft file', octets), 201);
    const digest = digestOf(await pushFiles(server, 'api-releases/one', 'V6.2', { 'b.bin': 'pushed' }));
    expect(await told(ask('GET', `/releases/${id}`))).to.include({
      status: 'published',
      digest,
      tag: 'V6.2',
      release_notes: 'planned',
    });
    const { items } = await told(ask('GET', `/releases/${id}/artifacts`));
    expect(items.map(({ path }: Resource) => path)).to.deep.equal(['b.bin']);
  });

  it('show the manifest byte by byte', async () => {
    const manifest = await pushFiles(
      server,
      'api-releases/one',
      'v6.3',
      { 'a.bin': 'exact' },
      { annotations: { 'x.y': 'ä' } },
    );
    const { id } = await releaseOf(ask, 'releases', 'v6.3');
    const shown = await ask('GET', `/releases/${id}/manifest`);
    expect(shown.bytes.equals(manifest)).to.equal(true);
    expect(shown.headers.get('content-type')).to.equal(IMAGE);
    expect(shown.headers.get('docker-content-digest')).to.equal(digestOf(manifest));
    const headers = { 'if-none-match': shown.headers.get('etag') ?? '' };
    expect((await ask('GET', `/releases/${id}/manifest`, undefined, { headers })).status).to.equal(304);
  });

  it('go with every spelling of their tag, and leave the manifest to its aliases', async () => {
    const one = await pushFiles(server, 'api-releases/one', 'v7-fp16', { 'a.bin': 'spelled' });
    await pushFiles(server, 'api-releases/one', 'V7.FP16', { 'a.bin': 'spelled again' });
    await pushFiles(server, 'api-releases/one', 'canary', { 'a.bin': 'spelled again' });
    const { id } = await releaseOf(ask, 'releases', 'V7.FP16');
    const { text: key } = await makeKey(server, ['api-releases/**=pull,push']);
    expect((await ask('DELETE', `/releases/${id}`, undefined, { key })).status).to.equal(403);
    expect((await ask('DELETE', `/releases/${id}`)).status).to.equal(204);
    for (const tag of ['v7-fp16', 'V7.FP16']) expect(await pull(tag), tag).to.equal(null);
    expect(await pull('canary')).to.be.a('string');
    expect((await ask('GET', `/releases/${id}`)).status).to.equal(404);
    expect((await ask('DELETE', `/releases/${id}`)).status).to.equal(404);
    const queued = await onDatabase(server, (database) =>
      database.query(
        'select from (select digest from reviews union all select digest from review_requests) q where digest = $1',
        [digestOf(one)],
      ),
    );
    expect(queued, 'what nothing names is queued for the collector').to.have.lengthOf(1);
  });

  it('are compared file by file', async () => {
    const common = { 'same.bin': 'same', 'moved.bin': 'moved bytes' };
    await pushFiles(server, 'api-releases/one', 'v8.0', { ...common, 'changed.json': 'old', 'gone.txt': 'gone!' });
    await pushFiles(server, 'api-releases/one', 'v8.1', {
      'same.bin': 'same',
      'elsewhere.bin': 'moved bytes',
      'changed.json': 'newer',
      'new.txt': 'brand new',
    });
    const [from, to] = [await releaseOf(ask, 'releases', 'v8.0'), await releaseOf(ask, 'releases', 'v8.1')];
    const difference = await told(ask('GET', `/releases/compare?from=${from.id}&to=${to.id}`));
    expect(difference.from).to.deep.equal(from);
    expect(difference.to).to.deep.equal(to);
    const paths = (files: Resource[]) => files.map(({ path }) => path).sort();
    expect(paths(difference.added)).to.deep.equal(['elsewhere.bin', 'new.txt']);
    expect(paths(difference.removed)).to.deep.equal(['gone.txt', 'moved.bin']);
    expect(difference.changed).to.have.lengthOf(1);
    expect(difference.changed[0]).to.deep.include({ path: 'changed.json' });
    expect(difference.changed[0].from.digest).to.equal(digestOf('old'));
    expect(difference.changed[0].to).to.include({ digest: digestOf('newer'), size_bytes: 5 });
    expect(difference).to.include({ unchanged: 1, bytes_shared: 4 + 11, bytes_added: 5 + 9, bytes_removed: 3 + 5 });
    expect((await ask('GET', `/releases/compare?from=${from.id}&to=${randomUUID()}`)).status).to.equal(404);
    expect(await faultsOf(ask('GET', '/releases/compare?from=x'))).to.deep.equal(['query.from', 'query.to']);
  });

  it('are not there for an unknown id', async () => {
    for (const id of [randomUUID(), 'x', '%00'])
      for (const suffix of ['', '/artifacts', '/deployments', '/manifest'])
        expect((await ask('GET', `/releases/${id}${suffix}`)).status, `${id}${suffix}`).to.equal(404);
  });

  const octets = { headers: { 'content-type': 'application/octet-stream' } };
});
