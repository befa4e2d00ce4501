import { expect } from 'chai';
import fc from 'fast-check';
import {
  filesOf,
  isModelLike,
  maxConfigSize,
  packagingOf,
  readConfig,
  wantsConfig,
} from '../../../src/weights/packaging.js';
import { expectQuick } from '../oci/failure.js';
import { describeContent, imageIndex, encode, limits } from '../oci/samples.js';
import { parseManifest } from '../../../src/oci/manifest.js';
import {
  FILEPATH,
  TITLE,
  docker,
  layer,
  manifestOf,
  modelKit,
  modelPack,
  ollama,
  titled,
  withConfig,
} from './samples.js';

const fileOf = (annotations: Record<string, string>, mediaType = 'application/octet-stream') => {
  const [file] = filesOf(manifestOf({ layers: [layer(mediaType, annotations)] }));
  if (!file) throw new Error('a layer is a file');
  return file;
};

describe('weights/packaging', () => {
  it('knows a model by the types of its packager', () => {
    expect(packagingOf(modelPack())).to.equal('modelpack');
    expect(packagingOf(docker())).to.equal('docker');
    expect(packagingOf(modelKit())).to.equal('modelkit');
    expect(packagingOf(ollama())).to.equal('ollama');
    expect(packagingOf(withConfig('application/vnd.docker.ai.model.config.v0.2+json'))).to.equal('docker');
    expect(packagingOf(withConfig('application/vnd.cnai.model.config.v1+json'))).to.equal('modelpack');
    const cnai = { artifactType: 'application/vnd.cnai.model.manifest.v1+json' };
    expect(packagingOf(manifestOf(cnai))).to.equal('modelpack');
    expect(packagingOf(manifestOf({ artifactType: 'application/vnd.kitops.modelkit.manifest.v1+json' }))).to.equal(
      'modelkit',
    );
    const index = imageIndex({ artifactType: 'application/vnd.kitops.modelkit.index.v1+json' });
    expect(packagingOf(parseManifest(encode(index), undefined, limits))).to.equal('modelkit');
  });

  it('knows a model by the names of its files', () => {
    expect(packagingOf(titled('README.md', 'model.safetensors'))).to.equal('files');
    expect(packagingOf(titled('sub/MODEL-Q4_0.GGUF'))).to.equal('files');
    for (const name of [FILEPATH, 'org.cnai.model.filepath']) {
      expect(isModelLike(manifestOf({ layers: [layer('a/b', { [name]: 'a.gguf' })] })), name).to.equal(true);
    }
  });

  it('takes nothing else for a model', () => {
    expect(isModelLike(manifestOf({}))).to.equal(false);
    expect(isModelLike(titled('model.safetensors.index.json', 'README.md', 'gguf', 'a.ggufx'))).to.equal(false);
    expect(isModelLike(parseManifest(encode(imageIndex()), undefined, limits))).to.equal(false);
    expect(isModelLike(withConfig('application/vnd.docker.container.image.v1+json'))).to.equal(false);
  });

  it('wants the config of those that say something there, unless it is too large', () => {
    for (const manifest of [modelPack(), docker(), modelKit(), ollama()]) expect(wantsConfig(manifest)).to.equal(true);
    expect(wantsConfig(titled('model.gguf'))).to.equal(false);
    expect(wantsConfig(manifestOf({}))).to.equal(false);
    const mediaType = 'application/vnd.docker.ai.model.config.v0.1+json';
    const sized = (size: number) => docker({ config: describeContent('config', { mediaType, size }) });
    expect(wantsConfig(sized(maxConfigSize))).to.equal(true);
    expect(wantsConfig(sized(maxConfigSize + 1))).to.equal(false);
    expect(wantsConfig(sized(0))).to.equal(false);
  });

  it('reads a config that is JSON, and nothing else', () => {
    expect(readConfig(encode('{"a":[1]}'))).to.deep.equal({ a: [1] });
    expect(readConfig(encode('{'))).to.equal(undefined);
    expect(readConfig(Uint8Array.of(0x22, 0xff, 0x22))).to.equal(undefined);
    expect(readConfig(encode(`"${'x'.repeat(maxConfigSize)}"`))).to.equal(undefined);
    const deep = readConfig(encode('['.repeat(500_000) + ']'.repeat(500_000)));
    expect(filesOf(modelKit(), deep)).to.have.length(1);
  });
});

describe('weights/files', () => {
  it('are the layers with their paths, sizes and digests in order', () => {
    const titles = ['model-00001-of-00002.safetensors', 'tokenizer/vocab.txt', 'README.md'];
    const manifest = titled(...titles);
    expect(filesOf(manifest)).to.deep.equal(
      manifest.layers.map(({ digest, size }, position) => ({
        name: titles[position]?.split('/').at(-1),
        path: titles[position],
        mediaType: 'application/octet-stream',
        digest,
        size,
        format: ['safetensors', 'text', 'markdown'][position],
        position,
      })),
    );
    expect(filesOf(parseManifest(encode(imageIndex()), undefined, limits))).to.deep.equal([]);
  });

  it("take ModelPack's path before the title", () => {
    expect(fileOf({ [FILEPATH]: 'a/b.gguf', [TITLE]: 'c.gguf' })).to.include({ path: 'a/b.gguf', name: 'b.gguf' });
    expect(fileOf({ 'org.cnai.model.filepath': 'b.gguf', [TITLE]: 'c.gguf' })).to.include({ path: 'b.gguf' });
    expect(fileOf({ [FILEPATH]: '', [TITLE]: 'c.gguf' })).to.include({ path: 'c.gguf' });
  });

  it('take the paths of a ModelKit from its config by the digest', () => {
    const layers = ['model', 'modelpart', 'code', 'dataset', 'docs'].map((kind) =>
      layer(`application/vnd.kitops.modelkit.${kind}.v1.tar`),
    );
    const [model, part, code, dataset, docs] = layers.map(({ digest }) => digest);
    const config = {
      model: { path: './model.gguf', digest: model, parts: [{ path: 'parts/lora.gguf', digest: part }, null, 7] },
      code: [{ path: './src/', digest: code }],
      datasets: [{ path: '../data', digest: dataset }],
      docs: [
        { path: '.', digest: docs },
        { path: 5, digest: docs },
      ],
    };
    const files = filesOf(modelKit({ layers }), config);
    expect(files.map(({ path }) => path)).to.deep.equal(['model.gguf', 'parts/lora.gguf', 'src', undefined, undefined]);
    expect(files.map(({ format }) => format)).to.deep.equal(['tar', 'tar', 'tar', 'tar', 'tar']);
    expect(files.map(({ name }) => name).slice(0, 4)).to.deep.equal(['model.gguf', 'lora.gguf', 'src', 'data']);
    expect(files[4]?.name).to.match(/^docs-[0-9a-f]{12}$/);
    expect(filesOf(modelKit({ layers }))[0]?.path).to.equal(undefined);
  });

  it("take Ollama's names of tensors", () => {
    const layers = [layer('application/vnd.ollama.image.tensor', {}, { name: 'blk.0.weight' })];
    expect(filesOf(ollama({ layers }))[0]).to.include({ path: 'blk.0.weight', format: 'safetensors' });
    for (const name of [5, null, {}, '', '../x']) {
      const file = filesOf(ollama({ layers: [{ ...layers[0], name }] }))[0];
      expect(file?.path, String(name)).to.equal(undefined);
    }
  });

  it('have a name where nothing states one', () => {
    const names = [...filesOf(docker()), ...filesOf(ollama()), ...filesOf(modelKit())].map(({ name }) => name);
    const stems = names.map((name) => /^([a-z]+)-[0-9a-f]{12}$/.exec(name)?.[1]);
    expect(stems).to.deep.equal(['gguf', 'license', 'model', 'template', 'params', 'model']);
    expect(fileOf({}, '').name).to.match(/^layer-/);
    expect(fileOf({}, '/../..').name).to.match(/^layer-/);
  });

  it('have formats by their types where the name says none', () => {
    expect(filesOf(docker()).map(({ format }) => format)).to.deep.equal(['gguf', 'text']);
    expect(filesOf(ollama()).map(({ format }) => format)).to.deep.equal(['gguf', 'text', 'json']);
    expect(filesOf(modelKit()).map(({ format }) => format)).to.deep.equal(['tar+gzip']);
    expect(fileOf({}, 'application/vnd.cncf.model.weight.v1.safetensors').format).to.equal('safetensors');
    expect(fileOf({}, 'application/vnd.example').format).to.equal(undefined);
  });

  for (const [path, format] of [
    ['model.safetensors', 'safetensors'],
    ['a/MODEL.GGUF', 'gguf'],
    ['pytorch_model-00001-of-00002.bin', 'pytorch'],
    ['model.pt', 'pytorch'],
    ['data.bin', undefined],
    ['model.onnx', 'onnx'],
    ['model.onnx_data', 'onnx'],
    ['model.safetensors.index.json', 'json'],
    ['tokenizer.model', 'sentencepiece'],
    ['LICENSE', 'text'],
    ['a.tar.gz', 'tar+gzip'],
    ['chat_template.jinja', 'jinja'],
    ['README', undefined],
  ] as const) {
    it(`have the format ${format ?? 'unknown'} when they are called ${path}`, () => {
      expect(fileOf({ [TITLE]: path }).format).to.equal(format);
    });
  }

  it('are a tar where the packager made one, and not where oras only calls them so', () => {
    const annotations = { [FILEPATH]: 'model.gguf', [TITLE]: 'model.gguf' };
    expect(fileOf(annotations, 'application/vnd.cncf.model.weight.v1.tar').format).to.equal('tar');
    expect(fileOf(annotations, 'application/vnd.oci.image.layer.v1.tar').format).to.equal('gguf');
    const folder = { [TITLE]: 'data', 'io.deis.oras.content.unpack': 'true' };
    expect(fileOf(folder, 'application/vnd.oci.image.layer.v1.tar+gzip').format).to.equal('tar+gzip');
  });

  for (const [stated, name] of [
    ['/etc/passwd', 'passwd'],
    ['../../up.gguf', 'up.gguf'],
    ['a/../b', 'b'],
    ['a//b', 'b'],
    ['a/./b', 'b'],
    ['a\\b.gguf', 'b.gguf'],
    ['C:/windows/x', 'x'],
    ['C:x', 'C:x'],
    ['a/\nb', '_b'],
    ['a\u001b[31m', 'a_[31m'],
    ['a\u202egnp.exe', 'a_gnp.exe'],
    [`${'d/'.repeat(600)}x.gguf`, 'x.gguf'],
  ] as const) {
    it(`have no path that is ${JSON.stringify(stated.slice(0, 20))}, but a name`, () => {
      const file = fileOf({ [TITLE]: stated });
      expect(file.path).to.equal(undefined);
      expect(file.name).to.equal(name);
    });
  }

  it('have another name than .. and .', () => {
    for (const stated of ['..', '.', '/', '\\', './', 'a/..', '...\\..']) {
      expect(fileOf({ [TITLE]: stated }).name, stated).to.match(/^octet-stream-[0-9a-f]{12}$/);
    }
  });

  it('lose a leading ./ and a / at the end of their paths', () => {
    expect(fileOf({ [TITLE]: './/./a/b/' }).path).to.equal('a/b');
    expect(fileOf({ [TITLE]: '.hidden' }).path).to.equal('.hidden');
    expect(fileOf({ [TITLE]: '..a/b..' }).path).to.equal('..a/b..');
  });

  it('are read in no time, whatever is stated', () => {
    for (const part of [
      '/',
      './',
      '\\',
      '../',
      '.tar+',
      'a.gguf',
      '.onnx_data',
      'sentencepiece',
      '\u202e',
      ' ',
      '-tar',
    ]) {
      const long = part.repeat(500_000 / part.length);
      expectQuick(() => fileOf({ [TITLE]: `${long}x` }, `application/vnd.docker.ai.${long}x`));
      const short = part.repeat(2000 / part.length);
      const many = Array.from({ length: 200 }, (_, index) =>
        layer(`${short}${index}`, { [TITLE]: `${short}${index}` }),
      );
      const manifest = manifestOf({ layers: many });
      expectQuick(() => filesOf(manifest));
    }
  });

  it('take no path from what their packager never says', () => {
    const odd = layer('a/b', {}, { name: 'by-name.gguf' });
    expect(filesOf(modelPack({ layers: [odd] }))[0]?.path).to.equal(undefined);
    const kitfile = { model: { path: 'by-config.gguf', digest: odd.digest } };
    expect(filesOf(modelPack({ layers: [odd] }), kitfile)[0]?.path).to.equal(undefined);
  });

  it('have names and paths that fit, whatever is stated', () => {
    const part = fc.oneof(
      fc.constantFrom('..', '.', '/', '\\', 'a', '\u{1f600}', '\u202e', 'C:', './'),
      fc.string({ unit: 'binary', maxLength: 20 }),
    );
    const stated = fc.array(part, { maxLength: 300 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(stated, fc.string({ maxLength: 400 }), (text, mediaType) => {
        const file = fileOf({ [TITLE]: text.replaceAll('\u0000', '') }, mediaType.replaceAll('\u0000', ''));
        expect(file.name.length).to.be.within(1, 255);
        expect(file.name).not.to.match(/[/\\\p{Cc}\p{Cs}\p{Bidi_Control}]|^\.{1,2}$/u);
        expect(file.mediaType.length).to.be.at.most(255);
        if (file.path === undefined) return;
        expect(file.path.length).to.be.within(1, 1024);
        expect(file.path).not.to.match(/[\\\p{Cc}\p{Cs}\p{Bidi_Control}]|^\/|^[a-z]:/iu);
        expect(file.path.split('/')).to.satisfy((parts: string[]) => parts.every((one) => !/^\.{0,2}$/.test(one)));
      }),
      { numRuns: 1000 },
    );
  });
});
