import type { Middleware } from 'koa';
import { accessOf, type Action } from '../auth/access.js';
import type { Keys } from '../auth/keys.js';
import { RegistryError } from '../errors.js';
import type { RepositoryName } from '../oci/name.js';
import type { Context, RequestState } from './context.js';

/** Finds out who asks, before anything is looked up. @throws 'Unauthorized' */
export function authenticate(keys: Keys): Middleware<RequestState> {
  return async (ctx, next) => {
    const key = await keys.authenticate(presentedKey(ctx.req.headers.authorization));
    ctx.state.access = accessOf(key);
    await next();
  };
}

/** The key in a Basic header (RFC 7617): the password; any user name will do. */
function presentedKey(header: string | undefined): string {
  const encoded = /^basic +([A-Za-z0-9+/_-]+=*)$/i.exec(header ?? '')?.[1];
  const decoded = encoded === undefined ? '' : Buffer.from(encoded, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon < 0 || colon === decoded.length - 1)
    throw new RegistryError('Unauthorized', 'a key is needed: any user name, the key as password');
  return decoded.slice(colon + 1);
}

/** @throws 'Denied' if the key does not allow it, whether or not there is such a repository. */
export function authorize(ctx: Context, action: Action, repository: RepositoryName): void {
  if (!ctx.state.access.may(action, repository)) throw new RegistryError('Denied', `this key may not ${action} here`);
}
