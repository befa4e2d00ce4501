// A real OpenID Connect issuer (oidc-provider) that gives JWT to clients with a secret, as CI systems do.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import Provider, { type Adapter } from 'oidc-provider';
import { freePort } from './server.js';

export const AUDIENCE = 'https://registry.example';

export interface Issuer {
  readonly url: string;
  /** The private keys, the first of which signs. */
  readonly keys: readonly JWK[];
  /** A token with these claims beside the issuer's own; `audience` other than the registry's where a test wants it. */
  token(claims: Readonly<Record<string, unknown>>, options?: { audience?: string; lifetime?: number }): Promise<string>;
  /** Signs with a new key from now on. */
  rotate(): Promise<void>;
  /** Stops listening, for a while. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

/** Tokens that are JWT need not be kept. */
class Nothing implements Adapter {
  async upsert(): Promise<void> {}
  async consume(): Promise<void> {}
  async destroy(): Promise<void> {}
  async revokeByGrantId(): Promise<void> {}
  async find(): Promise<undefined> {}
  async findByUid(): Promise<undefined> {}
  async findByUserCode(): Promise<undefined> {}
}

/** Starts an issuer on a free port. */
export async function startIssuer(): Promise<Issuer> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const keys: JWK[] = [await newKey('first')];
  let server: Server | undefined;
  const wanted: { claims: Record<string, unknown>; lifetime: number } = { claims: {}, lifetime: 60 };

  const listen = async () => {
    const provider = new Provider(url, {
      jwks: { keys },
      adapter: Nothing,
      ttl: { ClientCredentials: () => wanted.lifetime },
      clients: [
        {
          client_id: 'ci',
          client_secret: 'of-the-test',
          grant_types: ['client_credentials'],
          redirect_uris: [],
          response_types: [],
        },
      ],
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_ctx, resource) => ({
            scope: 'push',
            audience: resource,
            accessTokenFormat: 'jwt',
            accessTokenTTL: wanted.lifetime,
            jwt: { sign: { alg: 'RS256' } },
          }),
        },
      },
      extraTokenClaims: () => wanted.claims,
    });
    provider.on('server_error', (_ctx: unknown, error: Error) => console.error('the issuer failed', error));
    server = createServer(provider.callback() as Parameters<typeof createServer>[1]);
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  };
  const stop = async () => {
    const running = server;
    server = undefined;
    running?.closeAllConnections();
    if (running) await new Promise<void>((resolve) => running.close(() => resolve()));
  };
  await listen();
  return {
    url,
    keys,
    start: listen,
    stop,
    async rotate() {
      keys.unshift(await newKey(`key-${keys.length + 1}`));
      await stop();
      await listen();
    },
    async token(claims, { audience = AUDIENCE, lifetime = 60 } = {}) {
      Object.assign(wanted, { claims, lifetime });
      const answer = await fetch(`${url}/token`, {
        method: 'POST',
        headers: {
          authorization: `Basic ${Buffer.from('ci:of-the-test').toString('base64')}`,
          connection: 'close',
        },
        body: new URLSearchParams({ grant_type: 'client_credentials', resource: audience, scope: 'push' }),
      });
      const { access_token } = (await answer.json()) as { access_token?: string };
      if (access_token === undefined) throw new Error(`the issuer answered ${answer.status}`);
      return access_token;
    },
  };
}

async function newKey(kid: string): Promise<JWK> {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  return { ...(await exportJWK(privateKey)), kid, alg: 'RS256', use: 'sig' };
}
