import Koa from 'koa';
import type { Authenticator } from '../auth/authenticator.js';
import type { Log } from '../log.js';
import { authenticate, permit } from './authenticate.js';
import type { ClientOptions } from './client.js';
import { identifyClient, readableTarget, type RequestState } from './context.js';
import { errorResponse } from './error-response.js';
import { limitHead, limitRequests, limitUploads, type RequestLimits } from './limits.js';
import { writeFailure } from './oci/failures.js';
import { type OciRoutesOptions, ociRoutes, unrouted } from './oci/routes.js';
import { metricsRoutes, openRoutes, type OpsRoutesOptions } from './ops/routes.js';
import { type RequestObserver, requestLog } from './request-log.js';
import type { RunningRequests } from './running-requests.js';
import { setSecurityHeaders } from './security-headers.js';
import { tokenRoutes } from './token/routes.js';

export interface AppOptions extends OciRoutesOptions, OpsRoutesOptions {
  readonly authenticator: Authenticator;
  readonly running: RunningRequests;
  readonly client: ClientOptions;
  readonly log: Log;
  readonly requestLimits: RequestLimits;
  readonly requests: RequestObserver;
}

/** The HTTP application: every request passes request id and log, error response, access, and one handler. */
export function createApp(options: AppOptions): Koa<RequestState> {
  const { log, authenticator, requests, idleMs, requestLimits } = options;
  const app = new Koa<RequestState>();
  const oci = ociRoutes(options);
  const token = tokenRoutes(options);
  app.silent = true;
  // Errors of handlers never get here (see errorResponse); what does is mostly a connection that broke.
  app.on('error', (error: NodeJS.ErrnoException) => {
    const ofConnection = /^(HPE_|ECONN|EPIPE|ERR_STREAM)/.test(error.code ?? '');
    log[ofConnection ? 'debug' : 'error']({ err: error }, 'Koa reported an error');
  });

  app.use(requestLog({ log, requests, idleMs }));
  app.use(identifyClient(options.client));
  app.use(async (ctx, next) => {
    setSecurityHeaders(ctx.res, ctx.state.client.secure);
    await next();
  });
  app.use(errorResponse(log, writeFailure));
  app.use(limitHead(requestLimits));
  app.use(openRoutes(options));
  app.use(limitRequests(requestLimits));
  app.use(authenticate(authenticator, options.running));
  app.use(limitUploads(requestLimits));
  app.use(async (ctx, next) => {
    ctx.set('Docker-Distribution-API-Version', 'registry/2.0');
    await next();
  });
  app.use(readableTarget);
  app.use(token.routes());
  app.use(metricsRoutes(options, (ctx) => permit(ctx, ctx.state.access.decideAdmin('read'))));
  app.use(oci.routes());
  app.use(unrouted);
  return app;
}
