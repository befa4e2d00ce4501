import type { Descriptor } from '../oci/descriptor.js';
import { type Digest, hexOf } from '../oci/digest.js';
import type { Manifest } from '../oci/manifest.js';
import { formatOf } from './format.js';
import { ORAS_UNPACK, packagingOf, statedPath } from './media-types.js';
import { fieldOf, itemsAt, safeName, safePath } from './untrusted.js';

/** A file of a model, as the manifest (and for a ModelKit its config) states it: one layer. */
export interface ModelFile {
  /** Never empty; 1 to 255 characters, without a path. */
  readonly name: string;
  /** Below the folder of the model, with `/`; at most 1024 characters. Undefined where none is stated, or none that is safe. */
  readonly path: string | undefined;
  /** At most 255 characters. */
  readonly mediaType: string;
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  /** Such as `safetensors` or `tar+gzip`; undefined if unknown. */
  readonly format: string | undefined;
  /** Among the layers, from 0. */
  readonly position: number;
}

/** The files of a model, one a layer, in order; empty for an index. @param config the parsed config blob, if it was read */
export function filesOf(manifest: Manifest, config?: unknown): ModelFile[] {
  const packaging = packagingOf(manifest);
  const ofKitfile = pathsOfKitfile(packaging === 'modelkit' ? config : undefined);
  return manifest.layers.map((layer, position) => {
    const ofOllama = packaging === 'ollama' ? layer.name : undefined;
    const stated = ofOllama ?? statedPath(layer) ?? ofKitfile.get(layer.digest);
    const mediaType = layer.mediaType.slice(0, 255);
    const path = stated === undefined ? undefined : safePath(stated);
    const name = safeName(stated ?? '') ?? nameOf(layer);
    return {
      name,
      path,
      mediaType,
      digest: layer.digest,
      size: layer.size,
      format: formatOf(mediaType, path ?? name, layer.annotations?.[ORAS_UNPACK] === 'true'),
      position,
    };
  });
}

/** A ModelKit says the paths in its config, beside the digest of the layer that holds them. */
function pathsOfKitfile(config: unknown): Map<unknown, string> {
  const parts = [
    fieldOf(config, 'model'),
    ...itemsAt(config, 'model', 'parts'),
    ...itemsAt(config, 'code'),
    ...itemsAt(config, 'datasets'),
    ...itemsAt(config, 'docs'),
  ];
  const paths = new Map<unknown, string>();
  for (const part of parts) {
    const [digest, path] = [fieldOf(part, 'digest'), fieldOf(part, 'path')];
    if (typeof digest === 'string' && typeof path === 'string' && !paths.has(digest)) paths.set(digest, path);
  }
  return paths;
}

/** `model-0123456789ab`: the last word of the media type that says what it is. */
function nameOf({ mediaType, digest }: Descriptor): string {
  const words = mediaType.slice(0, 255).split(/[^A-Za-z0-9_-]+/);
  const word = words.filter((text) => text !== '' && !/^(?:v\d+|raw|tar|gzip|zstd|json)$/.test(text)).at(-1) ?? 'layer';
  return `${word.slice(-100)}-${hexOf(digest).slice(0, 12)}`;
}
