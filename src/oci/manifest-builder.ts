import { type Annotations, type Descriptor, parseAnnotations, parseDescriptor } from './descriptor.js';
import { digestOf } from './digest.js';
import { invalidField } from './json.js';
import { parseManifest } from './manifest.js';
import { OCI_EMPTY, OCI_IMAGE_MANIFEST, parseMediaType } from './media-types.js';

/** The content of a config that has nothing to say. Not to be written to. */
export const EMPTY_CONFIG_BYTES: Uint8Array = Buffer.from('{}');

/** image-spec manifest.md, "Guidance for an Empty Descriptor": its blob must be in the repository all the same. */
export const EMPTY_CONFIG: Descriptor = Object.freeze({
  ...describeBytes(OCI_EMPTY, EMPTY_CONFIG_BYTES),
  data: 'e30=',
});

export interface ManifestParts {
  /** Required where the config is empty. */
  readonly artifactType?: string;
  /** The empty config where absent. */
  readonly config?: Descriptor;
  /** As oras does, the empty descriptor stands where there is none. */
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  /** As given: unlike oras, nothing adds the time of creation, so that the same parts are the same bytes. */
  readonly annotations?: Annotations;
}

/** The descriptor of bytes that are all in memory. */
export function describeBytes(mediaType: string, bytes: Uint8Array): Descriptor {
  return { mediaType, digest: digestOf('sha256', bytes), size: bytes.length };
}

/**
 * The bytes of an OCI image manifest (image-spec 1.1 manifest.md), field by field as oras writes them. What oras refuses to
 * pack, and what our own parser would refuse, is refused.
 * @throws RegistryError ManifestInvalid, naming the field
 */
export function buildManifest(parts: ManifestParts): Uint8Array {
  const config = parts.config === undefined ? EMPTY_CONFIG : descriptorOf(parts.config, 'config');
  const layers = parts.layers.map((layer, index) => descriptorOf(layer, `layers[${index}]`));
  const annotations = parseAnnotations(parts.annotations, 'annotations');
  checkTypes(parts.artifactType, config);
  checkCreated(annotations);

  const document = {
    schemaVersion: 2,
    mediaType: OCI_IMAGE_MANIFEST,
    ...(parts.artifactType && { artifactType: parts.artifactType }),
    config: written(config),
    layers: (layers.length > 0 ? layers : [EMPTY_CONFIG]).map(written),
    ...(parts.subject && { subject: written(descriptorOf(parts.subject, 'subject')) }),
    ...(hasAny(annotations) && { annotations: sorted(annotations) }),
  };
  const bytes = Buffer.from(encode(document));
  // How large a manifest may be is for who stores it.
  const unlimited = { maxBytes: Infinity, maxDepth: Infinity, maxDescriptors: Infinity };
  parseManifest(bytes, OCI_IMAGE_MANIFEST, unlimited);
  return bytes;
}

function descriptorOf(value: Descriptor, field: string): Descriptor {
  const descriptor = parseDescriptor(value, field);
  if (descriptor.mediaType === '') throw invalidField(`${field}.mediaType`, 'is empty');
  return descriptor;
}

/** image-spec manifest.md, "Guidelines for Artifact Usage", which oras holds to. */
function checkTypes(artifactType: string | undefined, config: Descriptor): void {
  if (!artifactType && config.mediaType === OCI_EMPTY) {
    throw invalidField('artifactType', 'is missing, and the config is empty');
  }
  const types = { 'config.mediaType': config.mediaType, ...(artifactType && { artifactType }) };
  for (const [field, type] of Object.entries(types)) {
    if (normal(type) !== type.toLowerCase()) {
      throw invalidField(field, 'is not a media type without parameters (type/subtype, RFC 6838)');
    }
  }
}

function normal(mediaType: string): string | undefined {
  try {
    return parseMediaType(mediaType);
  } catch {
    return undefined;
  }
}

const CREATED = 'org.opencontainers.image.created';
const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/;

function checkCreated(annotations: Annotations | undefined): void {
  const created = annotations !== undefined && Object.hasOwn(annotations, CREATED) ? annotations[CREATED] : undefined;
  if (created !== undefined && !(rfc3339.test(created) && !Number.isNaN(Date.parse(created)))) {
    throw invalidField(`annotations["${CREATED}"]`, 'is not a date and time (RFC 3339)');
  }
}

/** The fields that the specification has, in the order of its Go types. */
function written(descriptor: Descriptor): object {
  const { mediaType, digest, size, urls, annotations, data, platform, artifactType } = descriptor;
  return {
    mediaType,
    digest,
    size,
    ...(urls && urls.length > 0 && { urls }),
    ...(hasAny(annotations) && { annotations: sorted(annotations) }),
    ...(data !== undefined && { data }),
    ...(platform && { platform }),
    ...(artifactType !== undefined && { artifactType }),
  };
}

function hasAny(annotations: Annotations | undefined): annotations is Annotations {
  return annotations !== undefined && Object.keys(annotations).length > 0;
}

/** Names in the order of their bytes; a Map's, as an object would put those that look like numbers first. */
function sorted(annotations: Annotations): ReadonlyMap<string, string> {
  const names = Object.entries(annotations).map(([name, text]) => ({ name, text, bytes: Buffer.from(name) }));
  names.sort((one, other) => Buffer.compare(one.bytes, other.bytes));
  return new Map(names.map(({ name, text }) => [name, text]));
}

/** JSON as Go's encoding/json writes it: compact, and safe to stand in a page. */
function encode(value: unknown): string {
  if (value instanceof Map) return members([...value.entries()]);
  if (Array.isArray(value)) return `[${value.map(encode).join(',')}]`;
  if (typeof value === 'object' && value !== null) return members(Object.entries(value));
  return escaped(JSON.stringify(value));
}

function members(entries: readonly (readonly [unknown, unknown])[]): string {
  return `{${entries.map(([name, value]) => `${encode(name)}:${encode(value)}`).join(',')}}`;
}

function escaped(json: string): string {
  return json.replace(/[<>&\u2028\u2029]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
