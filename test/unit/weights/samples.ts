import { type Manifest, parseManifest } from '../../../src/oci/manifest.js';
import { describeContent, encode, imageManifest, limits } from '../oci/samples.js';

type Annotations = Record<string, string>;

/** A layer of any content, with a media type and annotations. */
export const layer = (mediaType: string, annotations: Annotations = {}, more: object = {}) =>
  describeContent(`${mediaType} ${JSON.stringify(annotations)}`, { mediaType, annotations, ...more });

/** A manifest of files as `oras push` writes them, by their titles. */
export const titled = (...titles: string[]): Manifest =>
  manifestOf({ layers: titles.map((title) => layer('application/octet-stream', { [TITLE]: title })) });

export const TITLE = 'org.opencontainers.image.title';
export const FILEPATH = 'org.cncf.model.filepath';

export function manifestOf(properties: object): Manifest {
  return parseManifest(encode(imageManifest(properties)), undefined, limits);
}

/** A manifest whose config has a media type. */
export const withConfig = (mediaType: string, properties: object = {}): Manifest =>
  manifestOf({ config: describeContent('config', { mediaType }), ...properties });

export const modelPack = (properties: object = {}): Manifest =>
  withConfig('application/vnd.cncf.model.config.v1+json', {
    artifactType: 'application/vnd.cncf.model.manifest.v1+json',
    layers: [layer('application/vnd.cncf.model.weight.v1.raw', { [FILEPATH]: 'model.safetensors' })],
    ...properties,
  });

export const docker = (properties: object = {}): Manifest =>
  withConfig('application/vnd.docker.ai.model.config.v0.1+json', {
    layers: [layer('application/vnd.docker.ai.gguf.v3'), layer('application/vnd.docker.ai.license')],
    ...properties,
  });

export const modelKit = (properties: object = {}): Manifest =>
  withConfig('application/vnd.kitops.modelkit.config.v1+json', {
    layers: [layer('application/vnd.kitops.modelkit.model.v1.tar+gzip')],
    ...properties,
  });

export const ollama = (properties: object = {}): Manifest =>
  withConfig('application/vnd.docker.container.image.v1+json', {
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    layers: ['model', 'template', 'params'].map((kind) => layer(`application/vnd.ollama.image.${kind}`)),
    ...properties,
  });
