import Router from '@koa/router';
import type { Access } from '../../auth/access.js';
import type { Authenticator, TokenRequest } from '../../auth/authenticator.js';
import { RegistryError } from '../../errors.js';
import type { Context, RequestState } from '../context.js';
import { readWhole } from '../request-body.js';
import { parseScopes } from './scopes.js';

export interface TokenRoutesOptions {
  readonly authenticator: Authenticator;
  readonly idleMs: number;
}

const MAX_FORM_BYTES = 64 * 1024;

/** The token endpoint, in both forms that clients speak (Docker's "Token Authentication" and "OAuth2 Token" pages). */
export function tokenRoutes({ authenticator, idleMs }: TokenRoutesOptions): Router<RequestState> {
  const router = new Router<RequestState>({ sensitive: true });

  /** With Basic, or with nothing for what is open to everybody. */
  router.get('/v2/token', async (ctx) => {
    const query = new URLSearchParams(ctx.querystring);
    await answer(ctx, ctx.state.access, {
      ...parseScopes(query.getAll('scope')),
      refresh: query.get('offline_token') === 'true',
    });
  });

  /** OAuth2 (RFC 6749 sections 4.3 and 6): the grants `password` and `refresh_token`. */
  router.post('/v2/token', async (ctx) => {
    const form = await readForm(ctx);
    const request = { ...parseScopes(form.getAll('scope')), refresh: form.get('access_type') === 'offline' };
    const grant = form.get('grant_type');
    if (grant === 'password') {
      const text = form.get('password') ?? '';
      if (text === '') throw new RegistryError('Unauthorized', 'a key is needed as the password');
      const access = await authenticator.authenticate({ kind: 'secret', text }, ctx.state.client.address);
      await answer(ctx, access, request);
    } else if (grant === 'refresh_token') {
      const refreshToken = form.get('refresh_token') ?? '';
      const access = await authenticator.refresh(refreshToken, ctx.state.client.address);
      await answer(ctx, access, { ...request, refresh: false }, refreshToken);
    } else throw new RegistryError('ParameterInvalid', 'grant_type must be password or refresh_token');
  });

  async function answer(ctx: Context, access: Access, request: TokenRequest, refreshToken?: string): Promise<void> {
    const given = await authenticator.giveToken(access, request);
    ctx.state.access = access;
    const refresh = given.refreshToken ?? refreshToken;
    ctx.status = 200;
    ctx.set('Cache-Control', 'no-store');
    ctx.body = {
      token: given.token,
      access_token: given.token,
      token_type: 'Bearer',
      expires_in: given.lifetimeSeconds,
      issued_at: new Date().toISOString(),
      ...(refresh === undefined ? {} : { refresh_token: refresh }),
    };
  }

  async function readForm(ctx: Context): Promise<URLSearchParams> {
    const type = ctx.req.headers['content-type']?.split(';')[0]?.trim().toLowerCase();
    if (type !== 'application/x-www-form-urlencoded')
      throw new RegistryError('MediaTypeUnsupported', 'the body must be application/x-www-form-urlencoded');
    const body = await readWhole(ctx.req, ctx.res, { maxBytes: MAX_FORM_BYTES, idleMs }, () => {
      return new RegistryError('ManifestTooLarge', `the form may have at most ${MAX_FORM_BYTES} bytes`);
    });
    return new URLSearchParams(body.toString('utf8'));
  }

  return router;
}
