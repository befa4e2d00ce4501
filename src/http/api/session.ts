import { setTimeout as sleep } from 'node:timers/promises';
import type { Authenticator } from '../../auth/authenticator.js';
import { REVOKED_MS } from '../../auth/lease.js';
import { csrfTokenOf } from '../../auth/sessions.js';
import { RegistryError } from '../../errors.js';
import { permit } from '../authenticate.js';
import { actorOf, type Context, type SignedIn } from '../context.js';
import { credentialsCame } from '../credentials.js';
import { isForeign, readSessionCookie, setCookieOf } from '../session-cookie.js';
import { sendJson } from './answer.js';
import type { CheckedRequest } from './contract.js';
import type { KeyRoutesOptions } from './keys.js';

export interface SessionRoutesOptions extends KeyRoutesOptions {
  readonly authenticator: Authenticator;
}

/** The handlers of the pages' session: a browser shows a key once, and comes by a cookie then. */
export function sessionHandlers({ authenticator, keys: { observers } }: SessionRoutesOptions) {
  /** A key in the head comes before one in the body. */
  async function create(ctx: Context, request: CheckedRequest): Promise<void> {
    const { state, req } = ctx;
    // Else a page of somebody's could sign others in as him, and see what they do then.
    if (isForeign(req, state.client)) throw new RegistryError('Denied', 'pages of other sites may sign nobody in');
    if (!credentialsCame(req.headers)) {
      if (request.body === undefined) throw new RegistryError('Unauthorized', 'a key is needed to sign in');
      state.keyCame = true;
      state.access = await authenticator.authenticate(
        { kind: 'secret', text: String(request.body.key) },
        state.client.address,
      );
    }
    const former = readSessionCookie(req, state.client);
    const announced = { actor: actorOf(ctx), observers };
    const [session, cookie] = await authenticator.signIn(state.access, former, announced);
    const seconds = Math.max(1, Math.floor((session.expiresAt.getTime() - session.createdAt.getTime()) / 1000));
    ctx.set('Set-Cookie', setCookieOf(state.client, cookie, seconds));
    tell(ctx, 201, { ...session, csrfToken: csrfTokenOf(cookie) });
  }

  async function get(ctx: Context): Promise<void> {
    const { access, session } = ctx.state;
    if (access.token) permit(ctx, access.decideBase());
    tell(ctx, 200, session);
  }

  async function remove(ctx: Context): Promise<void> {
    const { session, client } = ctx.state;
    if (session) {
      ctx.state.outlive();
      await authenticator.sessions.end(session.id, { actor: actorOf(ctx), observers });
      await sleep(REVOKED_MS);
    }
    ctx.set('Set-Cookie', setCookieOf(client, '', 0));
    ctx.set('Cache-Control', 'no-store');
    ctx.status = 204;
  }

  function tell(ctx: Context, status: number, session: SignedIn | undefined): void {
    const { access } = ctx.state;
    const { kind, id, name, grants, readOnly } = access.identity;
    ctx.set('Cache-Control', 'no-store');
    sendJson(ctx, status, {
      kind,
      id,
      name,
      grants,
      read_only: readOnly,
      is_admin: access.isAdmin,
      anonymous: access.open.anonymous,
      some_public: access.open.visibility.somePublic,
      session: session
        ? {
            created_at: session.createdAt,
            expires_at: session.expiresAt,
            idle_seconds: authenticator.sessions.idleSeconds,
            csrf_token: session.csrfToken,
          }
        : null,
    });
  }

  return { create, get, remove };
}
