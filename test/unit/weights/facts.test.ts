import { expect } from 'chai';
import fc from 'fast-check';
import { type Manifest, parseManifest } from '../../../src/oci/manifest.js';
import { OCI_IMAGE_MANIFEST } from '../../../src/oci/media-types.js';
import { type Facts, factsOf } from '../../../src/weights/packaging.js';
import { labelOfFileType, lastQuantization } from '../../../src/weights/quantization.js';
import { readTag } from '../../../src/weights/tag.js';
import { expectQuick } from '../oci/failure.js';
import { describeContent, encode, imageIndex, limits } from '../oci/samples.js';
import { TITLE, docker, layer, manifestOf, modelKit, modelPack, ollama, titled } from './samples.js';

const facts = (manifest: Manifest, config: unknown, tag = 'latest'): Facts => factsOf(manifest, config, readTag(tag));
const config = (value: string) => ({ value, source: 'config' });

describe('weights/facts', () => {
  it("reads ModelPack's config", () => {
    const said = {
      descriptor: { name: 'xyz-3-8B', version: '3.1', family: 'xyz3', licenses: ['Apache-2.0', 'MIT', 5] },
      config: { architecture: 'transformer', format: 'safetensors', paramSize: '8b', precision: 'fp16' },
      modelfs: { type: 'layers', diffIds: [] },
    };
    expect(facts(modelPack(), said, 'v3.1-fp16')).to.deep.equal({
      packaging: 'modelpack',
      name: config('xyz-3-8B'),
      version: config('3.1'),
      family: config('xyz3'),
      architecture: config('transformer'),
      parameters: config('8b'),
      quantization: config('fp16'),
      precision: config('fp16'),
      format: config('safetensors'),
      license: config('Apache-2.0 AND MIT'),
    });
  });

  it('takes the technique of ModelPack before its precision, and a tag that says either for agreeing', () => {
    const said = { config: { quantization: 'awq', precision: 'int4' } };
    for (const tag of ['v1-awq', 'v1-INT4', 'v1']) {
      expect(facts(modelPack(), said, tag).quantization, tag).to.deep.equal(config('awq'));
    }
    expect(facts(modelPack(), said, 'v1-gptq').quantization).to.deep.equal({
      ...config('awq'),
      conflict: [{ source: 'tag', value: 'gptq' }],
    });
  });

  it("reads Docker's config, and takes the part of its quantization that the header agrees with", () => {
    const gguf = { 'general.file_type': '15', 'general.name': 'Tiny', 'general.license': 'mit' };
    const said = { config: { format: 'gguf', quantization: 'IQ2_XXS/Q4_K_M', parameters: '7.62 B', gguf } };
    expect(facts(docker(), said, '7B-Q4_K_M')).to.deep.equal({
      packaging: 'docker',
      name: config('Tiny'),
      parameters: config('7.62 B'),
      quantization: config('Q4_K_M'),
      format: config('gguf'),
      license: config('mit'),
    });
    const only = { config: { gguf: { 'general.file_type': '7', 'general.architecture': 'llama' } } };
    expect(facts(docker(), only)).to.deep.include({ quantization: config('Q8_0'), architecture: config('llama') });
    expect(facts(docker(), { config: { quantization: 'mixed' } }).quantization).to.equal(undefined);
  });

  it("reads a Kitfile and Ollama's config", () => {
    const kitfile = { package: { name: 'p', version: '2', license: 'MIT' }, model: { name: 'm', format: 'gguf' } };
    expect(facts(modelKit(), kitfile)).to.deep.equal({
      packaging: 'modelkit',
      name: config('m'),
      version: config('2'),
      format: config('gguf'),
      license: config('MIT'),
    });
    const said = {
      model_format: 'gguf',
      model_family: 'llama',
      model_type: '8.0B',
      file_type: 'Q4_0',
      architecture: 'amd64',
    };
    expect(facts(ollama(), said, '8b-q4_0')).to.deep.equal({
      packaging: 'ollama',
      family: config('llama'),
      parameters: config('8.0B'),
      quantization: config('Q4_0'),
      format: config('gguf'),
    });
  });

  it('reads what an index of ModelKits says of its entries, where they agree', () => {
    const index = (...said: readonly unknown[]) => {
      const manifests = said.map((modelMetadata, nth) => ({
        ...describeContent(`kit ${nth}`, { mediaType: OCI_IMAGE_MANIFEST }),
        modelMetadata,
      }));
      const artifactType = 'application/vnd.kitops.modelkit.index.v1+json';
      return parseManifest(encode(imageIndex({ artifactType, manifests })), undefined, limits);
    };
    const of = (quantization: unknown) => ({ quantization, totalParameters: 7e9 });
    expect(facts(index(of('Q4_K_M'), of('q4_k_m'), {}), undefined, 'v1-Q8_0')).to.deep.equal({
      packaging: 'modelkit',
      version: { value: 'v1', source: 'tag' },
      quantization: { ...config('Q4_K_M'), conflict: [{ source: 'tag', value: 'Q8_0' }] },
    });
    expect(facts(index(of('Q4_K_M'), of('Q8_0')), undefined, 'v1-Q8_0').quantization).to.deep.equal({
      value: 'Q8_0',
      source: 'tag',
    });
    for (const odd of [null, [], 'Q4_K_M', of(4), of('mixed'), of(''), undefined])
      expect(facts(index(odd), undefined).quantization, JSON.stringify(odd)).to.equal(undefined);
  });

  it('reads annotations, file names and the tag, the stronger first', () => {
    const manifest = manifestOf({
      layers: [layer('a/b', { [TITLE]: 'tiny-7B-Q4_K_M.gguf' })],
      annotations: {
        'org.opencontainers.image.title': 'tiny',
        'org.opencontainers.image.version': 'v2',
        'org.opencontainers.image.licenses': 'MIT',
      },
    });
    expect(facts(manifest, undefined, 'v3-Q8_0')).to.deep.equal({
      packaging: 'files',
      name: { value: 'tiny', source: 'annotation' },
      version: { value: 'v2', source: 'annotation', conflict: [{ source: 'tag', value: 'v3' }] },
      parameters: { value: '7B', source: 'filename' },
      quantization: { value: 'Q4_K_M', source: 'filename', conflict: [{ source: 'tag', value: 'Q8_0' }] },
      format: { value: 'gguf', source: 'filename' },
      license: { value: 'MIT', source: 'annotation' },
    });
    expect(facts(manifestOf({}), undefined, '7b-instruct-fp16')).to.deep.equal({
      parameters: { value: '7b', source: 'tag' },
      quantization: { value: 'fp16', source: 'tag' },
    });
    expect(facts(manifestOf({}), undefined)).to.deep.equal({});
  });

  it('shows each weaker source that says something else', () => {
    const manifest = modelPack({ layers: [layer('a/b', { [TITLE]: 'x-Q4_K_M.gguf' })] });
    const { quantization } = facts(manifest, { config: { quantization: 'Q5_K_M' } }, 'v1-q8_0');
    expect(quantization).to.deep.equal({
      ...config('Q5_K_M'),
      conflict: [
        { source: 'filename', value: 'Q4_K_M' },
        { source: 'tag', value: 'q8_0' },
      ],
    });
  });

  for (const [stated, tag] of [
    [{ config: { quantization: 'F16' } }, 'v1-fp16'],
    [{ config: { quantization: 'q4_k_m' } }, 'v1-Q4_K_M'],
    [{ descriptor: { version: '3' } }, 'v3.0-fp16'],
    [{ descriptor: { version: 'v3.0-instruct' } }, '3.0-fp16'],
    [{ config: { paramSize: '7.6B' } }, '7B-fp16'],
    [{ config: { paramSize: '1.2b' } }, '1B'],
    [{ config: { precision: 'bfloat16' } }, 'v1-bf16'],
  ] as const) {
    it(`finds no conflict between ${JSON.stringify(stated)} and ${tag}`, () => {
      const found = Object.values(facts(modelPack(), stated, tag));
      expect(found.length).to.be.greaterThan(1);
      for (const fact of found) expect(fact).not.to.have.property('conflict');
    });
  }

  for (const [stated, tag, subject] of [
    [{ descriptor: { version: '3.1' } }, 'v3.0', 'version'],
    [{ descriptor: { version: '3.0.1' } }, 'v3.0', 'version'],
    [{ config: { paramSize: '8B' } }, '70b-fp16', 'parameters'],
    [{ config: { precision: 'fp16' } }, 'v1-bf16', 'quantization'],
  ] as const) {
    it(`finds a conflict of ${subject} between ${JSON.stringify(stated)} and ${tag}`, () => {
      expect(facts(modelPack(), stated, tag)[subject]?.conflict).to.have.length(1);
    });
  }

  it('goes by the files with the most bytes, and counts no projector', () => {
    const sized = (title: string, size: number) => layer('a/b', { [TITLE]: title }, { size });
    const layers = [
      sized('a-Q8_0.gguf', 10),
      sized('mmproj-F16.gguf', 99),
      sized('a-Q4_0.gguf', 6),
      sized('b-Q4_0.gguf', 7),
    ];
    const manifest = manifestOf({ layers: [...layers, sized('README-fp32.md', 1000)] });
    expect(facts(manifest, undefined, 'v1-q8_0').quantization).to.deep.equal({ value: 'Q4_0', source: 'filename' });
  });

  it('is not harmed by what a config holds', () => {
    const hostile = [
      null,
      [],
      'text',
      7,
      Object.create({ config: { quantization: 'awq' }, file_type: 'Q4_0', package: { name: 'x' } }),
      { config: 'text', descriptor: [] },
      { config: { quantization: 5, precision: {}, paramSize: [] }, descriptor: { name: null, licenses: 'MIT' } },
      JSON.parse('{"__proto__":{"config":{"quantization":"awq"}},"config":{"__proto__":{"quantization":"awq"}}}'),
      JSON.parse('{"constructor":{"name":"x"},"descriptor":{"constructor":"y"}}'),
      { model: { parts: Array.from({ length: 100_000 }, () => ({ digest: 'x' })) } },
    ];
    for (const manifest of [modelPack(), docker(), modelKit(), ollama()]) {
      for (const value of hostile) {
        const { packaging, format, ...others } = facts(manifest, value);
        expect(packaging).to.be.a('string');
        expect(format?.source).not.to.equal('config');
        expect(others).to.deep.equal({});
      }
    }
    expect(({} as Record<string, unknown>).quantization).to.equal(undefined);
  });

  it('keeps texts on one line and short', () => {
    const name = `a\u0000b\n\u001b[31m\u202e${'\u{1f600}'.repeat(1000)}`;
    const value = facts(modelPack(), { descriptor: { name, version: '\ud800', family: ' \n ' } });
    expect(value.name?.value).to.match(/^a b {2}\[31m /);
    expect(value.name?.value.length).to.be.at.most(200);
    expect(JSON.stringify(value)).not.to.match(/\\u|\p{Cs}/u);
    expect(value).not.to.have.any.keys('version', 'family');
  });

  it('has at most 16 KiB as JSON, whatever is said', () => {
    const text = fc.oneof(
      fc.constantFrom('"'.repeat(300), '\\'.repeat(300), '\uffee'.repeat(300), '\u{1f600}'.repeat(300), '7B'),
      fc.string({ unit: 'binary', maxLength: 300 }),
    );
    const said = fc.record({
      config: fc.dictionary(
        fc.constantFrom('quantization', 'precision', 'paramSize', 'parameters', 'format', 'architecture'),
        text,
      ),
      descriptor: fc.dictionary(fc.constantFrom('name', 'version', 'family'), text),
    });
    const plain = text.map((value) => value.replaceAll('\u0000', ''));
    fc.assert(
      fc.property(said, plain, plain, (value, title, version) => {
        const annotations = { [TITLE]: title, 'org.opencontainers.image.version': version };
        for (const manifest of [modelPack({ annotations }), docker({ annotations })]) {
          const json = JSON.stringify(facts(manifest, value, `9${'9'.repeat(120)}-fp16`));
          expect(Buffer.byteLength(json)).to.be.at.most(16 * 1024);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('reads many files with hostile names in no time', () => {
    for (const part of ['-', 'q4_', '7b-', '1.', '0x', 'ud-q']) {
      const titles = Array.from({ length: 900 }, (_, index) => `${part.repeat(1000).slice(0, 1000)}${index}.gguf`);
      const manifest = titled(...titles);
      expectQuick(() => facts(manifest, undefined));
    }
  });
});

describe('weights/quantization of file names', () => {
  for (const [path, label] of [
    ['tiny-Q4_K_M.gguf', 'Q4_K_M'],
    ['tiny-Q4_K_M-00001-of-00002.gguf', 'Q4_K_M'],
    ['tiny.fp16.safetensors', 'fp16'],
    ['UD-Q4_K_XL/tiny-00001-of-00002.gguf', 'UD-Q4_K_XL'],
    ['tiny-f16/tiny-q8_0.gguf', 'q8_0'],
    ['Q4_0-to-Q8_0.gguf', 'Q8_0'],
    ['tiny-MXFP4.gguf', 'MXFP4'],
    ['model.safetensors', undefined],
    ['tinyQ4_0.gguf', undefined],
    ['', undefined],
  ] as const) {
    it(`finds ${label ?? 'no label'} in ${path || 'nothing'}`, () => {
      expect(lastQuantization(path)).to.equal(label);
    });
  }

  it('knows the numbers of llama.cpp', () => {
    expect(['0', '1', '15', '18', '32', '36', '38', '41'].map(labelOfFileType)).to.deep.equal(
      'F32 F16 Q4_K_M Q6_K BF16 TQ1_0 MXFP4_MOE Q2_0'.split(' '),
    );
    for (const text of ['42', '1024', '-1', '1.0', '', 'x', undefined])
      expect(labelOfFileType(text)).to.equal(undefined);
  });
});
