import { RegistryError } from '../errors.js';
import { quote } from './quote.js';

// image-spec media-types.md
export const OCI_IMAGE_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_IMAGE_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_IMAGE_CONFIG = 'application/vnd.oci.image.config.v1+json';
/** The config or layer that has nothing to say; its content is `{}`. */
export const OCI_EMPTY = 'application/vnd.oci.empty.v1+json';
export const OCI_LAYER_TAR = 'application/vnd.oci.image.layer.v1.tar';
export const OCI_LAYER_TAR_GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';
export const OCI_LAYER_TAR_ZSTD = 'application/vnd.oci.image.layer.v1.tar+zstd';
export const OCI_NONDISTRIBUTABLE_LAYER_TAR = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
export const OCI_NONDISTRIBUTABLE_LAYER_TAR_GZIP = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip';
export const OCI_NONDISTRIBUTABLE_LAYER_TAR_ZSTD = 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd';

// Docker image manifest version 2, schema 1 (refused) and schema 2.
export const DOCKER_MANIFEST_SCHEMA1 = 'application/vnd.docker.distribution.manifest.v1+json';
export const DOCKER_MANIFEST_SCHEMA1_SIGNED = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
export const DOCKER_MANIFEST_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json';
export const DOCKER_LAYER = 'application/vnd.docker.image.rootfs.diff.tar.gzip';
export const DOCKER_FOREIGN_LAYER = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';

/** What a manifest of a known media type is; undefined where the type alone doesn't tell. */
export function manifestKindOf(mediaType: string): 'image' | 'index' | undefined {
  switch (mediaType) {
    case OCI_IMAGE_MANIFEST:
    case DOCKER_MANIFEST:
      return 'image';
    case OCI_IMAGE_INDEX:
    case DOCKER_MANIFEST_LIST:
      return 'index';
    default:
      return undefined;
  }
}

/** Whether a media type is one of Docker's schema 1, whose manifests this registry doesn't store. */
export function isSchema1(mediaType: string): boolean {
  return mediaType === DOCKER_MANIFEST_SCHEMA1 || mediaType === DOCKER_MANIFEST_SCHEMA1_SIGNED;
}

/**
 * Whether layers of this type may be missing from the registry, because clients fetch them elsewhere: foreign (Docker)
 * or non-distributable (image-spec layer.md), in any compression or encryption.
 */
export function isForeignLayer(mediaType: string): boolean {
  return (
    mediaType.startsWith('application/vnd.oci.image.layer.nondistributable.') ||
    mediaType.startsWith('application/vnd.docker.image.rootfs.foreign.')
  );
}

/** RFC 6838 section 4.2: two names of at most 127 characters. */
const essence = /^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/;

/**
 * The media type of a Content-Type header, or of a `mediaType` field: lower case, without parameters (which
 * distribution-spec, "Pushing Manifests", says to ignore). The result is safe to send as a header.
 * @throws RegistryError MediaTypeUnsupported
 */
export function parseMediaType(header: string): string {
  const mediaType = withoutParameters(header).toLowerCase();
  if (!essence.test(mediaType)) {
    throw new RegistryError('MediaTypeUnsupported', `${quote(header)} is not a media type (type/subtype, RFC 6838)`);
  }
  return mediaType;
}

/**
 * Whether an Accept header (RFC 9110 section 12.5.1; several fields joined by commas) takes `mediaType`. The most
 * specific range decides, so a type with `q=0` is refused though everything else is taken. Parameters other than q are
 * ignored, and a header that is absent, or has no range that can be read, takes everything.
 */
export function acceptsMediaType(acceptHeader: string | undefined, mediaType: string): boolean {
  const type = mediaType.slice(0, mediaType.indexOf('/'));
  let readable = false;
  let specificity = 0;
  let quality = 0;
  for (const element of (acceptHeader ?? '').split(',')) {
    const range = withoutParameters(element).toLowerCase();
    if (range === '') continue;
    readable = true;
    // A lone "*" is an old spelling of "*/*" that Java clients still send.
    const rank = range === mediaType ? 3 : range === `${type}/*` ? 2 : range === '*/*' || range === '*' ? 1 : 0;
    if (rank === 0 || rank < specificity) continue;
    const weight = qualityOf(element);
    quality = rank > specificity ? weight : Math.max(quality, weight);
    specificity = rank;
  }
  return !readable || quality > 0;
}

function withoutParameters(text: string): string {
  const semicolon = text.indexOf(';');
  return (semicolon < 0 ? text : text.slice(0, semicolon)).trim();
}

/** The weight of an element of Accept, 0 to 1; 1 where it is absent or can't be read. */
function qualityOf(element: string): number {
  for (const parameter of element.split(';').slice(1)) {
    const weight = /^q=(0(?:\.\d*)?|1(?:\.0*)?)$/i.exec(parameter.trim())?.[1];
    if (weight !== undefined) return Number(weight);
  }
  return 1;
}
