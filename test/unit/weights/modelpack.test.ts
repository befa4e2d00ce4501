import { expect } from 'chai';
import { type Digest, digestOf } from '../../../src/oci/digest.js';
import { parseManifest } from '../../../src/oci/manifest.js';
import { type PackedFacts, type PackedFile, buildModelPack } from '../../../src/weights/modelpack.js';
import { factsOf, filesOf, isModelLike, readConfig } from '../../../src/weights/packaging.js';
import { readTag } from '../../../src/weights/tag.js';
import { expectFailure } from '../oci/failure.js';
import { encode, limits } from '../oci/samples.js';

const file = (path: string, more: Partial<PackedFile> = {}): PackedFile => {
  const bytes = encode(path);
  return { path, digest: digestOf('sha256', bytes), size: bytes.length, ...more };
};
const configOf = (files: PackedFile[], facts: PackedFacts = {}) =>
  JSON.parse(Buffer.from(buildModelPack(files, facts).config).toString());
const kindOf = (path: string, mediaType?: string): string | undefined => {
  const [layer] = buildModelPack([file(path, mediaType === undefined ? {} : { mediaType })]).layers;
  return /^application\/vnd\.cncf\.model\.(.+)\.v1\.raw$/.exec(layer?.mediaType ?? '')?.[1];
};

describe('weights/modelpack', () => {
  const files = [file('model.safetensors'), file('conf/config.json'), file('README.md')];
  const facts: PackedFacts = {
    name: 'tiny',
    version: 'v3.0',
    quantization: 'fp16',
    parameters: 7_615_616_512,
    architecture: 'transformer',
    family: 'llama',
    licenses: ['MIT'],
    created: new Date('2024-05-06T07:08:09.000Z'),
  };

  it('writes a config with the fields of the schema, and the digests of the files', () => {
    expect(configOf(files, facts)).to.deep.equal({
      descriptor: {
        createdAt: '2024-05-06T07:08:09.000Z',
        family: 'llama',
        name: 'tiny',
        version: 'v3.0',
        licenses: ['MIT'],
      },
      modelfs: { type: 'layers', diffIds: files.map(({ digest }) => digest) },
      config: { architecture: 'transformer', format: 'safetensors', paramSize: '7.6B', precision: 'fp16' },
    });
    expect(configOf([file('README.md')])).to.deep.equal({
      descriptor: {},
      modelfs: { type: 'layers', diffIds: [file('README.md').digest] },
      config: {},
    });
  });

  it('writes a layer a file, with its path for modctl and its title for oras', () => {
    const { layers, configDescriptor, config, artifactType, manifest } = buildModelPack(files, facts);
    expect(layers).to.deep.equal(
      files.map(({ path, digest, size }, index) => ({
        mediaType: `application/vnd.cncf.model.${['weight', 'weight.config', 'doc'][index]}.v1.raw`,
        digest,
        size,
        annotations: { 'org.cncf.model.filepath': path, 'org.opencontainers.image.title': path },
      })),
    );
    const parsed = parseManifest(manifest, undefined, limits);
    expect(parsed).to.deep.include({ artifactType, layers, config: configDescriptor });
    expect(parsed.annotations).to.deep.equal({ 'org.opencontainers.image.created': '2024-05-06T07:08:09.000Z' });
    expect(configDescriptor.digest).to.equal(digestOf('sha256', config));
    expect(Buffer.from(buildModelPack(files, facts).manifest).equals(manifest)).to.equal(true);
  });

  it('is read back as what it was built of', () => {
    const { manifest, config } = buildModelPack(files, facts);
    const parsed = parseManifest(manifest, undefined, limits);
    expect(isModelLike(parsed)).to.equal(true);
    const read = filesOf(parsed).map(({ path, digest, size }) => ({ path, digest, size }));
    expect(read).to.deep.equal(files);
    const found = factsOf(parsed, readConfig(config), readTag('v3.0-FP16'));
    const values = Object.entries(found).map(([name, fact]) => [name, typeof fact === 'string' ? fact : fact.value]);
    expect(Object.fromEntries(values)).to.deep.equal({
      packaging: 'modelpack',
      name: 'tiny',
      version: 'v3.0',
      family: 'llama',
      architecture: 'transformer',
      parameters: '7.6B',
      quantization: 'fp16',
      precision: 'fp16',
      format: 'safetensors',
      license: 'MIT',
    });
    expect(JSON.stringify(found)).not.to.contain('conflict');
  });

  for (const [path, kind] of [
    ['model-00001-of-00002.safetensors', 'weight'],
    ['a/model.GGUF', 'weight'],
    ['data.bin', 'weight'],
    ['model.safetensors.index.json', 'weight.config'],
    ['tokenizer.model', 'weight.config'],
    ['vocab.txt', 'weight.config'],
    ['chat_template.jinja', 'weight.config'],
    ['LICENSE', 'doc'],
    ['docs/picture.PNG', 'doc'],
    ['notes.txt', 'doc'],
    ['modeling.py', 'code'],
    ['requirements.txt', 'code'],
    ['train.parquet', 'dataset'],
    ['data/train.jsonl', 'dataset'],
  ] as const) {
    it(`takes ${path} for ${kind}, by its name`, () => {
      expect(kindOf(path)).to.equal(kind);
      expect(buildModelPack([file(path)]).layers[0]?.annotations).not.to.have.property(
        'org.cncf.model.file.mediatype.untested',
      );
    });
  }

  it('takes what the name does not tell for weights, and says that this is untested', () => {
    const [layer] = buildModelPack([file('shard.0')]).layers;
    expect(kindOf('shard.0')).to.equal('weight');
    expect(layer?.annotations).to.include({ 'org.cncf.model.file.mediatype.untested': 'true' });
  });

  it("keeps a stated type if it is ModelPack's for a file as it is", () => {
    expect(kindOf('README.md', 'application/vnd.cncf.model.dataset.v1.raw')).to.equal('dataset');
    expect(kindOf('README.md', 'application/vnd.cncf.model.dataset.v1.tar')).to.equal('doc');
    expect(kindOf('README.md', 'text/markdown')).to.equal('doc');
  });

  for (const [quantization, field] of [
    ['fp16', 'precision'],
    ['BF16', 'precision'],
    ['int8', 'precision'],
    ['fp8_e4m3', 'precision'],
    ['awq', 'quantization'],
    ['Q4_K_M', 'quantization'],
    ['nf4', 'quantization'],
  ] as const) {
    it(`writes ${quantization} as ${field}`, () => {
      expect(configOf(files, { quantization }).config[field]).to.equal(quantization);
    });
  }

  it('writes sizes with one decimal', () => {
    const sizes = [1e12, 7e9, 7.615e9, 950e6, 999.96e6, 135e6, 494_032_768, 12_345, 40].map(
      (parameters) => configOf(files, { parameters }).config.paramSize,
    );
    expect(sizes).to.deep.equal(['1T', '7B', '7.6B', '950M', '1000M', '135M', '494M', '12.3K', '0.1K']);
  });

  it('refuses paths that leave the folder, and files that lie on or in each other', () => {
    for (const path of [
      '',
      '/etc/passwd',
      '../x',
      'a/../b',
      './a',
      'a/',
      'a//b',
      'a\\b',
      'a\nb',
      'C:a',
      'x'.repeat(1025),
    ]) {
      expectFailure(() => buildModelPack([file('a.gguf'), file(path)]), 'ManifestInvalid', /^files\[1\]\.path is not/);
    }
    expectFailure(() => buildModelPack([file('a'), file('a')]), 'ManifestInvalid', /^files\[1\]\.path is that/);
    expectFailure(() => buildModelPack([file('a/b/c'), file('a')]), 'ManifestInvalid', /^files\[0\]\.path lies/);
    expectFailure(() => buildModelPack([]), 'ManifestInvalid', /^files is empty/);
    expectFailure(() => buildModelPack([file('a', { digest: 'x' as Digest })]), 'ManifestInvalid', /digest/);
    expect(buildModelPack([file('a/b'), file('ab'), file('a.b')]).layers).to.have.length(3);
  });
});
