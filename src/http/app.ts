import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import Koa from 'koa';
import type { Authenticator } from '../auth/authenticator.js';
import { type Log, requestContext } from '../log.js';
import { authenticate } from './authenticate.js';
import type { ClientOptions } from './client.js';
import { identifyClient, pathOf, readableTarget, type RequestState } from './context.js';
import { errorResponse } from './error-response.js';
import { limitHead, limitRequests, limitUploads, type RequestLimits } from './limits.js';
import { writeFailure } from './oci/failures.js';
import { type OciRoutesOptions, ociRoutes, unrouted } from './oci/routes.js';
import type { RunningRequests } from './running-requests.js';
import { setSecurityHeaders } from './security-headers.js';
import { limitFlush } from './send.js';
import { tokenRoutes } from './token/routes.js';

export interface AppOptions extends OciRoutesOptions {
  readonly authenticator: Authenticator;
  readonly running: RunningRequests;
  readonly client: ClientOptions;
  readonly log: Log;
  readonly requestLimits: RequestLimits;
}

/** The HTTP application: every request passes error response, request id, access, and one handler. */
export function createApp(options: AppOptions): Koa<RequestState> {
  const { log, authenticator, idleMs, requestLimits } = options;
  const app = new Koa<RequestState>();
  const oci = ociRoutes(options);
  const token = tokenRoutes(options);
  app.silent = true;
  // Errors of handlers never get here (see errorResponse); what does is mostly a connection that broke.
  app.on('error', (error: NodeJS.ErrnoException) => {
    const ofConnection = /^(HPE_|ECONN|EPIPE|ERR_STREAM)/.test(error.code ?? '');
    log[ofConnection ? 'debug' : 'error']({ err: error }, 'Koa reported an error');
  });

  app.use(async (ctx, next) => {
    const requestId = randomUUID();
    Object.assign(ctx.state, { requestId });
    ctx.set('X-Request-Id', requestId);
    // Writing to a client that has just gone is an error event, which without a listener ends the process.
    ctx.res.on('error', (error) => log.debug({ err: error }, 'a response could not be written'));
    limitFlush(ctx.req, ctx.res, idleMs);
    const begun = performance.now();
    await requestContext.run({ requestId }, async () => {
      await next();
      log.info(
        {
          method: ctx.method,
          path: pathOf(ctx.req),
          ...outcome(ctx.res),
          ms: Math.round(performance.now() - begun),
          actor: ctx.state.access?.identity.id,
        },
        'request',
      );
    });
  });
  app.use(identifyClient(options.client));
  app.use(async (ctx, next) => {
    setSecurityHeaders(ctx.res, ctx.state.client.secure);
    await next();
  });
  app.use(errorResponse(log, writeFailure));
  app.use(limitHead(requestLimits));
  app.use(limitRequests(requestLimits));
  app.use(authenticate(authenticator, options.running));
  app.use(limitUploads(requestLimits));
  app.use(async (ctx, next) => {
    ctx.set('Docker-Distribution-API-Version', 'registry/2.0');
    await next();
  });
  app.use(readableTarget);
  app.use(token.routes());
  app.use(oci.routes());
  app.use(unrouted);
  return app;
}

/** The status as the client sees it, and whether the connection was broken off before the end of the response. */
function outcome(response: ServerResponse): { status?: number; broken?: true } {
  const broken = response.destroyed && !response.writableEnded;
  if (!broken) return { status: response.statusCode };
  return response.headersSent ? { status: response.statusCode, broken } : { broken };
}
