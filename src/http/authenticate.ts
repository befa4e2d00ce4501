import type { IncomingMessage } from 'node:http';
import type { Middleware } from 'koa';
import type { Decision } from '../auth/access.js';
import type { Authenticator } from '../auth/authenticator.js';
import type { Action } from '../auth/grants.js';
import { RegistryError } from '../errors.js';
import type { RepositoryName } from '../oci/name.js';
import { type Context, pathOf, type RequestState } from './context.js';
import { credentialsOf } from './credentials.js';
import type { RunningRequests } from './running-requests.js';

/** Where tokens are given out. */
export const TOKEN_PATH = '/v2/token';

/** Finds out who asks, before anything is looked up. @throws 'Unauthorized', 'TooManyRequests' */
export function authenticate(authenticator: Authenticator, running: RunningRequests): Middleware<RequestState> {
  return async (ctx, next) => {
    const { state } = ctx;
    state.challenge = { error: 'invalid_token' };
    state.access = await authenticator.authenticate(credentialsOf(ctx.req.headers), state.client.address);
    state.challenge = {};
    state.outlive = running.add(state.access.identity, ctx.req.socket);
    try {
      await next();
    } finally {
      state.outlive();
    }
  };
}

/** Lets a request pass, or throws what it is answered. `scope` is what a token would have to be for. */
export function permit(ctx: Context, decision: Decision, scope?: string): void {
  if (decision === 'allowed') return;
  if (decision === 'denied') throw new RegistryError('Denied', 'this key may not do that');
  const { identity, token } = ctx.state.access;
  const error = token === undefined ? undefined : token.expired ? 'invalid_token' : 'insufficient_scope';
  ctx.state.challenge = { ...(scope === undefined ? {} : { scope }), ...(error === undefined ? {} : { error }) };
  if (token?.expired) throw new RegistryError('Unauthorized', 'this token has expired');
  if (token) throw new RegistryError('Unauthorized', 'this token does not count here');
  if (identity.kind !== 'anonymous') throw new RegistryError('Unauthorized', 'these credentials do not count here');
  throw new RegistryError('Unauthorized', 'a key is needed: any user name, the key as password');
}

/** The scope of a token for an action, as clients know it from Docker's token specification. */
export function scopeOf(repository: RepositoryName, action: Action): string {
  return `repository:${repository}:${action === 'push' ? 'pull,push' : action}`;
}

/** The WWW-Authenticate header of a 401 (RFC 6750 section 3; Docker's token specification). */
export function challengeOf(request: IncomingMessage, { client, challenge }: Partial<RequestState>): string {
  if (pathOf(request) === TOKEN_PATH) return 'Basic realm="Weighhouse", charset="UTF-8"';
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
