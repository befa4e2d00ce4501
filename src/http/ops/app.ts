import Koa from 'koa';
import { RegistryError } from '../../errors.js';
import type { Log } from '../../log.js';
import { readableTarget, type RequestState } from '../context.js';
import { errorResponse } from '../error-response.js';
import { writeFailure } from '../oci/failures.js';
import { requestLog } from '../request-log.js';
import { metricsRoutes, openRoutes, type OpsRoutesOptions } from './routes.js';

export interface OpsAppOptions extends OpsRoutesOptions {
  readonly log: Log;
  readonly idleMs: number;
}

/** What a closed network may ask without a key: nothing of what the registry holds. */
export function createOpsApp(options: OpsAppOptions): Koa<RequestState> {
  const { log, idleMs } = options;
  const app = new Koa<RequestState>();
  app.silent = true;
  app.on('error', (error: Error) => log.debug({ err: error }, 'Koa reported an error'));
  // Not counted: the metrics are of what clients of the registry do.
  const requests = { begun() {}, received() {}, sent() {}, ended() {} };
  app.use(requestLog({ log, requests, idleMs }));
  app.use(errorResponse(log, writeFailure));
  app.use(readableTarget);
  app.use(openRoutes(options));
  app.use(metricsRoutes(options, () => undefined));
  app.use(async (ctx) => {
    const known = ['/health', '/health/live', '/metrics'].includes(ctx.path);
    if (!known) throw new RegistryError('RouteUnknown', 'no such endpoint');
    throw new RegistryError('MethodUnsupported', 'this endpoint can only be read', {
      detail: { allowed: ['GET', 'HEAD'] },
    });
  });
  return app;
}
