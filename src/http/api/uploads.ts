import { type Digest, parseDigest } from '../../oci/digest.js';
import { RegistryError } from '../../errors.js';
import type { Issue } from '../../metadata/failures.js';
import type { Context } from '../context.js';
import { contentLength, hasBody, readRequest } from '../request-body.js';
import type { CheckedRequest } from './contract.js';
import { readForm, type UploadedFile } from './upload-form.js';

/** A file that is being uploaded, and what it is to be. */
export interface Upload extends Pick<UploadedFile, 'read' | 'length'> {
  readonly release_id: string;
  readonly name?: string;
  readonly path?: string;
  readonly media_type?: string;
  readonly artifact_type?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly checksum: Digest | undefined;
  /** What is wrong with what was said of it, to be refused with whatever else is. */
  readonly issues: readonly Issue[];
}

const NAMES = ['release_id', 'name', 'path', 'media_type', 'checksum', 'artifact_type', 'metadata'];
const LENGTHS: Readonly<Record<string, number>> = { name: 255, path: 1024, media_type: 255, artifact_type: 255 };
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const MEDIA_TYPE = /^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}([ \t]*;.*)?$/;

/** Reads the head of an upload: a form up to its file, or a body that is the file, described by the query. */
export function uploadReader(idleMs: number) {
  return async (ctx: Context, request: CheckedRequest): Promise<Upload> => {
    const type = ctx.req.headers['content-type'] ?? '';
    if (/^multipart\//i.test(type) && !/^multipart\/form-data\b/i.test(type))
      throw new RegistryError('BodyUnsupported', 'of the multipart types only multipart/form-data is read');
    const file = /^multipart\/form-data\b/i.test(type) ? await readForm(ctx.req, ctx.res, idleMs) : bodyOf(ctx, idleMs);
    const said = describe(request, file);
    return { ...said, length: file.length, read: file.read };
  };
}

function bodyOf(ctx: Context, idleMs: number): UploadedFile {
  const length = hasBody(ctx.req) ? contentLength(ctx.req) : 0;
  return {
    fields: {},
    filename: undefined,
    mediaType: undefined,
    length,
    read: (signal) => readRequest(ctx.req, ctx.res, idleMs, signal),
  };
}

/** What query and form say, and where neither does the file's own name and type. */
function describe(
  { query }: CheckedRequest,
  { fields, filename, mediaType }: UploadedFile,
): Omit<Upload, 'read' | 'length'> {
  const issues: Issue[] = [];
  const said: Record<string, string> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (!NAMES.includes(name)) issues.push({ loc: ['body', name], msg: 'no such field', type: 'extra_forbidden' });
    else said[name] = value;
  }
  for (const name of NAMES) {
    const value = query[name];
    if (value === undefined) continue;
    if (said[name] !== undefined && said[name] !== value)
      issues.push({ loc: ['body', name], msg: 'the query says another', type: 'value_error' });
    said[name] = String(value);
  }
  const metadata = metadataOf(said.metadata, issues);
  for (const [name, longest] of Object.entries(LENGTHS)) {
    const length = said[name]?.length ?? 1;
    if (length < 1 || length > longest)
      issues.push({ loc: ['body', name], msg: `1 to ${longest} characters`, type: 'string_too_long' });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is refused.
    if (/[\u0000-\u001f\u007f]|\p{Surrogate}/u.test(said[name] ?? ''))
      issues.push({ loc: ['body', name], msg: 'holds a control character', type: 'value_error' });
  }
  if (!UUID.test(said.release_id ?? ''))
    issues.push({
      loc: [query.release_id === undefined ? 'body' : 'query', 'release_id'],
      msg: said.release_id === undefined ? 'release_id is needed, in the query or before the file' : 'not an id',
      type: said.release_id === undefined ? 'missing' : 'uuid_parsing',
    });
  for (const name of ['media_type', 'artifact_type'])
    if (said[name] !== undefined && !MEDIA_TYPE.test(said[name]))
      issues.push({ loc: ['body', name], msg: 'not a media type', type: 'string_pattern_mismatch' });
  const checksum = checksumOf(said.checksum, issues);
  const { release_id = '', name, path, media_type = typeOf(mediaType), artifact_type } = said;
  const fallback = name === undefined && path === undefined ? filename : undefined;
  return {
    release_id,
    checksum,
    issues,
    ...(name === undefined && fallback === undefined ? {} : { name: name ?? fallback ?? '' }),
    ...(path === undefined ? {} : { path }),
    ...(media_type === undefined ? {} : { media_type }),
    ...(artifact_type === undefined ? {} : { artifact_type }),
    ...(metadata === undefined ? {} : { metadata }),
  };
}

/** What a client names a type of by default says nothing. */
function typeOf(mediaType: string | undefined): string | undefined {
  return mediaType !== undefined && MEDIA_TYPE.test(mediaType) && mediaType !== 'text/plain' ? mediaType : undefined;
}

function checksumOf(text: string | undefined, issues: Issue[]): Digest | undefined {
  if (text === undefined) return undefined;
  try {
    return parseDigest(text);
  } catch {
    issues.push({
      loc: ['body', 'checksum'],
      msg: 'not sha256:<hex> or sha512:<hex>',
      type: 'string_pattern_mismatch',
    });
    return undefined;
  }
}

function metadataOf(text: string | undefined, issues: Issue[]): Readonly<Record<string, unknown>> | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value) && !/\\u0000|\\ud[89a-f]/i.test(text))
      return value as Readonly<Record<string, unknown>>;
  } catch {
    // Told below.
  }
  issues.push({ loc: ['body', 'metadata'], msg: 'not a JSON object', type: 'json_invalid' });
  return undefined;
}
