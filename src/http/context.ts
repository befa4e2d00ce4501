import type { IncomingMessage } from 'node:http';
import type { RouterContext } from '@koa/router';
import type { Middleware } from 'koa';
import { type Actor, MAX_USER_AGENT } from '../actor.js';
import type { Access } from '../auth/access.js';
import type { Session } from '../auth/sessions.js';
import { RegistryError } from '../errors.js';
import type { RepositoryName } from '../oci/name.js';
import { type Client, type ClientOptions, clientOf } from './client.js';

/** A session by which a request came. */
export interface SignedIn extends Session {
  readonly csrfToken: string;
}

/** What middleware has found out about a request before its handler runs. */
export interface RequestState {
  readonly requestId: string;
  client: Client;
  access: Access;
  /** Lets the request outlive its key: for whoever ends the own one, and is to be told so. */
  outlive: () => void;
  /** The session that the request came by, if it did. */
  session?: SignedIn;
  /** Whether it came by the cookie of a session that has ended, or never was. */
  sessionEnded?: boolean;
  /** Whether its body brought a key. */
  keyCame?: boolean;
  /** What a 401 asks for. */
  challenge: { readonly scope?: string; readonly error?: 'invalid_token' | 'insufficient_scope' };
  /** The repository in the path, where the route has one. A handler runs only if what it does there is allowed. */
  repository: RepositoryName;
}

export type Context = RouterContext<RequestState>;

/** Notes where the request comes from. */
export function identifyClient(options: ClientOptions): Middleware<RequestState> {
  return async (ctx, next) => {
    ctx.state.client = clientOf(ctx.req, options);
    await next();
  };
}

/** Who acts, for what is written down of it. */
export function actorOf(ctx: Context): Actor {
  const { access, client, requestId } = ctx.state;
  const { id, name } = access.identity;
  const userAgent = (ctx.req.headers['user-agent'] ?? '').slice(0, MAX_USER_AGENT);
  return { key: id, name, address: client.address, userAgent, requestId, admin: access.isOfAdmin };
}

/** The path as it was sent, for the log; Koa's own throws for a target that is no URL. */
export function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').replace(/\?.*$/s, '');
}

/**
 * Refuses an absolute target (RFC 9112 section 3.2.2) that is no URL. Node's old reader of URLs, which Koa asks, takes more
 * than there is, and warns of it.
 * @throws 'ParameterInvalid'
 */
export const readableTarget: Middleware<RequestState> = async (ctx, next) => {
  const { url = '' } = ctx.req;
  if (!url.startsWith('/') && url !== '*' && !URL.canParse(url))
    throw new RegistryError('ParameterInvalid', 'the target of the request is no URL');
  try {
    void ctx.path;
  } catch (cause) {
    throw new RegistryError('ParameterInvalid', 'the target of the request is no URL', { cause });
  }
  await next();
};
