import { isFailure } from '../../errors.js';
import { type Digest, digestOf, algorithmOf, parseDigest } from '../../oci/digest.js';
import { type Manifest, parseManifest } from '../../oci/manifest.js';
import { isRepositoryName, parseTag, type RepositoryName, type Tag } from '../../oci/name.js';
import { findSegmentKey, type SegmentKey } from '../../storage/segment-store.js';

/** A segment as it was written down. */
export interface RecordedSegment {
  readonly key: SegmentKey;
  readonly length: number;
  readonly objectSize: number | null;
  /** In base64, if the bytes lay in the row. */
  readonly bytes: string | null;
}

interface Base {
  readonly id: number;
  readonly at: string;
}

/** A line of the records, known to be well formed. */
export type RecordLine = Base &
  (
    | { kind: 'blob'; digest: Digest; size: number | null; segments: RecordedSegment[] | null }
    | { kind: 'link' | 'unlink' | 'manifest-removed'; repository: RepositoryName; digest: Digest }
    | {
        kind: 'manifest';
        repository: RepositoryName;
        digest: Digest;
        /** Null: it was gone by then. */
        mediaType: string | null;
        payload: Buffer | null;
      }
    | { kind: 'tag'; repository: RepositoryName; tag: Tag; digest: Digest }
    | { kind: 'tag-removed'; repository: RepositoryName; tag: Tag }
  );

/** What was pushed has passed the limits of its day. */
const STORED = { maxBytes: Number.MAX_SAFE_INTEGER, maxDepth: 1000, maxDescriptors: Number.MAX_SAFE_INTEGER };

/** @throws when it is no manifest */
export function readStored(payload: Uint8Array, mediaType: string): Manifest {
  return parseManifest(payload, mediaType, STORED);
}

/** The blobs that must be in the repository of a manifest. */
export function needsOf(manifest: Manifest): { digest: Digest; size: number }[] {
  return manifest.references.filter(({ required, kind }) => required && kind !== 'manifest');
}

/** Reads a line. @throws Error in words that say what is wrong with it. */
export function parseLine(text: string): RecordLine {
  const line = JSON.parse(text) as Record<string, unknown>;
  const { id, at, kind } = line;
  if (typeof id !== 'number' || !Number.isSafeInteger(id) || typeof at !== 'string' || Number.isNaN(Date.parse(at)))
    throw new Error('it has no id, or no time');
  const base = { id, at };
  switch (kind) {
    case 'blob':
      return { ...base, kind, digest: digestIn(line), ...bodyIn(line) };
    case 'link':
    case 'unlink':
    case 'manifest-removed':
      return { ...base, kind, repository: repositoryIn(line), digest: digestIn(line) };
    case 'manifest':
      return { ...base, kind, repository: repositoryIn(line), digest: digestIn(line), ...payloadIn(line) };
    case 'tag':
      return { ...base, kind, repository: repositoryIn(line), tag: parseTag(String(line.tag)), digest: digestIn(line) };
    case 'tag-removed':
      return { ...base, kind, repository: repositoryIn(line), tag: parseTag(String(line.tag)) };
    default:
      throw new Error(`its kind is ${String(kind)}`);
  }
}

function digestIn({ digest }: Record<string, unknown>): Digest {
  return parseDigest(String(digest));
}

function repositoryIn({ repository }: Record<string, unknown>): RepositoryName {
  if (typeof repository !== 'string' || !isRepositoryName(repository)) throw new Error('its repository has no name');
  return repository;
}

function bodyIn({ gone, size, segments }: Record<string, unknown>) {
  if (gone === true) return { size: null, segments: null };
  if (!isSize(size)) throw new Error('its size is none');
  // PostgreSQL makes null of no rows.
  const list = (segments ?? []) as unknown[];
  const read = list.map((item) => {
    const { key, length, objectSize = null, bytes = null } = item as Record<string, unknown>;
    const known = typeof key === 'string' ? findSegmentKey(key) : undefined;
    if (!known || !isSize(length) || (objectSize !== null && !isSize(objectSize)))
      throw new Error('a segment of it is none');
    if (bytes !== null && (typeof bytes !== 'string' || Buffer.byteLength(bytes, 'base64') !== length))
      throw new Error('the bytes of a segment are not as many as it has');
    return { key: known, length, objectSize, bytes };
  });
  if (read.reduce((sum, { length }) => sum + length, 0) !== size) throw new Error('its segments do not add up');
  return { size, segments: read };
}

function payloadIn(line: Record<string, unknown>) {
  const { gone, mediaType, payload } = line;
  if (gone === true) return { mediaType: null, payload: null };
  if (typeof mediaType !== 'string' || typeof payload !== 'string') throw new Error('it has no payload');
  const bytes = Buffer.from(payload, 'base64');
  const digest = digestIn(line);
  if (digestOf(algorithmOf(digest), bytes) !== digest) throw new Error(`its payload is not ${digest}`);
  return { mediaType, payload: bytes };
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** Why something failed, in a line. */
export function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const detail = isFailure(error) && error.detail ? ` ${JSON.stringify(error.detail)}` : '';
  return `${error.message}${detail}`;
}
