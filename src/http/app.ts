import { randomUUID } from 'node:crypto';
import Koa from 'koa';
import type { Keys } from '../auth/keys.js';
import { RegistryError } from '../errors.js';
import { type Log, requestContext } from '../log.js';
import { authenticate } from './authenticate.js';
import type { RequestState } from './context.js';
import { errorResponse } from './error-response.js';
import { writeFailure } from './oci/failures.js';
import { type OciRoutesOptions, ociRoutes } from './oci/routes.js';

export interface AppOptions extends OciRoutesOptions {
  readonly keys: Keys;
  readonly log: Log;
}

/** The HTTP application: every request passes error response, request id, access, and one handler. */
export function createApp(options: AppOptions): Koa<RequestState> {
  const { log, keys } = options;
  const app = new Koa<RequestState>();
  const oci = ociRoutes(options);
  app.silent = true;
  app.on('error', (error: unknown) => log.error({ err: error }, 'Koa reported an error'));

  app.use(async (ctx, next) => {
    const requestId = randomUUID();
    Object.assign(ctx.state, { requestId });
    ctx.set('X-Request-Id', requestId);
    const begun = performance.now();
    await requestContext.run({ requestId }, async () => {
      await next();
      log.info(
        {
          method: ctx.method,
          path: ctx.path,
          status: ctx.res.statusCode === 200 ? ctx.status : ctx.res.statusCode,
          ms: Math.round(performance.now() - begun),
          actor: ctx.state.access?.key.id,
        },
        'request',
      );
    });
  });
  app.use(errorResponse(log, writeFailure));
  app.use(authenticate(keys));
  app.use(async (ctx, next) => {
    ctx.set('Docker-Distribution-API-Version', 'registry/2.0');
    await next();
  });
  app.use(oci.routes());
  app.use(() => {
    throw new RegistryError('RouteUnknown', 'no such endpoint');
  });
  return app;
}
