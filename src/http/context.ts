import type { IncomingMessage } from 'node:http';
import type { RouterContext } from '@koa/router';
import type { Middleware } from 'koa';
import type { Access } from '../auth/access.js';
import { RegistryError } from '../errors.js';
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

/** The path as it was sent, for the log; Koa's own throws for a target that is no URL. */
export function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').replace(/\?.*$/s, '');
}

/** Refuses an absolute target (RFC 9112 section 3.2.2) that is no URL. @throws 'ParameterInvalid' */
export const readableTarget: Middleware<RequestState> = async (ctx, next) => {
  try {
    void ctx.path;
  } catch (cause) {
    throw new RegistryError('ParameterInvalid', 'the target of the request is no URL', { cause });
  }
  await next();
};
