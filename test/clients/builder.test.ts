import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { expect } from 'chai';
import type { Descriptor } from '../../src/oci/descriptor.js';
import { EMPTY_CONFIG, EMPTY_CONFIG_BYTES, buildManifest, describeBytes } from '../../src/oci/manifest-builder.js';
import { type Manifest, parseManifest } from '../../src/oci/manifest.js';
import { OCI_IMAGE_MANIFEST } from '../../src/oci/media-types.js';
import { type PackedFile, buildModelPack } from '../../src/weights/modelpack.js';
import { factsOf, filesOf, packagingOf, readConfig } from '../../src/weights/packaging.js';
import { readTag } from '../../src/weights/tag.js';
import { expectSameTree, writeSeeded } from './support/bytes.js';
import { ask } from './support/registry.js';
import { scenario } from './support/scenario.js';

const plain = '--plain-http';
const limits = { maxBytes: 4 * 1024 * 1024, maxDepth: 16, maxDescriptors: 1000 };
const paths = [
  'model.safetensors',
  'tiny-Q4_K_M.gguf',
  'tokenizer/vocab.txt',
  'README.md',
  'a <b> & "c"é.bin',
  'empty.bin',
];

describe('the manifest library', () => {
  const here = scenario('builder', ['oras', 'modctl']);
  const oras = async (...args: string[]): Promise<string> => (await here().run('oras', args)).stdout;
  const modctl = (...args: string[]) =>
    here().run('modctl', [
      ...args,
      '--storage-dir',
      here().path('store'),
      '--log-dir',
      here().path('logs'),
      '--no-progress',
    ]);

  before(async () => {
    await here().writeDockerLogin();
    for (const [index, path] of paths.entries()) {
      const file = here().path('model', path);
      await mkdir(dirname(file), { recursive: true });
      if (path === 'empty.bin') await writeFile(file, '');
      else await writeSeeded(file, `builder-${index}`, 100_000 * index + 1);
    }
  });

  const put = async (path: string, mediaType: string, bytes: Uint8Array): Promise<void> => {
    const answer = await ask('PUT', path, { 'content-type': mediaType }, bytes);
    expect(answer.status, await answer.text()).to.equal(201);
  };
  const pushBlob = async (repository: string, bytes: Uint8Array): Promise<Descriptor> => {
    const descriptor = describeBytes('application/octet-stream', bytes);
    const session = await ask('POST', `/v2/${here().repository}/${repository}/blobs/uploads/`);
    const location = new URL(session.headers.get('location') ?? '', session.url);
    location.searchParams.set('digest', descriptor.digest);
    await put(location.pathname + location.search, 'application/octet-stream', bytes);
    return descriptor;
  };
  const pushManifest = (repository: string, reference: string, bytes: Uint8Array): Promise<void> =>
    put(`/v2/${here().repository}/${repository}/manifests/${reference}`, OCI_IMAGE_MANIFEST, bytes);
  const fetchManifest = async (reference: string): Promise<{ bytes: Buffer; manifest: Manifest }> => {
    const bytes = Buffer.from(await oras('manifest', 'fetch', plain, here().at(reference)));
    return { bytes, manifest: parseManifest(bytes, undefined, limits) };
  };
  const fetchConfig = async (repository: string, { config }: Manifest): Promise<unknown> => {
    const answer = await ask('GET', `/v2/${here().repository}/${repository}/blobs/${config?.digest}`);
    return readConfig(new Uint8Array(await answer.arrayBuffer()));
  };

  it('builds a model that oras and modctl pull byte for byte', async () => {
    const files: PackedFile[] = [];
    for (const path of paths) {
      const { digest, size } = await pushBlob('built', await readFile(here().path('model', path)));
      files.push({ path, digest, size });
    }
    const created = new Date('2024-05-06T07:08:09Z');
    const facts = { name: 'tiny', version: 'v3.0', quantization: 'fp16', parameters: 7e9, created };
    const model = buildModelPack(files, facts);
    expect((await pushBlob('built', model.config)).digest).to.equal(model.configDescriptor.digest);
    await pushManifest('built', 'v3.0-fp16', model.manifest);

    await oras('pull', plain, here().at('built:v3.0-fp16'), '-o', here().path('by-oras'));
    await expectSameTree(here().path('by-oras'), here().path('model'));
    const target = here().at('built:v3.0-fp16');
    await modctl('pull', plain, target, '--extract-from-remote', '--extract-dir', here().path('by-modctl'));
    await expectSameTree(here().path('by-modctl'), here().path('model'));

    const { bytes, manifest } = await fetchManifest('built:v3.0-fp16');
    expect(bytes.equals(model.manifest)).to.equal(true);
    expect(manifest.layers).to.deep.equal(model.layers);
    const inspected = (await modctl('inspect', '--remote', plain, target)).stdout;
    expect(JSON.parse(inspected)).to.include({ Name: 'tiny', Precision: 'fp16', ParamSize: '7B', Format: 'gguf' });
  });

  it('builds an artifact without a config, and one that is attached to it, which oras discovers', async () => {
    const readme = await readFile(here().path('model', 'README.md'));
    const blob = await pushBlob('artifact', readme);
    await pushBlob('artifact', EMPTY_CONFIG_BYTES);
    const layers = [{ ...blob, annotations: { 'org.opencontainers.image.title': 'docs/README.md' } }];
    const artifact = buildManifest({ artifactType: 'application/vnd.example', layers });
    await pushManifest('artifact', 'v1', artifact);
    await oras('pull', plain, here().at('artifact:v1'), '-o', here().path('pulled'));
    expect((await readFile(here().path('pulled', 'docs', 'README.md'))).equals(readme)).to.equal(true);

    const subject = describeBytes(OCI_IMAGE_MANIFEST, artifact);
    const report = buildManifest({ artifactType: 'application/vnd.example.report', layers, subject });
    const { digest } = describeBytes(OCI_IMAGE_MANIFEST, report);
    await pushManifest('artifact', digest, report);
    const { referrers } = JSON.parse(await oras('discover', plain, here().at('artifact:v1'), '--format', 'json'));
    expect(referrers).to.have.length(1);
    expect(referrers[0]).to.include({ digest, artifactType: 'application/vnd.example.report' });
  });

  it('builds what oras pushed again, to the same bytes', async () => {
    const folder = { cwd: here().path('model') };
    const type = ['--artifact-type', 'application/vnd.Example.Model'];
    const annotations = ['--annotation', 'a=<1> & "2"', '--annotation', '10=x', '--annotation', '9=é'];
    const push = (tag: string, ...more: string[]) =>
      here().run('oras', ['push', plain, here().at(`pushed:${tag}`), ...more, 'README.md', 'tokenizer/'], folder);
    await push('plain', ...type, ...annotations);
    await push('config', '--config', 'tokenizer/vocab.txt:application/vnd.example.config');
    await here().run('oras', ['attach', plain, here().at('pushed:plain'), ...type, 'README.md'], folder);
    await here().run('oras', ['push', plain, here().at('pushed:none'), ...type], folder);

    const { referrers } = JSON.parse(await oras('discover', plain, here().at('pushed:plain'), '--format', 'json'));
    for (const reference of [':plain', ':config', ':none', `@${referrers[0].digest}`]) {
      const { bytes, manifest } = await fetchManifest(`pushed${reference}`);
      const { subject, artifactType } = JSON.parse(bytes.toString());
      const { config, layers, annotations: own } = manifest;
      if (!config) throw new Error('oras writes images');
      if (reference !== ':config') expect(config).to.deep.equal(EMPTY_CONFIG);
      const rebuilt = buildManifest({
        config,
        layers,
        ...(artifactType && { artifactType }),
        ...(subject && { subject }),
        ...(own && { annotations: own }),
      });
      expect(Buffer.from(rebuilt).toString()).to.equal(bytes.toString());
    }
    const files = filesOf((await fetchManifest('pushed:plain')).manifest);
    expect(files.map(({ path, format }) => ({ path, format }))).to.deep.equal([
      { path: 'README.md', format: 'markdown' },
      { path: 'tokenizer', format: 'tar+gzip' },
    ]);
  });

  it('reads what oras and modctl say of a model', async () => {
    const folder = { cwd: here().path('model') };
    await here().run('oras', ['push', plain, here().at('said:v1-Q8_0'), 'tiny-Q4_K_M.gguf', 'README.md'], folder);
    const pushed = (await fetchManifest('said:v1-Q8_0')).manifest;
    expect(packagingOf(pushed)).to.equal('files');
    expect(factsOf(pushed, undefined, readTag('v1-Q8_0')).quantization).to.deep.equal({
      value: 'Q4_K_M',
      source: 'filename',
      conflict: [{ source: 'tag', value: 'Q8_0' }],
    });

    const lines = [
      'NAME tiny',
      'ARCH transformer',
      'FAMILY llama',
      'FORMAT gguf',
      'PARAMSIZE 7b',
      'QUANTIZATION Q4_K_M',
    ];
    const modelfile = [...lines, 'CONFIG tokenizer/vocab.txt', 'MODEL tiny-Q4_K_M.gguf', 'DOC README.md', ''].join(
      '\n',
    );
    await writeFile(here().path('Modelfile'), modelfile);
    const target = here().at('said:7b-q4_k_m');
    await modctl('build', '-t', target, '-f', here().path('Modelfile'), '--output-remote', plain, here().path('model'));
    const { manifest } = await fetchManifest('said:7b-q4_k_m');
    const config = await fetchConfig('said', manifest);
    expect(factsOf(manifest, config, readTag('7b-q4_k_m'))).to.deep.equal({
      packaging: 'modelpack',
      name: { value: 'tiny', source: 'config' },
      family: { value: 'llama', source: 'config' },
      architecture: { value: 'transformer', source: 'config' },
      parameters: { value: '7b', source: 'config' },
      quantization: { value: 'Q4_K_M', source: 'config' },
      format: { value: 'gguf', source: 'config' },
    });
    const built = filesOf(manifest, config).map(({ path }) => path);
    expect(built.sort()).to.deep.equal(['README.md', 'tiny-Q4_K_M.gguf', 'tokenizer/vocab.txt']);
  });
});
