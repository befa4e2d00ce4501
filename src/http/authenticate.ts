import type { IncomingMessage } from 'node:http';
import type { Middleware } from 'koa';
import type { Access, Decision } from '../auth/access.js';
import type { Authenticator } from '../auth/authenticator.js';
import type { Action } from '../auth/grants.js';
import { csrfTokenOf, isCsrfTokenOf } from '../auth/sessions.js';
import { RegistryError } from '../errors.js';
import type { RepositoryName } from '../oci/name.js';
import { type Context, pathOf, type RequestState } from './context.js';
import { credentialsOf } from './credentials.js';
import type { RunningRequests } from './running-requests.js';
import {
  isForeign,
  isUnsafe,
  readSessionCookie,
  SESSION_PATH,
  sessionCookieOf,
  setCookieOf,
} from './session-cookie.js';

/** Where tokens are given out. */
export const TOKEN_PATH = '/v2/token';
/** Says beside any answer that the request came by the cookie of a session that has ended. */
export const SESSION_ENDED = 'Session-Ended';
const ENDED = 'This session has ended: sign in again';

/** Finds out who asks, before anything is looked up. @throws 'Unauthorized', 'TooManyRequests', 'Denied' */
export function authenticate(authenticator: Authenticator, running: RunningRequests): Middleware<RequestState> {
  return async (ctx, next) => {
    const { state } = ctx;
    state.challenge = { error: 'invalid_token' };
    const cookie = sessionCookieOf(ctx.req, pathOf(ctx.req), state.client);
    state.access =
      cookie === undefined
        ? await authenticator.authenticate(credentialsOf(ctx.req.headers), state.client.address)
        : await bySession(ctx, authenticator, cookie);
    state.challenge = {};
    state.outlive = running.add(state.access.identity, ctx.req.socket);
    try {
      await next();
    } finally {
      state.outlive();
    }
  };
}

/**
 * Who comes by the cookie of a session. Browsers send it unasked, so whoever changes anything by it has to show that he can
 * read what this registry answers; and one that has ended is nobody who reads, but nobody who may write.
 * @throws 'Denied', 'Unauthorized'
 */
async function bySession(ctx: AnyContext, authenticator: Authenticator, cookie: string): Promise<Access> {
  const { state, req, method } = ctx;
  const found = await authenticator.resume(cookie);
  if (found) {
    if (isUnsafe(method)) {
      if (isForeign(req, state.client)) throw new RegistryError('Denied', 'pages of other sites may change nothing');
      const token = req.headers['x-csrf-token'];
      if (typeof token !== 'string' || !isCsrfTokenOf(cookie, token))
        throw new RegistryError('Denied', 'the header X-CSRF-Token is missing, or is not of this session');
    }
    state.session = { ...found.session, csrfToken: csrfTokenOf(cookie) };
    return found.access;
  }
  state.sessionEnded = true;
  ctx.set('Set-Cookie', setCookieOf(state.client, '', 0));
  ctx.set(SESSION_ENDED, 'true');
  const isSignOut = method === 'DELETE' && pathOf(req) === SESSION_PATH;
  if (isUnsafe(method) && !isSignOut) throw new RegistryError('Unauthorized', ENDED);
  return await authenticator.authenticate({ kind: 'none' }, state.client.address);
}

type AnyContext = Parameters<Middleware<RequestState>>[0];

/** Lets a request pass, or throws what it is answered. `scope` is what a token would have to be for. */
export function permit(ctx: Context, decision: Decision, scope?: string): void {
  if (decision === 'allowed') return;
  if (decision === 'denied') throw new RegistryError('Denied', 'this key may not do that');
  const { identity, token } = ctx.state.access;
  const error = token === undefined ? undefined : token.expired ? 'invalid_token' : 'insufficient_scope';
  ctx.state.challenge = { ...(scope === undefined ? {} : { scope }), ...(error === undefined ? {} : { error }) };
  if (token?.expired) throw new RegistryError('Unauthorized', 'this token has expired');
  if (token) throw new RegistryError('Unauthorized', 'this token does not count here');
  if (ctx.state.sessionEnded) throw new RegistryError('Unauthorized', ENDED);
  if (identity.kind !== 'anonymous') throw new RegistryError('Unauthorized', 'these credentials do not count here');
  throw new RegistryError('Unauthorized', 'a key is needed: any user name, the key as password');
}

/** The scope of a token for an action, as clients know it from Docker's token specification. */
export function scopeOf(repository: RepositoryName, action: Action): string {
  return `repository:${repository}:${action === 'push' ? 'pull,push' : action}`;
}

/** The WWW-Authenticate header of a 401 (RFC 6750 section 3; Docker's token specification). */
export function challengeOf(request: IncomingMessage, { client, challenge }: Partial<RequestState>): string {
  // A browser would ask for a name and a password by itself.
  const page = client !== undefined && readSessionCookie(request, client) !== undefined;
  if (pathOf(request) === TOKEN_PATH && !page) return 'Basic realm="Weighhouse", charset="UTF-8"';
  const origin = client?.origin ?? '';
  const parameters = {
    realm: `${origin}${TOKEN_PATH}`,
    service: origin.replace(/^https?:\/\//, ''),
    ...challenge,
  };
  return `Bearer ${Object.entries(parameters)
    .map(([name, value]) => `${name}="${value}"`)
    .join(',')}`;
}
