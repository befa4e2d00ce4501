import { type Digest, algorithmOf, digestOf, parseDigest } from './digest.js';
import { invalidField, optionalString, requireObject, requireString } from './json.js';

export type Annotations = Readonly<Record<string, string>>;

/** The platform of an entry of an index, as it was written; nothing here depends on it (image-spec image-index.md). */
export type Platform = Readonly<Record<string, unknown>>;

/** image-spec descriptor.md */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Annotations;
  readonly urls?: readonly string[];
  /** The content itself, in base64; known to have `size` and `digest`. */
  readonly data?: string;
  readonly platform?: Platform;
  /** Ollama's, and no part of the specification: the path of a tensor or a config in the model. */
  readonly name?: string;
  /** KitOps' for the entries of an index of ModelKits, and no part of the specification: what the model is, by itself. */
  readonly modelMetadata?: Readonly<Record<string, unknown>>;
}

const names = ['mediaType', 'digest', 'size', 'artifactType', 'annotations', 'urls', 'data', 'platform'];

/**
 * Reads a descriptor out of parsed JSON. Media types are not looked into, and unknown properties are ignored.
 * @param field its path in the manifest, for messages
 * @throws RegistryError ManifestInvalid, naming the property
 */
export function parseDescriptor(value: unknown, field: string): Descriptor {
  const object = requireObject(value, field, names);
  const digest = requireDigest(object.digest, `${field}.digest`);
  const size = requireSize(object.size, `${field}.size`);
  const artifactType = optionalString(object.artifactType, `${field}.artifactType`);
  const annotations = parseAnnotations(object.annotations, `${field}.annotations`);
  const urls = parseUrls(object.urls, `${field}.urls`);
  const data = parseData(object.data, `${field}.data`, digest, size);
  const platform = object.platform ?? undefined;
  return {
    mediaType: requireString(object.mediaType, `${field}.mediaType`),
    digest,
    size,
    ...(artifactType !== undefined && { artifactType }),
    ...(annotations !== undefined && { annotations }),
    ...(urls !== undefined && { urls }),
    ...(data !== undefined && { data }),
    ...(platform !== undefined && { platform: requireObject(platform, `${field}.platform`, []) }),
    // Elsewhere it may be anything.
    ...(typeof object.name === 'string' && object.name !== '' && { name: object.name }),
    ...(isMap(object.modelMetadata) && { modelMetadata: object.modelMetadata }),
  };
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Reads a map of strings (image-spec annotations.md); undefined where it is absent.
 * @throws RegistryError ManifestInvalid, naming the annotation
 */
export function parseAnnotations(value: unknown, field: string): Annotations | undefined {
  if (value === undefined || value === null) return undefined;
  const object = requireObject(value, field, []);
  for (const [name, text] of Object.entries(object)) {
    requireString(name, `a name in ${field}`);
    requireString(text, `${field}[${JSON.stringify(name.slice(0, 80))}]`);
  }
  return object as Annotations;
}

function requireDigest(value: unknown, field: string): Digest {
  const text = requireString(value, field);
  try {
    return parseDigest(text);
  } catch (cause) {
    throw invalidField(field, `is invalid: ${cause instanceof Error ? cause.message : 'not a digest'}`, cause);
  }
}

function requireSize(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw invalidField(field, value === undefined ? 'is missing' : 'is not a whole number from 0 to 2^53-1');
  }
  return value + 0; // JSON has a -0, which is 0
}

function parseUrls(value: unknown, field: string): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) throw invalidField(field, 'is not an array');
  return value.map((url: unknown, index) => requireString(url, `${field}[${index}]`));
}

/** Content that differs from what the digest names would be believed by clients that never fetch the blob. */
function parseData(value: unknown, field: string, digest: Digest, size: number): string | undefined {
  const data = optionalString(value, field);
  if (data === undefined) return undefined;
  const content = Buffer.from(data, 'base64');
  if (content.toString('base64') !== data) throw invalidField(field, 'is not base64');
  if (content.length !== size || digestOf(algorithmOf(digest), content) !== digest) {
    throw invalidField(field, 'is not the content that the size and digest beside it describe');
  }
  return data;
}
