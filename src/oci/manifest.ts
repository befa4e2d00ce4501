import { RegistryError } from '../errors.js';
import { type Annotations, type Descriptor, parseAnnotations, parseDescriptor } from './descriptor.js';
import type { Digest } from './digest.js';
import { type JsonObject, invalidField, optionalString, parseJson, requireObject } from './json.js';
import {
  OCI_IMAGE_INDEX,
  OCI_IMAGE_MANIFEST,
  isForeignLayer,
  isSchema1,
  manifestKindOf,
  parseMediaType,
} from './media-types.js';

/** What a manifest says. The bytes that were pushed stay the truth; this is never written back as JSON. */
export interface Manifest {
  /** As pushed: of the Content-Type, else of the body, else by shape; lower case, without parameters. */
  readonly mediaType: string;
  readonly kind: 'image' | 'index';
  /** `artifactType`, else an image's `config.mediaType` (distribution-spec, "Listing Referrers"). */
  readonly artifactType: string | undefined;
  readonly subject: Digest | undefined;
  readonly annotations: Annotations | undefined;
  /** Undefined for an index. */
  readonly config: Descriptor | undefined;
  /** In order, repetitions included; empty for an index. */
  readonly layers: readonly Descriptor[];
  /** In order, repetitions included; empty for an image. */
  readonly manifests: readonly Descriptor[];
  /** Everything that it names, each digest once, in the order config, layers, manifests, subject. */
  readonly references: readonly ManifestReference[];
}

export interface ManifestReference {
  /**
   * The field that names it. What stands in `manifests` need not be a manifest: image-spec image-index.md allows any
   * media type there, and BuildKit's cache lists blobs.
   */
  readonly kind: 'config' | 'layer' | 'manifest' | 'subject';
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  readonly mediaType: string;
  /**
   * Whether the repository must hold it before the manifest: false for a subject, which may come later, and for
   * foreign layers. `urls` or `data` don't change that, as clients may ignore both.
   */
  readonly required: boolean;
}

export interface ManifestLimits {
  readonly maxBytes: number;
  /** Objects and arrays within each other; `{"layers":[{}]}` is 3. */
  readonly maxDepth: number;
  /** Descriptors in config, layers, manifests and subject together. */
  readonly maxDescriptors: number;
}

const names = [
  'schemaVersion',
  'mediaType',
  'artifactType',
  'config',
  'layers',
  'manifests',
  'subject',
  'annotations',
  'fsLayers',
];

/**
 * Reads a pushed manifest (distribution-spec, "Pushing Manifests"; image-spec manifest.md and image-index.md), strictly
 * where two readers could see different things in it, and without looking into media types of configs and layers.
 * @param contentType of the request; undefined or empty takes the `mediaType` of the body
 * @throws RegistryError ManifestTooLarge, or ManifestInvalid naming the field
 */
export function parseManifest(bytes: Uint8Array, contentType: string | undefined, limits: ManifestLimits): Manifest {
  if (bytes.length > limits.maxBytes) {
    throw new RegistryError(
      'ManifestTooLarge',
      `manifest has ${bytes.length} bytes; at most ${limits.maxBytes} are accepted`,
    );
  }
  const document = requireObject(parseJson(bytes, limits.maxDepth), 'manifest', names);
  const declared = resolveMediaType(document, contentType);
  if (document.schemaVersion !== 2) throw invalidField('schemaVersion', 'is not 2');
  const kind = resolveKind(document, declared);

  const config = kind === 'image' ? parseDescriptor(document.config, 'config') : undefined;
  const layers = parseDescriptors(document, 'layers', limits);
  const manifests = parseDescriptors(document, 'manifests', limits);
  const subject = isPresent(document, 'subject') ? parseDescriptor(document.subject, 'subject') : undefined;
  const count = (config ? 1 : 0) + layers.length + manifests.length + (subject ? 1 : 0);
  if (count > limits.maxDescriptors) throw tooMany(limits);

  return {
    mediaType: declared ?? (kind === 'image' ? OCI_IMAGE_MANIFEST : OCI_IMAGE_INDEX),
    kind,
    artifactType: optionalString(document.artifactType, 'artifactType') ?? (config?.mediaType || undefined),
    subject: subject?.digest,
    annotations: parseAnnotations(document.annotations, 'annotations'),
    config,
    layers,
    manifests,
    references: collectReferences(config, layers, manifests, subject),
  };
}

/** The type that the request and the body agree on; undefined where neither says. */
function resolveMediaType(document: JsonObject, contentType: string | undefined): string | undefined {
  const ofRequest = readMediaType(contentType, 'Content-Type');
  const ofBody = readMediaType(optionalString(document.mediaType, 'mediaType'), 'mediaType');
  const declared = ofRequest ?? ofBody;
  if (document.schemaVersion === 1 || (declared !== undefined && isSchema1(declared))) {
    throw new RegistryError(
      'ManifestInvalid',
      'Docker image manifest version 2, schema 1 is not accepted; push an OCI image manifest or Docker schema 2',
    );
  }
  if (ofBody !== undefined && ofBody !== declared) {
    throw invalidField('mediaType', `is ${ofBody}, but the Content-Type of the request is ${declared}`);
  }
  return declared;
}

function readMediaType(text: string | undefined, field: string): string | undefined {
  if (text === undefined || text.trim() === '') return undefined;
  try {
    return parseMediaType(text);
  } catch (cause) {
    throw invalidField(field, 'is not a media type (type/subtype, RFC 6838)', cause);
  }
}

/**
 * Known types must have the shape that they promise; unknown ones are what their shape says. Never both shapes: a reader
 * that goes by the shape and one that goes by the type would see different contents.
 */
function resolveKind(document: JsonObject, mediaType: string | undefined): 'image' | 'index' {
  const hasImage = isPresent(document, 'config') || isPresent(document, 'layers');
  const hasIndex = 'manifests' in document;
  const kind = (mediaType && manifestKindOf(mediaType)) ?? (hasImage ? 'image' : hasIndex ? 'index' : undefined);
  if (!kind) throw invalidField('manifest', 'has neither a config nor manifests');
  for (const name of kind === 'image' ? ['manifests', 'fsLayers'] : ['config', 'layers', 'fsLayers']) {
    if (isPresent(document, name)) throw invalidField(name, `does not belong in an ${kind} manifest`);
  }
  if (kind === 'image' && !isPresent(document, 'config')) throw invalidField('config', 'is missing');
  if (kind === 'index' && !hasIndex) throw invalidField('manifests', 'is missing');
  return kind;
}

function isPresent(document: JsonObject, name: string): boolean {
  return document[name] !== undefined && document[name] !== null;
}

function parseDescriptors(document: JsonObject, name: 'layers' | 'manifests', limits: ManifestLimits): Descriptor[] {
  const value = document[name] ?? [];
  if (!Array.isArray(value)) throw invalidField(name, 'is not an array');
  if (value.length > limits.maxDescriptors) throw tooMany(limits);
  return value.map((item: unknown, index) => parseDescriptor(item, `${name}[${index}]`));
}

function tooMany(limits: ManifestLimits): RegistryError {
  return new RegistryError('ManifestInvalid', `manifest has more than ${limits.maxDescriptors} descriptors`);
}

function collectReferences(
  config: Descriptor | undefined,
  layers: readonly Descriptor[],
  manifests: readonly Descriptor[],
  subject: Descriptor | undefined,
): ManifestReference[] {
  const references = new Map<Digest, ManifestReference>();
  const add = (kind: ManifestReference['kind'], { digest, size, mediaType }: Descriptor, field: string): void => {
    const required = kind !== 'subject' && !(kind === 'layer' && isForeignLayer(mediaType));
    const first = references.get(digest);
    if (first !== undefined && first.size !== size) {
      throw invalidField(
        `${field}.size`,
        `is ${size}, but the same digest has ${first.size} elsewhere in the manifest`,
      );
    }
    if (first === undefined) references.set(digest, { kind, digest, size, mediaType, required });
    else if (required && !first.required) references.set(digest, { ...first, required });
  };
  if (config) add('config', config, 'config');
  for (const [index, layer] of layers.entries()) add('layer', layer, `layers[${index}]`);
  for (const [index, manifest] of manifests.entries()) add('manifest', manifest, `manifests[${index}]`);
  if (subject) add('subject', subject, 'subject');
  return [...references.values()];
}
