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
  TITLE,
  told,
} from './api-scene.js';
import {
  bytesOf,
  descriptorOf,
  digestOf,
  expectError,
  IMAGE,
  pushBlob,
  pushConfig,
  imageOf,
  putManifest,
} from './content.js';
import { parseMultipart } from './multipart.js';
import { sharedServer } from './shared-server.js';

const PLACE = 'api-artifacts/one';

describe('artifacts over HTTP', () => {
  let server: TestServer;
  let ask: Ask;
  let model: Resource;
  let version = 0;
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
    model = await told(ask('POST', '/models', { name: PLACE, storage_path: PLACE }), 201);
  });

  const draft = () => told(ask('POST', '/releases', { model_id: model.id, version: `v0.${++version}` }), 201);
  const published = async (files: Record<string, string> = { 'model.gguf': `bytes of ${version + 1}` }) => {
    const tag = `v1.${++version}`;
    await pushFiles(server, PLACE, tag, files);
    return await releaseOf(ask, PLACE, tag);
  };
  const files = async ({ id }: Resource) => (await told(ask('GET', `/releases/${id}/artifacts`))).items as Resource[];
  const referrers = async ({ digest }: Resource) => {
    const answer = await server.request('GET', `/v2/${PLACE}/referrers/${digest}`);
    return ((await answer.json()) as { manifests: Resource[] }).manifests;
  };
  const add = (release: Resource, text: string, more: Resource) =>
    pushBlob(server, PLACE, Buffer.from(text)).then((digest) =>
      ask('POST', '/artifacts', { release_id: release.id, digest, ...more }),
    );
  const blobStatus = async (method: string, digest: string) =>
    (await server.request(method, `/v2/${PLACE}/blobs/${digest}`)).status;

  it('are the layers of a release, in their order', async () => {
    const content = { 'weights/model-1.safetensors': 'one', 'weights/model-2.gguf': 'two', 'config.json': '{}' };
    const release = await published(content);
    const items = await files(release);
    expect(items.map(({ path }) => path)).to.deep.equal(Object.keys(content));
    expect(items[0]).to.deep.include({
      release_id: release.id,
      name: 'model-1.safetensors',
      kind: 'layer',
      digest: digestOf('one'),
      checksum: digestOf('one'),
      size_bytes: 3,
      format: 'safetensors',
      media_type: 'application/octet-stream',
      metadata: {},
    });
    expect(items[1]?.format).to.equal('gguf');
    expect(await allPages(ask, `/releases/${release.id}/artifacts`)).to.deep.equal(items);
    expect(await told(ask('GET', `/artifacts/${items[0]?.id}`))).to.deep.equal(items[0]);
  });

  it('are listed with every filter', async () => {
    const release = await published({ 'listed 100%.gguf': 'listed', 'sub/listed.txt': 'listed too' });
    await told(add(release, 'listed attached', { name: 'listed.json' }), 201);
    for (const [query, count] of [
      ['', 3],
      ['kind=layer', 2],
      ['kind=attached', 1],
      ['format=gguf', 1],
      [`digest=${digestOf('listed too')}`, 1],
      ['q=SUB%2FLISTED', 1],
      ['q=100%25.', 1],
      ['q=100_', 0],
      [`model=${encodeURIComponent(PLACE)}`, 3],
      ['model=nobody', 0],
    ] as const)
      expect((await told(ask('GET', `/artifacts?release_id=${release.id}&total=true&${query}`))).total, query).to.equal(
        count,
      );
    for (const sort of ['created_at', '-created_at']) {
      const listed = await allPages(ask, `/artifacts?q=listed&sort=${sort}`);
      const times = listed.map(({ created_at }) => String(created_at));
      expect(times).to.deep.equal(sort === 'created_at' ? [...times].sort() : [...times].sort().reverse());
      expect(new Set(listed.map(({ id }) => id)).size).to.equal(3);
    }
    expect(await faultsOf(ask('GET', '/artifacts?kind=other&sort=name'))).to.deep.equal(['query.kind', 'query.sort']);
  });

  it('become files of a draft, each path once', async () => {
    const release = await draft();
    const created = await add(release, 'config', {
      path: 'sub/config.json',
      media_type: 'application/json',
      metadata: { a: 1 },
    });
    const artifact = await told(Promise.resolve(created), 201);
    expect(created.headers.get('location')).to.equal(`/api/v1/artifacts/${artifact.id}`);
    expect(artifact).to.deep.include({
      name: 'config.json',
      path: 'sub/config.json',
      kind: 'layer',
      media_type: 'application/json',
      size_bytes: 6,
      metadata: { a: 1 },
    });
    for (const path of ['sub/config.json', 'sub', 'sub/config.json/x']) {
      const refused = await told(add(release, 'other', { path }), 409);
      expect(refused.conflicts[0], path).to.include({ type: 'artifact', id: artifact.id, path: 'sub/config.json' });
    }
    expect(await told(ask('GET', `/releases/${release.id}`))).to.include({ size_bytes: 6, status: 'draft' });
  });

  it('have paths as long as a path may be, in any script', async () => {
    const release = await draft();
    // Of three bytes each, and none like the one before it.
    const path = String.fromCodePoint(...Array.from({ length: 1024 }, (_, nth) => 0x4e00 + ((nth * 7919) % 20_000)));
    expect(await told(add(release, 'far', { path, name: 'far' }), 201)).to.include({ path });
    await told(add(release, 'twice', { path, name: 'far' }), 409);
  });

  it('need a release, a blob that is there, and a name', async () => {
    const release = await draft();
    const digest = await pushBlob(server, PLACE, Buffer.from('there'));
    const input = { release_id: release.id, digest, name: 'a' };
    for (const [more, place] of [
      [{ release_id: randomUUID() }, 'release_id'],
      [{ digest: `sha256:${'0'.repeat(64)}` }, 'digest'],
      [{ name: '' }, 'name'],
      [{ name: 'x'.repeat(256) }, 'name'],
      [{ name: '../a' }, 'name'],
      [{ path: 'a'.repeat(1025) }, 'path'],
      [{ media_type: 'json' }, 'media_type'],
    ] as const)
      expect(
        await faultsOf(ask('POST', '/artifacts', { ...input, ...more })),
        JSON.stringify(more).slice(0, 99),
      ).to.deep.equal([`body.${place}`]);
    const nowhere = `sha256:${'0'.repeat(64)}`;
    for (const [more, places] of [
      [{ release_id: randomUUID(), digest: nowhere, name: '../a' }, ['digest', 'name', 'release_id']],
      [{ release_id: randomUUID(), path: 'C:/x' }, ['path', 'release_id']],
      [{ digest: nowhere, path: 'C:/x' }, ['digest', 'path']],
    ] as const)
      expect(await faultsOf(ask('POST', '/artifacts', { ...input, ...more })), 'all at once').to.deep.equal(
        places.map((place) => `body.${place}`),
      );
    for (const path of ['/etc/passwd', '../x', 'a/../../x', 'a//b', 'a/', './a', 'a\\b', '..', 'C:/x', 'a\u0000', ''])
      expect(await faultsOf(ask('POST', '/artifacts', { ...input, path })), path).to.deep.equal(['body.path']);
    expect(await faultsOf(ask('POST', '/artifacts', { bogus: 1 }))).to.deep.equal([
      'body.bogus',
      'body.digest',
      'body.name',
      'body.release_id',
    ]);
    expect(await files(release)).to.deep.equal([]);
  });

  it('are attached to what is published as a referrer, once', async () => {
    const release = await published();
    const report = {
      path: 'reports/eval.json',
      media_type: 'application/json',
      artifact_type: 'application/vnd.eval.v1',
    };
    expect(await faultsOf(add(release, 'x', report)), 'an artifact_type goes with uploads').to.deep.equal([
      'body.artifact_type',
    ]);
    const { artifact_type: _, ...plain } = report;
    const artifact = await told(add(release, '{"score":1}', plain), 201);
    expect(artifact).to.include({
      kind: 'attached',
      name: 'eval.json',
      path: 'reports/eval.json',
      media_type: 'application/json',
    });
    expect((await told(add(release, '{"score":1}', plain), 201)).id, 'the same file again').to.equal(artifact.id);
    const [referrer, ...others] = await referrers(release);
    expect(others).to.deep.equal([]);
    expect(referrer).to.include({ artifactType: 'application/json', mediaType: IMAGE });
    const manifest = (await (
      await server.request('GET', `/v2/${PLACE}/manifests/${referrer?.digest}`)
    ).json()) as Resource;
    expect(manifest.subject.digest).to.equal(release.digest);
    expect(manifest.layers[0]).to.deep.include({
      digest: artifact.digest,
      annotations: { [TITLE]: 'reports/eval.json' },
    });
    expect((await files(release)).map(({ kind }) => kind)).to.deep.equal(['layer', 'attached']);
    expect((await ask('DELETE', `/artifacts/${artifact.id}`)).status).to.equal(204);
    expect(await referrers(release)).to.deep.equal([]);
    expect((await ask('GET', `/artifacts/${artifact.id}`)).status).to.equal(404);
  });

  it('are answered alike to a repeated Idempotency-Key, also when their release is gone', async () => {
    const release = await draft();
    const digest = await pushBlob(server, PLACE, Buffer.from('once'));
    const input = { release_id: release.id, digest, name: 'once.bin' };
    const once = { headers: { 'idempotency-key': 'artifact-1' } };
    const first = await told(ask('POST', '/artifacts', input, once), 201);
    await told(ask('DELETE', `/releases/${release.id}`), 204);
    expect(await told(ask('POST', '/artifacts', input, once), 201)).to.deep.equal(first);
    expect(await faultsOf(ask('POST', '/artifacts', input))).to.deep.equal(['body.release_id']);
  });

  it('come with what a client attaches, and go with its manifest', async () => {
    const release = await published();
    const bytes = Buffer.from('signed off');
    await pushBlob(server, PLACE, bytes);
    const layer = { ...descriptorOf(bytes, 'text/plain'), annotations: { [TITLE]: 'signoff.txt' } };
    const subject = { mediaType: IMAGE, digest: release.digest as string, size: 1 };
    const manifest = imageOf(await pushConfig(server, PLACE), [layer], {
      subject,
      artifactType: 'application/vnd.signoff',
    });
    expect((await putManifest(server, PLACE, digestOf(manifest), manifest)).status).to.equal(201);
    const [, attached] = await files(release);
    expect(attached).to.include({ kind: 'attached', name: 'signoff.txt', digest: digestOf(bytes) });
    expect((await ask('GET', `/artifacts/${attached?.id}/download`)).bytes.toString()).to.equal('signed off');
    expect((await server.request('DELETE', `/v2/${PLACE}/manifests/${digestOf(manifest)}`)).status).to.equal(202);
    expect(await files(release)).to.have.lengthOf(1);
  });

  it('come to every release of the digest, also when they were attached first', async () => {
    const place = 'api-artifacts/shared';
    const digest = await pushRelease(server, place, 'v1', 'same');
    const one = await releaseOf(ask, place, 'v1');
    const blob = await pushBlob(server, place, Buffer.from('of both'));
    await told(ask('POST', '/artifacts', { release_id: one.id, digest: blob, name: 'both.txt' }), 201);
    expect(await pushRelease(server, place, 'v2', 'same')).to.equal(digest);
    const kinds = async (tag: string) => (await files(await releaseOf(ask, place, tag))).map(({ kind }) => kind);
    expect(await kinds('v2')).to.deep.equal(['layer', 'layer', 'attached']);
    await pushRelease(server, place, 'v2', 'another');
    expect(await kinds('v2')).to.deep.equal(['layer', 'layer']);
    expect(await kinds('v1')).to.deep.equal(['layer', 'layer', 'attached']);
  });

  it('are renamed and moved in drafts, and only described when they are published', async () => {
    const release = await draft();
    const [one, two] = [
      await told(add(release, '1', { path: 'a.bin' }), 201),
      await told(add(release, '2', { path: 'b.bin' }), 201),
    ];
    expect(
      await told(ask('PATCH', `/artifacts/${one.id}`, { path: 'sub/a.gguf', name: 'A', metadata: { a: 1 } })),
    ).to.deep.include({
      path: 'sub/a.gguf',
      name: 'A',
      format: 'gguf',
      metadata: { a: 1 },
    });
    for (const path of ['sub/a.gguf', 'sub', 'sub/a.gguf/x'])
      expect((await ask('PATCH', `/artifacts/${two.id}`, { path })).status, path).to.equal(409);
    expect((await ask('PATCH', `/artifacts/${two.id}`, { path: 'b.bin/deeper' })).status, 'its own place').to.equal(
      200,
    );
    expect(await faultsOf(ask('PATCH', `/artifacts/${two.id}`, { path: null }))).to.deep.equal(['body.path']);
    expect(await faultsOf(ask('PATCH', `/artifacts/${two.id}`, { path: 'C:/x', format: 'gguf' }))).to.deep.equal([
      'body.format',
      'body.path',
    ]);
    expect(await faultsOf(ask('PATCH', `/artifacts/${two.id}`, { format: 'gguf', kind: 'attached' }))).to.deep.equal([
      'body.format',
      'body.kind',
    ]);
    expect((await ask('PATCH', `/artifacts/${two.id}`, { digest: one.digest })).status, 'of a draft').to.equal(409);
    const put = await told(ask('PUT', `/artifacts/${one.id}`, { name: 'B' }));
    expect(put).to.deep.include({ name: 'B', path: 'sub/a.gguf', metadata: {} });

    const fixed = (await files(await published()))[0] ?? {};
    const others = [{ path: 'other' }, { media_type: 'text/plain' }, { path: null }];
    for (const input of [...others, { digest: one.digest }, { size_bytes: 1 + (fixed.size_bytes as number) }])
      expect((await ask('PATCH', `/artifacts/${fixed.id}`, input)).status, JSON.stringify(input)).to.equal(409);
    expect((await ask('DELETE', `/artifacts/${fixed.id}`)).status).to.equal(409);
    const described = await told(ask('PATCH', `/artifacts/${fixed.id}`, { name: 'described', metadata: { b: 2 } }));
    expect(described).to.deep.include({ name: 'described', metadata: { b: 2 }, path: fixed.path });
    expect((await ask('PUT', `/artifacts/${fixed.id}`, described)).status).to.equal(200);
  });

  it('take back what was read, also of layers that state no path', async () => {
    const tag = `v1.${++version}`;
    const bytes = Buffer.from('no title');
    await pushBlob(server, PLACE, bytes);
    const manifest = imageOf(await pushConfig(server, PLACE), [descriptorOf(bytes, 'application/octet-stream')]);
    expect((await putManifest(server, PLACE, tag, manifest)).status).to.equal(201);
    const [artifact] = await files(await releaseOf(ask, PLACE, tag));
    expect(artifact?.path).to.equal(null);
    for (const method of ['PUT', 'PATCH']) {
      const { updated_at: _, ...same } = await told(ask('GET', `/artifacts/${artifact?.id}`));
      expect((await ask(method, `/artifacts/${artifact?.id}`, same)).status, method).to.equal(200);
    }
  });

  it('are changed by who saw them last', async () => {
    const artifact = await told(add(await draft(), 'etag', { name: 'a' }), 201);
    const path = `/artifacts/${artifact.id}`;
    const etag = (await ask('GET', path)).headers.get('etag') ?? '';
    expect((await ask('GET', path, undefined, { headers: { 'if-none-match': etag } })).status).to.equal(304);
    const headers = { 'if-match': etag };
    expect((await ask('PATCH', path, { metadata: { a: 1 } }, { headers })).status).to.equal(200);
    for (const [method, body] of [
      ['PATCH', {}],
      ['PUT', { name: 'a' }],
      ['DELETE', undefined],
    ] as const)
      expect((await ask(method, path, body, { headers })).status, method).to.equal(412);
  });

  it('keep their bytes as long as a draft needs them', async () => {
    const artifact = await told(add(await draft(), 'kept by a draft', { name: 'a' }), 201);
    await expectError(await server.request('DELETE', `/v2/${PLACE}/blobs/${artifact.digest}`), 403, 'DENIED');
    expect(await blobStatus('HEAD', artifact.digest)).to.equal(200);
    expect((await ask('DELETE', `/artifacts/${artifact.id}`)).status).to.equal(204);
    expect(await blobStatus('DELETE', artifact.digest)).to.equal(202);
  });

  it('stay in order when one is taken away', async () => {
    const release = await draft();
    const [first] = [
      await told(add(release, 'o1', { name: 'first' }), 201),
      await told(add(release, 'o2', { name: 'second' }), 201),
      await told(add(release, 'o3', { name: 'third' }), 201),
    ];
    await told(ask('DELETE', `/artifacts/${first.id}`), 204);
    for (const name of ['fourth', 'fifth']) await told(add(release, name, { name }), 201);
    expect((await files(release)).map(({ name }) => name)).to.deep.equal(['second', 'third', 'fourth', 'fifth']);
  });

  it('take the right that each change needs', async () => {
    const release = await draft();
    const { id } = await told(add(release, 'rights', { name: 'a' }), 201);
    const digest = digestOf('rights');
    const reader = (await makeKey(server, [`${PLACE}=pull`])).text;
    const writer = (await makeKey(server, [`${PLACE}=pull,push`])).text;
    const stranger = (await makeKey(server, ['elsewhere/**=pull,push,delete'])).text;
    const upload = `/artifacts/upload?release_id=${release.id}&name=b`;
    for (const [method, path, body, ofReader, ofStranger] of [
      ['GET', `/artifacts/${id}`, undefined, 200, 404],
      ['GET', `/artifacts/${id}/download`, undefined, 200, 404],
      ['PATCH', `/artifacts/${id}`, {}, 403, 404],
      ['POST', '/artifacts', { release_id: release.id, digest, name: 'b' }, 403, 422],
      ['POST', upload, 'x', 403, 422],
      ['DELETE', `/artifacts/${id}`, undefined, 403, 404],
    ] as const) {
      expect((await ask(method, path, body, { key: reader })).status, `${method} ${path}`).to.equal(ofReader);
      expect((await ask(method, path, body, { key: stranger })).status, `${method} ${path}`).to.equal(ofStranger);
    }
    expect((await ask('DELETE', `/artifacts/${id}`, undefined, { key: writer })).status).to.equal(403);
    expect((await ask('POST', upload, 'x', { key: writer })).status).to.equal(201);
  });

  describe('that are downloaded', () => {
    const bytes = bytesOf('download', 100_000);
    let path: string;
    let id: string;
    before(async () => {
      await pushBlob(server, PLACE, bytes);
      const input = {
        release_id: (await draft()).id,
        digest: digestOf(bytes),
        name: 'model.gguf',
        media_type: 'application/x-gguf',
      };
      id = (await told(ask('POST', '/artifacts', input), 201)).id as string;
      path = `/artifacts/${id}/download`;
    });
    const get = (headers: Record<string, string> = {}) => ask('GET', path, undefined, { headers });

    it('come whole, with name and type', async () => {
      const { status, headers, bytes: came } = await get();
      expect(status).to.equal(200);
      expect(came.equals(bytes)).to.equal(true);
      expect(headers.get('content-type')).to.equal('application/x-gguf');
      expect(headers.get('content-length')).to.equal('100000');
      expect(headers.get('content-disposition')).to.equal('attachment; filename="model.gguf"');
      expect(headers.get('etag')).to.equal(`"${digestOf(bytes)}"`);
      expect(headers.get('accept-ranges')).to.equal('bytes');
      expect(headers.get('x-content-type-options')).to.equal('nosniff');
      const head = await ask('HEAD', path);
      expect([head.status, head.headers.get('content-length'), head.bytes.length]).to.deep.equal([200, '100000', 0]);
    });

    it('come by ranges', async () => {
      for (const [range, first, last] of [
        ['0-9', 0, 9],
        ['99990-', 99_990, 99_999],
        ['-10', 99_990, 99_999],
        ['5-200000', 5, 99_999],
      ] as const) {
        const part = await get({ range: `bytes=${range}` });
        expect(part.status, range).to.equal(206);
        expect(part.headers.get('content-range')).to.equal(`bytes ${first}-${last}/100000`);
        expect(part.bytes.equals(bytes.subarray(first, last + 1)), range).to.equal(true);
      }
      const several = await get({ range: 'bytes=0-9,50000-50009' });
      expect(several.status).to.equal(206);
      const parts = parseMultipart(several.headers.get('content-type'), several.bytes);
      expect(parts.map(({ contentType }) => contentType)).to.deep.equal(['application/x-gguf', 'application/x-gguf']);
      expect(parts[1]?.body.equals(bytes.subarray(50_000, 50_010))).to.equal(true);
      const refused = await get({ range: 'bytes=100000-' });
      expect([refused.status, refused.headers.get('content-range')]).to.deep.equal([416, 'bytes */100000']);
      const other = await get({ range: 'bytes=0-9', 'if-range': '"other"' });
      expect([other.status, other.bytes.length]).to.deep.equal([200, 100_000]);
      const same = await get({ range: 'bytes=0-9', 'if-range': `"${digestOf(bytes)}"` });
      expect([same.status, same.bytes.length]).to.deep.equal([206, 10]);
    });

    it('are not sent to who has them', async () => {
      const { status, bytes: none } = await get({ 'if-none-match': `"${digestOf(bytes)}"` });
      expect([status, none.length]).to.deep.equal([304, 0]);
    });

    it('have a name that no header breaks on', async () => {
      for (const [name, wanted] of [
        ['plain name.txt', 'attachment; filename="plain name.txt"'],
        ['a"b\\c;d.txt', `attachment; filename="a_b_c;d.txt"; filename*=UTF-8''a%22b%5Cc%3Bd.txt`],
        [
          "modèle (1)'*.gguf",
          `attachment; filename="mod_le (1)'*.gguf"; filename*=UTF-8''mod%C3%A8le%20%281%29%27%2A.gguf`,
        ],
        ['%41.txt', `attachment; filename="_41.txt"; filename*=UTF-8''%2541.txt`],
        ['🦙', `attachment; filename="__"; filename*=UTF-8''%F0%9F%A6%99`],
      ] as const) {
        await told(ask('PATCH', `/artifacts/${id}`, { name }));
        expect((await get({ range: 'bytes=0-0' })).headers.get('content-disposition'), name).to.equal(wanted);
      }
    });

    it('are not there for an unknown id', async () => {
      for (const unknown of [randomUUID(), 'x'])
        expect((await ask('GET', `/artifacts/${unknown}/download`)).status).to.equal(404);
    });
  });
});
