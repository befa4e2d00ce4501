import { expect } from 'chai';
import { onDatabase } from '../support/keys.js';
import type { TestServer } from '../support/server.js';
import { type Ask, asker, pushFiles, pushRelease, releaseOf, type Resource, told } from './api-scene.js';
import { descriptorOf, digestOf, IMAGE, INDEX, indexOf, putManifest } from './content.js';
import { sharedServer } from './shared-server.js';

describe('releases by push', () => {
  let server: TestServer;
  let ask: Ask;
  before(async () => {
    server = await sharedServer();
    ask = asker(server);
  });

  const untag = async (repository: string, reference: string) =>
    (await server.request('DELETE', `/v2/${repository}/manifests/${reference}`)).status;
  const tagsOf = async (model: string) =>
    ((await told(ask('GET', `/models/${encodeURIComponent(model)}/releases`))).items as Resource[]).map(
      ({ tag }) => tag,
    );

  it('are there with the tag, and say which model they are of, in new words and old ones', async () => {
    const digest = await pushRelease(server, 'api-pushed/one', 'v3.0-fp16');
    const model = await told(ask('GET', '/models/api-pushed%2Fone'));
    const release = await releaseOf(ask, 'api-pushed/one', 'v3.0-fp16');
    expect(release).to.deep.include({
      model_id: model.id,
      image_id: model.id,
      image_name: 'api-pushed/one',
      image_repository: 'api-pushed/one',
      version: 'v3.0',
      quantization: 'fp16',
      digest,
      media_type: IMAGE,
      status: 'published',
      release_notes: null,
      metadata: {},
      size_bytes: 128 + 2 + 2 - 2,
    });
    expect(release.facts).to.be.an('object');
    expect(await told(ask('GET', `/releases/${release.id}`))).to.deep.equal(release);
  });

  it('move with the tag: the same id, and the tag keeps its history', async () => {
    const first = await pushRelease(server, 'api-pushed/moved', 'v1-int8', 'first');
    const before = await releaseOf(ask, 'api-pushed/moved', 'v1-int8');
    await told(ask('PATCH', `/releases/${before.id}`, { release_notes: 'kept', status: 'deprecated' }));
    const second = await pushRelease(server, 'api-pushed/moved', 'v1-int8', 'second');
    const after = await releaseOf(ask, 'api-pushed/moved', 'v1-int8');
    expect(after).to.include({ id: before.id, digest: second, release_notes: 'kept', status: 'deprecated' });
    expect(after.created_at).to.equal(before.created_at);
    const events = await onDatabase(server, (database) =>
      database.query<{ previous: string | null; digest: string }>(
        `select e.previous, e.digest from tag_events e join repositories r on r.id = e.repository
          where r.name = 'api-pushed/moved' and e.name = 'v1-int8' order by e.id`,
      ),
    );
    expect(events.map(({ previous, digest }) => [previous, digest])).to.deep.equal([
      [null, first],
      [first, second],
    ]);
  });

  it('are one for all spellings of a tag, and mean the one that was set last', async () => {
    const old = await pushRelease(server, 'api-pushed/spelled', 'v3-fp16', 'old');
    const { id } = await releaseOf(ask, 'api-pushed/spelled', 'v3-fp16');
    const digest = await pushRelease(server, 'api-pushed/spelled', 'V3_FP16', 'new');
    expect(await tagsOf('api-pushed/spelled')).to.deep.equal(['V3_FP16']);
    expect(await releaseOf(ask, 'api-pushed/spelled', 'V3_FP16')).to.include({
      id,
      digest,
      version: 'V3',
      quantization: 'FP16',
    });
    expect(await untag('api-pushed/spelled', 'V3_FP16')).to.equal(202);
    expect(await releaseOf(ask, 'api-pushed/spelled', 'v3-fp16')).to.include({ id, digest: old });
    expect(await untag('api-pushed/spelled', 'v3-fp16')).to.equal(202);
    expect(await tagsOf('api-pushed/spelled')).to.deep.equal([]);
  });

  it('need neither a version nor a label, if they have the other', async () => {
    await pushRelease(server, 'api-pushed/parts', 'Q4_K_M');
    await pushRelease(server, 'api-pushed/parts', '2024.1');
    await pushRelease(server, 'api-pushed/parts', 'stable');
    expect(await releaseOf(ask, 'api-pushed/parts', 'Q4_K_M')).to.include({ version: '', quantization: 'Q4_K_M' });
    expect(await releaseOf(ask, 'api-pushed/parts', '2024.1')).to.include({ version: '2024.1', quantization: null });
    expect((await tagsOf('api-pushed/parts')).sort()).to.deep.equal(['2024.1', 'Q4_K_M']);
  });

  it('are there whatever a manifest calls itself, as much of it as a column holds', async () => {
    const long = `application/${'x'.repeat(300)}`;
    const files = { 'model.gguf': 'of a long name' };
    await pushFiles(server, 'api-pushed/long', 'v1-fp16', files, { artifactType: long });
    const { artifact_type } = await releaseOf(ask, 'api-pushed/long', 'v1-fp16');
    expect(artifact_type).to.equal(long.slice(0, 255));
  });

  it('are none under tags of tools, and of manifests that refer to another', async () => {
    const subject = await pushFiles(server, 'api-pushed/none', 'v1', { 'model.gguf': 'of none' });
    const more = { subject: descriptorOf(subject, IMAGE) };
    await pushFiles(server, 'api-pushed/none', 'v2-fp16', { 'report.json': '{}' }, more);
    await pushFiles(server, 'api-pushed/none', digestOf(subject).replace(':', '-'), { 'sig.json': '{}' });
    expect(await tagsOf('api-pushed/none')).to.deep.equal(['v1']);
    // A tag that was a release is none any more when it comes to mean such a manifest.
    await pushFiles(server, 'api-pushed/none', 'v1', { 'other.json': '{}' }, more);
    expect(await tagsOf('api-pushed/none')).to.deep.equal([]);
  });

  it('may be indexes, whose images have the files', async () => {
    const one = await pushFiles(server, 'api-pushed/index', undefined, { 'model.safetensors': 'one' });
    const two = await pushFiles(server, 'api-pushed/index', undefined, { 'model.gguf': 'two' });
    await pushRelease(server, 'api-pushed/index', 'v0');
    const index = indexOf([descriptorOf(one, IMAGE), descriptorOf(two, IMAGE)]);
    expect((await putManifest(server, 'api-pushed/index', 'v1', index, INDEX)).status).to.equal(201);
    const release = await releaseOf(ask, 'api-pushed/index', 'v1');
    expect(release).to.include({ media_type: INDEX, digest: digestOf(index) });
    const { items } = await told(ask('GET', `/releases/${release.id}/artifacts`));
    expect(items.map(({ path }: Resource) => path).sort()).to.deep.equal(['model.gguf', 'model.safetensors']);
  });

  it('go with the tag and with the manifest, but stay as withdrawn what has run', async () => {
    const digest = await pushRelease(server, 'api-pushed/gone', 'v1', 'same');
    await pushRelease(server, 'api-pushed/gone', 'v2', 'same');
    await pushRelease(server, 'api-pushed/gone', 'v3');
    const [one, three] = [await releaseOf(ask, 'api-pushed/gone', 'v1'), await releaseOf(ask, 'api-pushed/gone', 'v3')];
    const { id } = await told(ask('POST', '/deployments', { release_id: one.id, environment: 'pushed' }), 201);
    expect((await ask('DELETE', `/deployments/${id}`)).status).to.equal(204);
    expect(await untag('api-pushed/gone', 'v3')).to.equal(202);
    expect((await ask('GET', `/releases/${three.id}`)).status).to.equal(404);
    expect(await untag('api-pushed/gone', digest)).to.equal(202);
    expect(await tagsOf('api-pushed/gone')).to.deep.equal(['v1']);
    expect(await told(ask('GET', `/releases/${one.id}`))).to.include({ status: 'withdrawn', digest });
    expect((await ask('GET', `/releases/${one.id}/manifest`)).status).to.equal(404);
    // What no tag means can't be called published.
    expect((await ask('PATCH', `/releases/${one.id}`, { status: 'published' })).status).to.equal(409);
    const again = await pushRelease(server, 'api-pushed/gone', 'v1', 'again');
    expect(await told(ask('GET', `/releases/${one.id}`))).to.include({ status: 'published', digest: again });
  });

  it('do not move in an immutable model; aliases do', async () => {
    const digest = await pushRelease(server, 'api-pushed/fixed', 'v1');
    await pushRelease(server, 'api-pushed/fixed', 'prod', 'v1');
    const model = await told(ask('PATCH', '/models/api-pushed%2Ffixed', { immutable: true }));
    const other = await pushFiles(server, 'api-pushed/fixed', undefined, { 'model.gguf': 'other' });
    for (const tag of ['v1', 'V1']) {
      const refused = await putManifest(server, 'api-pushed/fixed', tag, other);
      const text = await refused.text();
      expect(refused.status, text).to.equal(403);
      expect(JSON.parse(text).errors[0].code).to.equal('DENIED');
      expect(text).to.include(digest);
    }
    expect((await server.request('GET', '/v2/api-pushed/fixed/manifests/V1')).status).to.equal(404);
    const release = await releaseOf(ask, 'api-pushed/fixed', 'v1');
    const refused = await told(ask('PATCH', `/releases/${release.id}`, { digest: digestOf(other) }), 409);
    expect(refused.conflicts[0]).to.include({ type: 'release', id: release.id, digest });
    expect((await releaseOf(ask, 'api-pushed/fixed', 'v1')).digest).to.equal(digest);
    await pushRelease(server, 'api-pushed/fixed', 'v1');
    expect((await putManifest(server, 'api-pushed/fixed', 'prod', other)).status).to.equal(201);
    expect((await told(ask('GET', `/models/${model.id}/aliases/prod`))).digest).to.equal(digestOf(other));
  });

  it('make a model that is named after the repository, or that and a number', async () => {
    for (const [name, place] of [
      ['api-pushed/taken', 'api-pushed/x'],
      ['api-pushed/taken-2', 'api-pushed/y'],
    ])
      await told(ask('POST', '/models', { name, storage_path: place }), 201);
    await pushRelease(server, 'api-pushed/taken', 'v1');
    const release = await releaseOf(ask, 'api-pushed/taken-3', 'v1');
    expect(release).to.include({ image_name: 'api-pushed/taken-3', image_repository: 'api-pushed/taken' });
  });

  it('make no model of what is none', async () => {
    await pushFiles(server, 'api-pushed/plain', 'v1-fp16', { 'notes.txt': 'no weights' });
    expect((await ask('GET', '/models/api-pushed%2Fplain')).status).to.equal(404);
  });
});
