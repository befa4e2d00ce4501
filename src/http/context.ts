import type { RouterContext } from '@koa/router';
import type { Access } from '../auth/access.js';
import type { Actor } from '../registry/changes.js';

/** What middleware has found out about a request before its handler runs. */
export interface RequestState {
  readonly requestId: string;
  access: Access;
}

export type Context = RouterContext<RequestState>;

/** Who acts, for what the registry writes down. */
export function actorOf(ctx: Context): Actor {
  return { key: ctx.state.access.key.id, address: ctx.req.socket.remoteAddress ?? '', requestId: ctx.state.requestId };
}
