import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { Middleware, ParameterizedContext } from 'koa';
import type { Log } from '../log.js';
import { pathOf, type RequestState } from './context.js';
import { limitFlush } from './send.js';
import { countTraffic, type Traffic, type TrafficObserver } from './traffic.js';

/** A request that is over, as metrics count it: nothing in it is the client's free choice. */
export interface EndedRequest {
  readonly method: string;
  /** The template of its route, such as `/v2/*name/blobs/:digest`; undefined if it did not get so far. */
  readonly route: string | undefined;
  /** Undefined if the connection was broken off before the end of the response. */
  readonly status: number | undefined;
  readonly seconds: number;
}

/** Who counts requests. */
export interface RequestObserver extends TrafficObserver {
  begun(): void;
  ended(request: EndedRequest): void;
}

export interface RequestLogOptions {
  readonly log: Log;
  readonly requests: RequestObserver;
  readonly idleMs: number;
}

/** What a client may choose as the id of its request. */
const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** Names each request and, when its response has been handed over or its connection is gone, counts and logs it. */
export function requestLog({ log, requests, idleMs }: RequestLogOptions): Middleware<RequestState> {
  return async (ctx, next) => {
    const chosen = ctx.req.headers['x-request-id'];
    const requestId = typeof chosen === 'string' && REQUEST_ID.test(chosen) ? chosen : randomUUID();
    Object.assign(ctx.state, { requestId });
    ctx.set('X-Request-Id', requestId);
    // Writing to a client that has just gone is an error event, which without a listener ends the process.
    ctx.res.on('error', (error) => log.debug({ err: error, requestId }, 'a response could not be written'));
    limitFlush(ctx.req, ctx.res, idleMs);
    const begun = performance.now();
    // A socket forgets it when it is closed.
    const peer = ctx.req.socket.remoteAddress;
    const traffic = countTraffic(ctx.req, requests);
    requests.begun();
    try {
      await next();
    } finally {
      whenClosed(ctx.res, () => {
        const ms = performance.now() - begun;
        const broken = isBroken(ctx.res, traffic);
        if (ctx.respond !== false && !broken) traffic.send(bodyLength(ctx));
        const status = broken ? undefined : ctx.res.statusCode;
        requests.ended({ method: ctx.req.method ?? '', route: templateOf(ctx), status, seconds: ms / 1000 });
        const { received, sent } = traffic;
        const address = (ctx.state as Partial<RequestState>).client?.address ?? peer;
        log.info(
          { requestId, ...facts(ctx, broken), received, sent, ms: Math.round(ms * 10) / 10, address },
          'request',
        );
      });
    }
  };
}

type RequestContext = ParameterizedContext<RequestState>;

/** Calls `done` when the response has been handed to the kernel, or can't be any more. */
function whenClosed(response: ServerResponse, done: () => void): void {
  const { socket } = response.req;
  if (response.closed || socket.destroyed) {
    done();
    return;
  }
  const close = () => {
    response.removeListener('close', close);
    socket.removeListener('close', close);
    done();
  };
  response.once('close', close);
  // A response that waits behind an earlier one on its connection hears nothing when that connection ends.
  if (response.socket === null) socket.once('close', close);
}

/**
 * Whether the connection ended before the response did. With the last bytes under way it did not: the client may have
 * closed it because it has them all. A response that waits behind another one is on no socket.
 */
function isBroken(response: ServerResponse, traffic: Traffic): boolean {
  const { writableFinished, writableEnded, headersSent, socket } = response;
  if (writableFinished) return false;
  const handedOver = writableEnded || (headersSent && traffic.sent === Number(response.getHeader('content-length')));
  return !handedOver || socket === null;
}

/** The content that Koa sent; handlers that send for themselves count for themselves. */
function bodyLength({ req, res }: RequestContext): number {
  if (req.method === 'HEAD' || res.statusCode === 204 || res.statusCode === 304) return 0;
  return Number(res.getHeader('content-length') ?? 0);
}

/** What the log says of a request: its path without the query, the status as the client saw it, who it was, and where. */
function facts(ctx: RequestContext, broken: boolean) {
  const { res, req } = ctx;
  const { access, repository }: Partial<RequestState> = ctx.state;
  return {
    method: req.method,
    path: pathOf(req),
    status: broken && !res.headersSent ? undefined : res.statusCode,
    broken: broken ? true : undefined,
    actor: access?.identity.id,
    repository,
  };
}

const templates = new Map<unknown, string>();

/** The route as spec/endpoints.md writes it: without the slash that may be left out. */
function templateOf(ctx: RequestContext): string | undefined {
  const route = '_matchedRoute' in ctx ? ctx._matchedRoute : undefined;
  if (typeof route !== 'string') return undefined;
  let template = templates.get(route);
  if (template === undefined) {
    template = route.replace(/(:\w+)?\{\/\}$/, (_all, last?: string) => last ?? '/');
    templates.set(route, template);
  }
  return template;
}
