import { createHash } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { expectSameFile, expectSameTree } from './support/bytes.js';
import { writeModels } from './support/models.js';
import { ask } from './support/registry.js';
import { scenario } from './support/scenario.js';

const plain = '--plain-http';

/** A resource of the metadata API, as far as this walk looks at it. */
interface Resource {
  readonly id: string;
  readonly tag: string;
  readonly digest: string;
  readonly status: string;
  readonly name: string;
  readonly kind: string;
  readonly release_id: string;
}

describe('a release manager', () => {
  const here = scenario('walk', ['oras', 'modctl', 'oras-py']);
  const oras = async (args: string[], cwd = here().folder) => (await here().run('oras', args, { cwd })).stdout;
  const model = () => `${here().repository}/llama`;
  let weights: string;

  /** A request to the metadata API, with JSON. */
  async function api<Body = Resource>(method: string, path: string, body?: unknown, status = 200): Promise<Body> {
    const headers: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
    const sent = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const answer = await ask(method, `/api/v1${path}`, headers, sent);
    const text = await answer.text();
    expect(answer.status, `${method} ${path}: ${text}`).to.equal(status);
    return (text === '' ? undefined : JSON.parse(text)) as Body;
  }
  const releases = async () => {
    const path = `/models/${encodeURIComponent(model())}/releases`;
    return (await api<{ items: Resource[] }>('GET', path)).items;
  };
  const release = async (tag: string) => {
    const found = (await releases()).find((one) => one.tag === tag);
    if (!found) throw new Error(`there is no release ${tag}`);
    return found;
  };
  const latest = (more = '') => api('GET', `/releases/latest?model=${encodeURIComponent(model())}${more}`);
  const push = (tag: string, file: string) =>
    oras(['push', plain, `${here().at('llama')}:${tag}`, file, 'config.json'], weights);

  before(async () => {
    await here().writeDockerLogin();
    weights = here().path('weights');
    await writeModels(here(), weights);
  });

  it('sees what oras pushed as releases of a model', async () => {
    await push('v3.0-fp16', 'model.safetensors');
    await push('v3.0-int8', 'model-f16.gguf');
    expect((await releases()).map((one) => one.tag).sort()).to.deep.equal(['v3.0-fp16', 'v3.0-int8']);
    const { items } = await api<{ items: (Resource & { size_bytes: number; format: string })[] }>(
      'GET',
      `/releases/${(await release('v3.0-fp16')).id}/artifacts`,
    );
    const bytes = await readFile(`${weights}/model.safetensors`);
    expect(items[0]).to.include({
      name: 'model.safetensors',
      size_bytes: bytes.length,
      format: 'safetensors',
      digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
    });
  });

  it('is told that a version and quantization is there already', async () => {
    const { id } = await api('GET', `/models/${encodeURIComponent(model())}`);
    const taken = await api<{ conflicts: Resource[] }>(
      'POST',
      '/releases',
      { model_id: id, version: 'V3.0', quantization: 'INT8' },
      409,
    );
    expect(taken.conflicts[0]?.id).to.equal((await release('v3.0-int8')).id);
  });

  it('deploys, and what runs can be deleted neither by the API nor by oras', async () => {
    const { id } = await release('v3.0-int8');
    await api('POST', '/deployments', { release_id: id, environment: here().repository.slice(-8) }, 201);
    await api('DELETE', `/releases/${id}`, undefined, 409);
    const args = ['manifest', 'delete', plain, '--force', `${here().at('llama')}:v3.0-int8`];
    expect(await here().refused('oras', args)).to.match(/is deployed/);
  });

  it('deploys the next version, and goes back', async () => {
    const environment = here().repository.slice(-8);
    await writeFile(`${weights}/config.json`, '{"model_type":"llama","torch_dtype":"int8"}\n');
    await push('v3.1-int8', 'model-f16.gguf');
    await push('v3.2-rc1-int8', 'model-f16.gguf');
    expect((await latest()).tag).to.equal('v3.1-int8');
    expect((await latest('&quantization=FP16')).tag).to.equal('v3.0-fp16');
    const { id } = await api('POST', '/deployments', { release_id: (await latest()).id, environment }, 201);
    const back = await api('POST', `/deployments/${id}/rollback`);
    expect(back.release_id).to.equal((await release('v3.0-int8')).id);
    const current = await api<{ items: Resource[] }>('GET', `/environments/${environment}/current`);
    expect(current.items.map((one) => one.tag)).to.deep.equal(['v3.0-int8']);
  });

  it('attaches a report, which oras discovers, and downloads it', async () => {
    const report = Buffer.from('{"accuracy":0.97}\n');
    const { id } = await release('v3.1-int8');
    const path = `/api/v1/artifacts/upload?release_id=${id}&name=report.json&media_type=application/json&artifact_type=application/vnd.example.report`;
    const answer = await ask('POST', path, { 'content-type': 'application/octet-stream' }, report);
    expect(answer.status).to.equal(201);
    const artifact = (await answer.json()) as Resource;
    expect(artifact.kind).to.equal('attached');
    const subject = `${here().at('llama')}:v3.1-int8`;
    const found = JSON.parse(await oras(['discover', plain, subject, '--format', 'json'])) as {
      referrers: { digest: string; artifactType: string }[];
    };
    expect(found.referrers.map((one) => one.artifactType)).to.deep.equal(['application/vnd.example.report']);
    const pulled = `${here().at('llama')}@${found.referrers[0]?.digest}`;
    await oras(['pull', plain, pulled, '-o', here().path('report')]);
    expect(await readFile(here().path('report', 'report.json'))).to.deep.equal(report);
    const download = await ask('GET', `/api/v1/artifacts/${artifact.id}/download`);
    expect(Buffer.from(await download.arrayBuffer())).to.deep.equal(report);
  });

  it('publishes a draft, which oras and modctl pull byte for byte', async () => {
    const { id } = await api('GET', `/models/${encodeURIComponent(model())}`);
    const draft = await api('POST', '/releases', { model_id: id, version: 'v4.0', quantization: 'fp16' }, 201);
    for (const file of ['model.safetensors', 'model-f16.gguf', 'config.json']) {
      const form = new FormData();
      form.set('release_id', draft.id);
      form.set('path', file === 'config.json' ? file : `weights/${file}`);
      form.set('file', new Blob([await readFile(`${weights}/${file}`)]), file);
      // What fetch would send, so that it goes over TLS, too.
      const request = new Request('http://form.test/', { method: 'POST', body: form });
      const headers = { 'content-type': request.headers.get('content-type') ?? '' };
      const bytes = Buffer.from(await request.arrayBuffer());
      expect((await ask('POST', '/api/v1/artifacts/upload', headers, bytes)).status).to.equal(201);
    }
    expect((await api('POST', `/releases/${draft.id}/publish`)).status).to.equal('published');
    const target = `${here().at('llama')}:v4.0-fp16`;
    await oras(['pull', plain, target, '-o', here().path('by-oras')]);
    const extract = ['--extract-from-remote', '--extract-dir', here().path('by-modctl'), '--no-progress'];
    const places = ['--storage-dir', here().path('store'), '--log-dir', here().path('logs')];
    await here().run('modctl', ['pull', plain, target, ...extract, ...places]);
    await expectSameTree(here().path('by-modctl'), here().path('by-oras'));
    for (const file of ['weights/model.safetensors', 'weights/model-f16.gguf', 'config.json'])
      await expectSameFile(here().path('by-oras', file), `${weights}/${file.replace('weights/', '')}`);
  });

  it('moves an alias, and oras pulls what it means', async () => {
    const alias = `/models/${encodeURIComponent(model())}/aliases/stable`;
    await api('PUT', alias, { release_id: (await release('v3.0-fp16')).id }, 201);
    const moved = await release('v4.0-fp16');
    await api('PUT', alias, { release_id: moved.id });
    const resolved = await oras(['resolve', plain, `${here().at('llama')}:stable`]);
    expect(resolved.trim()).to.equal(moved.digest);
    const { items } = await api<{ items: Resource[] }>('GET', `${alias}/history`);
    expect(items).to.have.length(2);
  });

  it('finds a second push of another digest refused where releases are immutable', async () => {
    await api('PATCH', `/models/${encodeURIComponent(model())}`, { immutable: true });
    const { digest } = await release('v3.0-fp16');
    await rename(`${weights}/model-f16.gguf`, `${weights}/other.gguf`);
    const args = ['push', plain, `${here().at('llama')}:v3.0-fp16`, 'other.gguf'];
    expect(await here().refused('oras', args, { cwd: weights })).to.contain(digest);
    expect((await release('v3.0-fp16')).digest).to.equal(digest);
  });

  it('reads all of it in the record', async () => {
    const { items } = await api<{ items: { action: string }[] }>(
      'GET',
      `/audit-logs?repository=${encodeURIComponent(model())}&limit=1000`,
    );
    const counts = new Map<string, number>();
    for (const { action } of items) counts.set(action, (counts.get(action) ?? 0) + 1);
    expect(Object.fromEntries([...counts].filter(([action]) => !action.startsWith('blob.')))).to.deep.equal({
      'manifest.push': 4,
      'deployment.create': 2,
      'deployment.rollback': 1,
      'artifact.create': 4,
      'release.create': 1,
      'release.publish': 1,
      'alias.set': 2,
      'model.update': 1,
    });
  });
});
