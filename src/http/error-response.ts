import type { Middleware } from 'koa';
import { isFailure, type RegistryError } from '../errors.js';
import { type Log, withoutSecrets } from '../log.js';
import { contentLength, drain, isUnread } from './request-body.js';
import { pathOf, type RequestState } from './context.js';
import { SECURITY_HEADERS } from './security-headers.js';
import { trafficOf } from './traffic.js';

/** How long a client may go on sending a body that is refused, in milliseconds. */
const LINGER_MS = 2_000;
/** A refused body of at most this many bytes, if it comes within the time, does not cost the connection. */
const SMALL_BYTES = 64 * 1024;
const SMALL_MS = 100;
/** What is true of every response, and not of what it would have been. */
const KEPT = new Set(
  [
    'X-Request-Id',
    'Set-Cookie',
    'Session-Ended',
    'Strict-Transport-Security',
    'Vary',
    'Access-Control-Allow-Origin',
    'Access-Control-Allow-Credentials',
    'Access-Control-Expose-Headers',
    ...Object.keys(SECURITY_HEADERS),
  ].map((name) => name.toLowerCase()),
);

/** Writes a failure to the response, in the form of the door that was used; undefined is an error of ours, not to be told. */
export type WriteFailure = (ctx: Parameters<Middleware<RequestState>>[0], error: RegistryError | undefined) => void;

/**
 * The outermost middleware: the only place where an error becomes a response, and the only one that ends a response
 * whose request was not read to its end.
 */
export function errorResponse(log: Log, write: WriteFailure): Middleware<RequestState> {
  return async (ctx, next) => {
    try {
      await next();
    } catch (error) {
      const { requestId } = ctx.state;
      if (isFailure(error, 'ClientGone')) {
        log.debug({ err: error, requestId }, 'the client broke off');
        ctx.respond = false;
        ctx.res.destroy();
        return;
      }
      const failure = isFailure(error) ? error : undefined;
      const ours =
        !failure || ['Unavailable', 'BlobDamaged', 'ManifestDamaged', 'StorageFull'].includes(failure.failure);
      if (ours) log.error({ err: error, requestId, method: ctx.method, path: pathOf(ctx.req) }, 'a request failed');
      if (ctx.res.headersSent) {
        ctx.respond = false;
        ctx.res.destroy();
        return;
      }
      for (const name of ctx.res.getHeaderNames()) if (!KEPT.has(name)) ctx.res.removeHeader(name);
      write(ctx, failure);
      leaveSecretsOut(ctx);
    }
    if (!isUnread(ctx.req) || ctx.respond === false) return;
    if ((contentLength(ctx.req) ?? Number.POSITIVE_INFINITY) <= SMALL_BYTES) await drain(ctx.req, SMALL_MS);
    if (isUnread(ctx.req)) await refuse(ctx);
  };
}

/** An error says what was wrong by repeating it, and what stands in the wrong place may be a key. */
function leaveSecretsOut(ctx: Parameters<Middleware<RequestState>>[0]): void {
  const said = JSON.stringify(ctx.body);
  const clean = withoutSecrets(said);
  if (clean !== said) ctx.body = clean;
}

/** Answers while the client may still be sending: the whole answer, then a moment to read it, then the end. */
async function refuse(ctx: Parameters<Middleware<RequestState>>[0]): Promise<void> {
  const content: unknown = ctx.body ?? '';
  const body = typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content);
  ctx.respond = false;
  ctx.res.statusCode = ctx.status;
  ctx.res.setHeader('Connection', 'close');
  ctx.res.setHeader('Content-Length', Buffer.byteLength(body));
  ctx.res.flushHeaders();
  trafficOf(ctx.req)?.send(Buffer.byteLength(body));
  if (body.length > 0) ctx.res.write(body);
  await drain(ctx.req, LINGER_MS);
  ctx.res.end();
}
