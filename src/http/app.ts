import Koa from 'koa';
import type { Authenticator } from '../auth/authenticator.js';
import type { Log } from '../log.js';
import { authenticate, permit } from './authenticate.js';
import { allowOrigins } from './api/cors.js';
import { frame, type FrameOptions } from './api/frame.js';
import { type ApiRoutesOptions, apiRoutes, openApiRoutes, sessionRoutes } from './api/routes.js';
import type { ClientOptions } from './client.js';
import { identifyClient, pathOf, readableTarget, type RequestState } from './context.js';
import { isApiTarget, writeFailure } from './doors.js';
import { errorResponse } from './error-response.js';
import { limitHead, limitRequests, limitUploads, type RequestLimits } from './limits.js';
import { type OciRoutesOptions, ociRoutes, unrouted } from './oci/routes.js';
import { metricsRoutes, openRoutes, type OpsRoutesOptions } from './ops/routes.js';
import { type RequestObserver, requestLog } from './request-log.js';
import type { RunningRequests } from './running-requests.js';
import { setSecurityHeaders } from './security-headers.js';
import { tokenRoutes } from './token/routes.js';

export interface AppOptions
  extends OciRoutesOptions,
    OpsRoutesOptions,
    FrameOptions,
    Omit<ApiRoutesOptions, 'operation'> {
  readonly authenticator: Authenticator;
  readonly running: RunningRequests;
  readonly client: ClientOptions;
  readonly log: Log;
  readonly requestLimits: RequestLimits;
  readonly requests: RequestObserver;
  /** Origins of other sites whose pages may use the metadata API. */
  readonly corsOrigins: readonly string[];
}

/** The HTTP application: every request passes request id and log, error response, access, and one handler. */
export function createApp(options: AppOptions): Koa<RequestState> {
  const { log, authenticator, requests, idleMs, requestLimits } = options;
  const app = new Koa<RequestState>();
  const oci = ociRoutes(options);
  const token = tokenRoutes(options);
  const ofApi = { ...options, operation: frame(options) };
  const api = apiRoutes(ofApi);
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
  app.use(allowOrigins(options.corsOrigins));
  app.use(limitHead(requestLimits));
  app.use(openRoutes(options));
  app.use(limitRequests(requestLimits));
  app.use(openApiRoutes(ofApi));
  app.use(authenticate(authenticator, options.running));
  app.use(limitUploads(requestLimits));
  app.use(async (ctx, next) => {
    if (!isApiTarget(pathOf(ctx.req))) ctx.set('Docker-Distribution-API-Version', 'registry/2.0');
    await next();
  });
  app.use(readableTarget);
  app.use(token.routes());
  app.use(metricsRoutes(options, (ctx) => permit(ctx, ctx.state.access.decideAdmin('read'))));
  app.use(oci.routes());
  app.use(sessionRoutes(ofApi).routes());
  app.use(api.routes());
  app.use(unrouted);
  return app;
}
