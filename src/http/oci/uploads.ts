import { algorithmOf, digestOf, parseAlgorithm, parseDigest, type Digest } from '../../oci/digest.js';
import { isRepositoryName, type RepositoryName } from '../../oci/name.js';
import { parseContentRange } from '../../oci/range.js';
import { RegistryError } from '../../errors.js';
import type { Blobs } from '../../registry/blobs.js';
import { isUploadId } from '../../registry/upload-sessions.js';
import type { UploadBody, Uploads } from '../../registry/uploads.js';
import { actorOf, type Context } from '../context.js';
import { contentLength, hasBody, readRequest } from '../request-body.js';
import { uploadRange } from './failures.js';
import { locate } from './location.js';
import { parameter, part } from './parameters.js';
import { warn } from './warning.js';

export interface UploadRoutesOptions {
  readonly uploads: Uploads;
  readonly blobs: Blobs;
  readonly chunkMinBytes: number;
  readonly idleMs: number;
}

/** The handlers of upload sessions (distribution-spec, "Pushing blobs", "Cancel a blob upload", "Mounting a blob"). */
export function uploadHandlers({ uploads, blobs, chunkMinBytes, idleMs }: UploadRoutesOptions) {
  /** POST …/blobs/uploads/ (end-4a, 4b, 4c, 11). */
  async function post(ctx: Context): Promise<void> {
    const { repository } = ctx.state;
    const wanted = parameter(ctx, 'digest');
    const mount = parameter(ctx, 'mount');
    const announced = parameter(ctx, 'digest-algorithm');
    const digest = wanted === undefined ? undefined : parseDigest(wanted);
    if (mount !== undefined && (await mounted(ctx, repository, parseDigest(mount)))) return;
    const algorithm = announced === undefined ? (digest ? algorithmOf(digest) : 'sha256') : parseAlgorithm(announced);
    const bytes = digest !== undefined && hasBody(ctx.req) ? contentLength(ctx.req) : undefined;
    const id = await uploads.create(repository, algorithm, actorOf(ctx), { bytes, digest });
    const target = { id, repository, actor: actorOf(ctx) };
    // A digest without a body is a client that asks whether a single POST will do; only the empty blob is already whole.
    if (digest === undefined || (!hasBody(ctx.req) && digest !== digestOf(algorithmOf(digest), new Uint8Array()))) {
      accepted(ctx, repository, id, 0);
      if (chunkMinBytes > 0) ctx.set('OCI-Chunk-Min-Length', String(chunkMinBytes));
      return;
    }
    try {
      await uploads.finish(target, digest, bodyOf(ctx));
    } catch (error) {
      // Nobody was told of the session, so nobody can go on with it.
      await uploads.cancel(target).catch(() => undefined);
      throw error;
    }
    created(ctx, repository, digest);
  }

  async function mounted(ctx: Context, repository: RepositoryName, digest: Digest): Promise<boolean> {
    const from = parameter(ctx, 'from');
    // What can't be a name is a source that isn't there: ollama makes one of the path of a model's file.
    if (from !== undefined && !isRepositoryName(from)) return false;
    const mayPull = (name: RepositoryName) => ctx.state.access.mayMountFrom(name);
    const source = await blobs.mount(repository, digest, from, mayPull, actorOf(ctx));
    if (source !== undefined) created(ctx, repository, digest);
    return source !== undefined;
  }

  /** PATCH of a session (end-5). */
  async function patch(ctx: Context): Promise<void> {
    const target = targetOf(ctx);
    const body = bodyOf(ctx);
    const offset = body ? await uploads.append(target, body) : await uploads.status(target);
    accepted(ctx, target.repository, target.id, offset);
    // The last chunk may be small, so only what came before this one can be wrong.
    const begin = offset - (body?.length ?? offset);
    if (begin > 0 && begin < chunkMinBytes)
      warn(ctx, `chunks before the last should have at least ${chunkMinBytes} bytes (OCI-Chunk-Min-Length)`);
  }

  /** PUT of a session: its end (end-6). */
  async function put(ctx: Context): Promise<void> {
    const target = targetOf(ctx);
    const wanted = parameter(ctx, 'digest');
    if (wanted === undefined) throw new RegistryError('DigestInvalid', 'the parameter digest is missing');
    const digest = parseDigest(wanted);
    const body = bodyOf(ctx);
    if (body === undefined || body.length !== undefined) await uploads.finish(target, digest, body);
    else await finishChunked(target, digest, body);
    created(ctx, target.repository, digest);
  }

  /** GET of a session: how far it is (end-13). Asking never disturbs a writer. */
  async function get(ctx: Context): Promise<void> {
    const target = targetOf(ctx);
    const offset = await uploads.status(target);
    accepted(ctx, target.repository, target.id, offset);
    ctx.status = 204;
  }

  /** DELETE of a session (end-14). */
  async function cancel(ctx: Context): Promise<void> {
    await uploads.cancel(targetOf(ctx));
    ctx.status = 204;
  }

  function targetOf(ctx: Context) {
    const { repository } = ctx.state;
    const id = part(ctx, 'upload');
    if (!isUploadId(id)) throw new RegistryError('UploadUnknown', 'no such upload in this repository');
    return { id, repository, actor: actorOf(ctx) };
  }

  /** The bytes that the request brings, if it brings any. @throws 'RangeInvalid', 'SizeInvalid' */
  function bodyOf(ctx: Context): UploadBody | undefined {
    const header = ctx.req.headers['content-range'];
    const length = hasBody(ctx.req) ? contentLength(ctx.req) : 0;
    // There is no way to write the range of nothing, so clients that bring nothing may write anything.
    if (length === 0 && !isContentRange(header)) return undefined;
    const range = header === undefined ? undefined : parseContentRange(header);
    if (range && length !== undefined && range.end - range.start !== length) {
      throw new RegistryError(
        'SizeInvalid',
        `Content-Range spans ${range.end - range.start} bytes, Content-Length says ${length}`,
      );
    }
    return {
      from: range?.start,
      length: range ? range.end - range.start : length,
      read: (signal) => readRequest(ctx.req, ctx.res, idleMs, signal),
    };
  }

  /** A chunked body tells only by its first byte whether the closing PUT brings the last bytes or none. */
  async function finishChunked(target: ReturnType<typeof targetOf>, digest: Digest, body: UploadBody): Promise<void> {
    const controller = new AbortController();
    const bytes = body.read(controller.signal)[Symbol.asyncIterator]();
    try {
      const first = await bytes.next();
      if (first.done) return await uploads.finish(target, digest, undefined);
      await uploads.finish(target, digest, {
        ...body,
        async *read(signal) {
          signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true });
          yield first.value;
          yield* { [Symbol.asyncIterator]: () => bytes };
        },
      });
    } finally {
      await bytes.return?.();
    }
  }

  return { post, patch, put, get, cancel };
}

function isContentRange(header: string | undefined): boolean {
  try {
    return header !== undefined && parseContentRange(header).end > 0;
  } catch {
    return false;
  }
}

function accepted(ctx: Context, repository: RepositoryName, id: string, offset: number): void {
  ctx.status = 202;
  locate(ctx, `/v2/${repository}/blobs/uploads/${id}`);
  ctx.set('Range', uploadRange(offset));
  ctx.set('Upload-Offset', String(offset));
  ctx.set('Docker-Upload-UUID', id);
  ctx.body = null;
  ctx.status = 202;
  ctx.set('Content-Length', '0');
}

function created(ctx: Context, repository: RepositoryName, digest: Digest): void {
  ctx.body = null;
  ctx.status = 201;
  locate(ctx, `/v2/${repository}/blobs/${digest}`);
  ctx.set('Docker-Content-Digest', digest);
  ctx.set('Content-Length', '0');
}
