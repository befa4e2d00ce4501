import Router from '@koa/router';
import type { Middleware } from 'koa';
import { RegistryError } from '../../errors.js';
import { type Context, pathOf, type RequestState } from '../context.js';
import { type HealthReport, healthHandlers } from './health.js';

export interface OpsRoutesOptions {
  readonly health: () => Promise<HealthReport>;
  /** What Prometheus scrapes. @throws when it can't be gathered in time */
  readonly metrics: () => Promise<string>;
}

/** The two routes without access control; to be used before authentication. */
export function openRoutes({ health }: OpsRoutesOptions): Middleware<RequestState> {
  const router = new Router<RequestState>({ sensitive: true, strict: true });
  const handlers = healthHandlers(health);
  router.get('/health', handlers.get);
  router.get('/health/live', handlers.live);
  const routes = router.routes();
  // By the path as it was sent: Koa's own throws for a target that is no URL, and that is answered after authentication.
  return (ctx, next) => (pathOf(ctx.req).startsWith('/health') ? routes(ctx as Context, next) : next());
}

/** `admit` throws what somebody is answered who may not. @throws what `admit` throws; 'Unavailable' */
export function metricsRoutes({ metrics }: OpsRoutesOptions, admit: (ctx: Context) => void): Middleware<RequestState> {
  const router = new Router<RequestState>({ sensitive: true, strict: true });
  router.get('/metrics', async (ctx) => {
    admit(ctx);
    const text = await metrics().catch((cause: unknown) => {
      throw new RegistryError('Unavailable', 'the metrics are not available', { cause });
    });
    ctx.set('Cache-Control', 'no-store');
    ctx.set('Content-Type', 'text/plain; version=0.0.4; charset=utf-8');
    ctx.body = text;
  });
  const routes = router.routes();
  return (ctx, next) => (ctx.path === '/metrics' ? routes(ctx as Context, next) : next());
}
