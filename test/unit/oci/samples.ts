import { digestOf } from '../../../src/oci/digest.js';
import type { ManifestLimits } from '../../../src/oci/manifest.js';
import { OCI_IMAGE_CONFIG, OCI_IMAGE_INDEX, OCI_IMAGE_MANIFEST, OCI_LAYER_TAR } from '../../../src/oci/media-types.js';

export const limits: ManifestLimits = { maxBytes: 4 * 1024 * 1024, maxDepth: 16, maxDescriptors: 1000 };

/** The descriptor of `content`, with other properties added or put in place. */
export function describeContent(content: string, properties: object = {}): Record<string, unknown> {
  const bytes = Buffer.from(content);
  return { mediaType: OCI_LAYER_TAR, digest: digestOf('sha256', bytes), size: bytes.length, ...properties };
}

export function imageManifest(properties: object = {}): Record<string, unknown> {
  return {
    schemaVersion: 2,
    mediaType: OCI_IMAGE_MANIFEST,
    config: describeContent('config', { mediaType: OCI_IMAGE_CONFIG }),
    layers: [describeContent('layer 0'), describeContent('layer 1')],
    ...properties,
  };
}

export function imageIndex(properties: object = {}): Record<string, unknown> {
  return {
    schemaVersion: 2,
    mediaType: OCI_IMAGE_INDEX,
    manifests: [
      describeContent('image', { mediaType: OCI_IMAGE_MANIFEST, platform: { architecture: 'amd64', os: 'linux' } }),
    ],
    ...properties,
  };
}

/** The bytes of a document; a string is taken as it is. */
export function encode(document: object | string): Buffer {
  return Buffer.from(typeof document === 'string' ? document : JSON.stringify(document));
}
