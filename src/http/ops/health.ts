import { RegistryError } from '../../errors.js';
import type { Context } from '../context.js';

/** What is looked at. */
export const CHECKS = ['database', 'storage', 'disk', 'workers'] as const;

export type CheckState = 'ok' | 'unavailable';

/** What is not as it should be although the node serves; `blobs`: some are quarantined, since their bytes are damaged. */
export type Shortcoming = 'blobs';

/** How the node is, told to everybody who asks: names and states, never why. */
export interface HealthReport {
  readonly status: CheckState | 'draining';
  readonly version: string;
  readonly checks: Readonly<Record<(typeof CHECKS)[number], { readonly status: CheckState }>>;
  readonly degraded: readonly Shortcoming[];
}

/** The handlers of /health and /health/live. */
export function healthHandlers(health: () => Promise<HealthReport>) {
  /** 503 says to a balancer that it should send requests elsewhere. */
  async function get(ctx: Context): Promise<void> {
    const report = await health().catch((cause: unknown) => {
      throw new RegistryError('Unavailable', 'how the node is can not be told', { cause });
    });
    ctx.status = report.status === 'ok' ? 200 : 503;
    ctx.set('Cache-Control', 'no-store');
    ctx.body = report;
  }

  /** Whoever gets an answer knows that the event loop turns; nothing else is asked, so that nothing else ends a process. */
  function live(ctx: Context): void {
    ctx.status = 200;
    ctx.set('Cache-Control', 'no-store');
    ctx.body = { status: 'ok' };
  }

  return { get, live };
}
