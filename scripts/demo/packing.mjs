// Manifests as the tools of each packaging write them.
import { createHash } from 'node:crypto';

const IMAGE = 'application/vnd.oci.image.manifest.v1+json';
const TITLE = 'org.opencontainers.image.title';
/** So that the same set has the same digests everywhere. */
const CREATED = '2026-01-15T09:00:00Z';

export const digestOf = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const describe = (mediaType, bytes) => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
const jsonOf = (content) => Buffer.from(JSON.stringify(content));
const isWeights = (path) => /\.(?:safetensors|gguf)$/.test(path);

/** As 8.0B, 494.0M. */
function sizeOf(parameters) {
  return parameters >= 1e9 ? `${(parameters / 1e9).toFixed(1)}B` : `${(parameters / 1e6).toFixed(1)}M`;
}

function pack(config, configType, layers, more = {}) {
  const bytes = jsonOf(config);
  const manifest = { schemaVersion: 2, mediaType: IMAGE, ...more, config: describe(configType, bytes), layers };
  return { config: bytes, manifest: jsonOf(manifest), mediaType: IMAGE };
}

const PACKINGS = {
  /** CNCF ModelPack, as modctl does. */
  modelpack({ model, architecture, license }, version, quantization, files) {
    const kindOf = (path) => (isWeights(path) ? 'weight' : path.endsWith('.md') ? 'doc' : 'weight.config');
    const layers = files.map(({ path, bytes }) => ({
      ...describe(`application/vnd.cncf.model.${kindOf(path)}.v1.raw`, bytes),
      annotations: { 'org.cncf.model.filepath': path, [TITLE]: path },
    }));
    const config = {
      descriptor: { createdAt: CREATED, family: architecture, name: model.name, version, licenses: [license] },
      modelfs: { type: 'layers', diffIds: layers.map(({ digest }) => digest) },
      config: {
        architecture,
        format: files.some(({ path }) => path.endsWith('.gguf')) ? 'gguf' : 'safetensors',
        paramSize: sizeOf(model.parameter_count),
        precision: quantization,
      },
    };
    return pack(config, 'application/vnd.cncf.model.config.v1+json', layers, {
      artifactType: 'application/vnd.cncf.model.manifest.v1+json',
    });
  },

  /** What `oras push --artifact-type application/vnd.example.model file …` makes. */
  files({ license }, version, _quantization, files) {
    const layers = files.map(({ path, bytes }) => ({
      ...describe('application/octet-stream', bytes),
      annotations: { [TITLE]: path },
    }));
    return pack({}, 'application/vnd.oci.empty.v1+json', layers, {
      artifactType: 'application/vnd.example.model',
      annotations: {
        'org.opencontainers.image.created': CREATED,
        'org.opencontainers.image.licenses': license,
        'org.opencontainers.image.version': version,
      },
    });
  },

  /** What `docker model package --gguf` makes, a layer a file. */
  docker({ model, architecture, license }, _version, quantization, files) {
    const layers = files.map(({ path, bytes }) => ({
      ...describe(`application/vnd.docker.ai.${isWeights(path) ? 'gguf.v3' : 'model.file'}`, bytes),
      annotations: { 'org.cncf.model.filepath': path },
    }));
    const config = {
      config: {
        format: 'gguf',
        quantization,
        parameters: sizeOf(model.parameter_count),
        architecture,
        size: `${files.reduce((sum, { bytes }) => sum + bytes.length, 0)} B`,
        gguf: { 'general.architecture': architecture, 'general.name': model.name, 'general.license': license },
      },
      descriptor: { created: CREATED },
      rootfs: { type: 'rootfs', diff_ids: layers.map(({ digest }) => digest) },
    };
    return pack(config, 'application/vnd.docker.ai.model.config.v0.2+json', layers);
  },
};

/** @returns { config, manifest, mediaType }: bytes that go to the registry beside those of the files */
export function packRelease(described, version, quantization, files) {
  return PACKINGS[described.packing](described, version, quantization, files);
}

/** What refers to a release as a signature of notation does; it signs nothing. @returns as above, and its one blob */
export function packSignature(subject) {
  const envelope = jsonOf({
    payload: Buffer.from(subject.digest).toString('base64url'),
    signature: 'bm90IGEgc2lnbmF0dXJl',
  });
  const layer = { ...describe('application/jose+json', envelope), annotations: { [TITLE]: 'signature.jws' } };
  const annotations = { 'org.opencontainers.image.created': CREATED };
  const packed = pack({}, 'application/vnd.cncf.notary.signature', [layer], { annotations, subject });
  return { ...packed, envelope };
}
