import type { Answer } from '../../metadata/idempotency.js';
import type { Page } from '../../metadata/pages.js';
import { ifNoneMatch } from '../../oci/range.js';
import type { Context } from '../context.js';
import { etagOf } from './caller.js';

/** Answers one resource, with its ETag; 304 if the client has it. */
export function sendResource(ctx: Context, resource: object, status = 200): void {
  const etag = etagOf(resource);
  ctx.set('ETag', etag);
  ctx.set('Cache-Control', 'private, no-cache');
  if (status === 200 && ctx.method !== 'PUT' && ifNoneMatch(ctx.req.headers['if-none-match'], etag)) {
    ctx.status = 304;
    return;
  }
  sendJson(ctx, status, resource);
}

/** Answers a page of a list, with a Link to the next one (RFC 8288). */
export function sendPage(ctx: Context, page: Page<object>): void {
  const { items, next, total } = page;
  if (next !== null) {
    const query = new URLSearchParams(ctx.querystring);
    query.set('cursor', next);
    ctx.set('Link', `<${ctx.path}?${query}>; rel="next"`);
  }
  ctx.set('Cache-Control', 'private, no-cache');
  sendJson(ctx, 200, { items, next, ...(total === undefined ? {} : { total }) });
}

/** Answers what was kept, or would be kept, under an Idempotency-Key. */
export function sendAnswer(ctx: Context, { status, body, headers = {} }: Answer): void {
  for (const [name, value] of Object.entries(headers)) ctx.set(name, value);
  if (body === null) {
    ctx.body = null;
    ctx.status = status;
    return;
  }
  sendJson(ctx, status, body);
}

/** A new or changed resource as an answer. */
export function answerOf(resource: object, status: number, location?: string): Answer {
  const headers = { ETag: etagOf(resource), ...(location === undefined ? {} : { Location: location }) };
  return { status, body: resource, headers };
}

export function sendJson(ctx: Context, status: number, value: unknown): void {
  const text = JSON.stringify(value);
  ctx.body = text;
  ctx.status = status;
  ctx.set('Content-Type', 'application/json');
}
