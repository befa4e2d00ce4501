import type { Middleware } from 'koa';
import type { RequestState } from '../context.js';
import { pathOf } from '../context.js';

/** What pages of other sites may send, and read of the answers, beside what any page may. */
const ALLOWED = {
  'Access-Control-Allow-Methods': 'GET, HEAD, POST, PUT, PATCH, DELETE',
  'Access-Control-Allow-Headers':
    'Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Range, X-API-Key, X-Request-Id',
  'Access-Control-Max-Age': '600',
};
const EXPOSED =
  'Accept-Ranges, Allow, Content-Disposition, Content-Range, Docker-Content-Digest, ETag, Link, Location, Retry-After, WWW-Authenticate, X-Request-Id';

/**
 * Cross-origin requests below /api (Fetch Standard, "CORS protocol"), from the origins of the operator alone. An answer to
 * anybody (`*`) never says that credentials may be used, by which the browser would add them unasked.
 * @param origins such as `https://models.example.com`, or `*`; empty: none.
 */
export function allowOrigins(origins: readonly string[]): Middleware<RequestState> {
  const anybody = origins.includes('*');
  const known = new Set(origins);
  return async (ctx, next) => {
    if (known.size === 0 || !pathOf(ctx.req).startsWith('/api/')) return await next();
    if (!anybody) ctx.vary('Origin');
    const { origin } = ctx.req.headers;
    if (origin === undefined || !(anybody || known.has(origin))) return await next();
    ctx.set('Access-Control-Allow-Origin', anybody ? '*' : origin);
    if (!anybody) ctx.set('Access-Control-Allow-Credentials', 'true');
    if (ctx.method === 'OPTIONS' && ctx.req.headers['access-control-request-method'] !== undefined) {
      ctx.set(ALLOWED);
      ctx.status = 204;
      return;
    }
    ctx.set('Access-Control-Expose-Headers', EXPOSED);
    await next();
  };
}
