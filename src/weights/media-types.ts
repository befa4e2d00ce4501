import type { Descriptor } from '../oci/descriptor.js';
import type { Manifest } from '../oci/manifest.js';

/** By which tool's rules a model lies in a manifest; `files`: by titles alone, as `oras push` writes them. */
export type Packaging = 'modelpack' | 'docker' | 'modelkit' | 'ollama' | 'files';

// modelpack/model-spec: specs-go/v1
export const MODELPACK_MANIFEST = 'application/vnd.cncf.model.manifest.v1+json';
export const MODELPACK_CONFIG = 'application/vnd.cncf.model.config.v1+json';
export const MODELPACK_FILEPATH = 'org.cncf.model.filepath';
export const MODELPACK_UNTESTED = 'org.cncf.model.file.mediatype.untested';
/** ModelPack's former name, which modctl still writes. */
export const CNAI_FILEPATH = 'org.cnai.model.filepath';

// image-spec annotations.md
export const OCI_TITLE = 'org.opencontainers.image.title';
export const OCI_CREATED = 'org.opencontainers.image.created';
export const OCI_VERSION = 'org.opencontainers.image.version';
export const OCI_LICENSES = 'org.opencontainers.image.licenses';
/** "true": a folder, which oras unpacks. */
export const ORAS_UNPACK = 'io.deis.oras.content.unpack';

/** What the artifact type (which an image without one takes from its config) begins with. */
const ofArtifact: readonly (readonly [string, Packaging])[] = [
  ['application/vnd.cncf.model.manifest.', 'modelpack'],
  ['application/vnd.cncf.model.config.', 'modelpack'],
  ['application/vnd.cnai.model.manifest.', 'modelpack'],
  ['application/vnd.cnai.model.config.', 'modelpack'],
  ['application/vnd.docker.ai.model.config.', 'docker'],
  ['application/vnd.kitops.modelkit.manifest.', 'modelkit'],
  ['application/vnd.kitops.modelkit.config.', 'modelkit'],
  ['application/vnd.kitops.modelkit.index.', 'modelkit'],
];

/** Ollama's manifests look like Docker's images but for the layers. */
const OLLAMA_LAYER = 'application/vnd.ollama.image.';

/** The packaging of a model, undefined for a manifest that is none. */
export function packagingOf(manifest: Manifest): Packaging | undefined {
  for (const mediaType of [manifest.artifactType, manifest.config?.mediaType]) {
    const known = ofArtifact.find(([start]) => mediaType?.startsWith(start));
    if (known) return known[1];
  }
  if (manifest.layers.some(({ mediaType }) => mediaType.startsWith(OLLAMA_LAYER))) return 'ollama';
  const isWeights = (layer: Descriptor): boolean => /\.(?:safetensors|gguf)$/i.test(statedPath(layer) ?? '');
  return manifest.layers.some(isWeights) ? 'files' : undefined;
}

/** The path that a layer's annotations say, as it was written and to be trusted in nothing. */
export function statedPath({ annotations }: Descriptor): string | undefined {
  return annotations?.[MODELPACK_FILEPATH] || annotations?.[CNAI_FILEPATH] || annotations?.[OCI_TITLE] || undefined;
}
