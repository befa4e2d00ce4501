import Router from '@koa/router';
import type { Middleware } from 'koa';
import { type Context, pathOf, type RequestState } from '../context.js';
import { healthHandlers, type HealthReport } from '../ops/health.js';
import { refuseMethod } from '../oci/routes.js';
import { type DocsOptions, docsHandlers } from './docs.js';
import type { FrameOperation } from './frame.js';

export interface ApiRoutesOptions extends DocsOptions {
  readonly operation: FrameOperation;
  readonly health: () => Promise<HealthReport>;
}

/** What is read without a key: the contract itself, in three forms, and the node's health. */
export function openApiRoutes(options: ApiRoutesOptions): Middleware<RequestState> {
  const router = new Router<RequestState>({ sensitive: true, strict: true });
  const docs = docsHandlers(options);
  const health = healthHandlers(options.health);
  const { operation } = options;

  router.get('/api/docs', docs.page);
  router.get('/api/docs/:file', docs.part);
  router.get('/api/openapi.json', docs.json);
  router.get('/api/openapi.yaml', docs.yaml);
  router.get('/api/v1/health', operation('getHealth', health.get));

  const routes = router.routes();
  return async (ctx, next) => {
    if (!pathOf(ctx.req).startsWith('/api/')) return await next();
    await routes(ctx as Context, async () => {
      refuseMethod(ctx as Context);
      await next();
    });
  };
}

/** The endpoints of spec/openapi.yaml, line by line. */
export function apiRoutes(_options: ApiRoutesOptions): Router<RequestState> {
  return new Router<RequestState>({ sensitive: true, strict: true });
}
