import { createRemoteJWKSet, errors, type JWTPayload, jwtVerify } from 'jose';
import { RegistryError } from '../errors.js';
import type { Identity, TokenBounds } from './access.js';
import type { ClaimRule, OidcIssuer } from './oidc-settings.js';
import { fitsWildcard } from './wildcard.js';

/** Signatures of key pairs only: with a shared secret the public key would be one. */
const ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];
const FETCH_MS = 5_000;
const TOLERANCE_SECONDS = 30;
const MAX_DOCUMENT = 1024 * 1024;
/** After a failure the issuer is not asked again for so long: anybody can make up tokens. */
const AGAIN_MS = 1_000;
/** OpenID Connect Core 1.0 section 2. */
const SUBJECT = /^[\x20-\x7e]{1,255}$/;

type KeySet = ReturnType<typeof createRemoteJWKSet>;

/** Who holds a token of an issuer; `token` tells when it expires, or that it has. */
export interface Workload {
  readonly identity: Identity;
  readonly token: TokenBounds;
}

/** Accepts tokens of configured issuers: CI systems, Kubernetes, and whoever else speaks OpenID Connect. */
export class Oidc {
  readonly #issuers: ReadonlyMap<string, { readonly settings: OidcIssuer; keys?: Promise<KeySet> }>;

  constructor(issuers: readonly OidcIssuer[]) {
    this.#issuers = new Map(issuers.map((settings) => [settings.issuer, { settings }]));
  }

  /** Whether a token says that it is of one of these issuers. */
  knows(issuer: string): boolean {
    return this.#issuers.has(issuer);
  }

  /**
   * @throws 'Unauthorized' if the token is not good or no rule takes it; 'Unavailable' if the issuer's keys can't be had.
   */
  async verify(token: string, issuer: string): Promise<Workload> {
    const known = this.#issuers.get(issuer);
    if (!known) throw new RegistryError('Unauthorized', 'this issuer of tokens is not known');
    const { settings } = known;
    const { payload, expired } = await this.#check(token, settings, await this.#keysOf(known));
    // One that is cut would be somebody else's, too.
    if (typeof payload.sub !== 'string' || !SUBJECT.test(payload.sub))
      throw new RegistryError('Unauthorized', 'the subject of this token is not 1 to 255 printable ASCII characters');
    const grants = settings.rules.filter((rule) => fits(rule, payload)).flatMap((rule) => rule.grants);
    if (grants.length === 0)
      throw new RegistryError('Unauthorized', 'no rule gives the claims of this token any grant');
    const id = `oidc:${settings.name}:${payload.sub}`;
    const bounds: TokenBounds = { repositories: 'all', catalog: true, expiresAt: payload.exp ?? 0, expired };
    return { identity: { kind: 'workload', id, name: id, grants, readOnly: false }, token: bounds };
  }

  async #check(token: string, settings: OidcIssuer, keys: KeySet) {
    try {
      const { payload } = await jwtVerify(token, keys, {
        algorithms: ALGORITHMS,
        issuer: settings.issuer,
        audience: settings.audience,
        clockTolerance: TOLERANCE_SECONDS,
        requiredClaims: ['exp', 'sub'],
      });
      return { payload, expired: false };
    } catch (error) {
      // The signature and who it is for were checked before: an upload that it began may be finished with it.
      if (error instanceof errors.JWTExpired) return { payload: error.payload, expired: true };
      // A key that the set does not hold is the token's fault; a set that can't be had is not.
      const ofToken =
        error instanceof errors.JOSEError &&
        !(error instanceof errors.JWKSTimeout) &&
        !(error instanceof errors.JWKSInvalid) &&
        error.code !== 'ERR_JOSE_GENERIC';
      if (ofToken) throw new RegistryError('Unauthorized', 'this token is not valid', { cause: error });
      throw away(settings, error);
    }
  }

  async #keysOf(known: { readonly settings: OidcIssuer; keys?: Promise<KeySet> }): Promise<KeySet> {
    if (!known.keys) {
      known.keys = this.#discover(known.settings);
      known.keys.catch(() => setTimeout(() => delete known.keys, AGAIN_MS).unref());
    }
    try {
      return await known.keys;
    } catch (error) {
      throw away(known.settings, error);
    }
  }

  async #discover({ issuer, jwksUri }: OidcIssuer): Promise<KeySet> {
    let uri = jwksUri;
    if (uri === undefined) {
      // OpenID Connect Discovery 1.0 section 4.
      const answer = await fetch(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, {
        signal: AbortSignal.timeout(FETCH_MS),
        redirect: 'error',
      });
      const text = await answer.text();
      if (!answer.ok || text.length > MAX_DOCUMENT)
        throw new Error(`the discovery document was answered ${answer.status}`);
      const document = JSON.parse(text) as { issuer?: unknown; jwks_uri?: unknown };
      if (document.issuer !== issuer) throw new Error(`the discovery document is of ${String(document.issuer)}`);
      uri = String(document.jwks_uri);
    }
    return createRemoteJWKSet(new URL(uri), { timeoutDuration: FETCH_MS, cooldownDuration: 10_000 });
  }
}

/** Whether every claim that the rule names is as it says. */
function fits(rule: ClaimRule, payload: JWTPayload): boolean {
  return Object.entries(rule.claims).every(([path, wanted]) => {
    const value = valueAt(payload, path);
    const values = Array.isArray(value) ? value : [value];
    return values.some(
      (one) => ['string', 'number', 'boolean'].includes(typeof one) && fitsWildcard(wanted, String(one)),
    );
  });
}

/** A claim by its path through objects; names may have dots themselves (`kubernetes.io.namespace`). */
function valueAt(value: unknown, path: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  if (Object.hasOwn(value, path)) return (value as Record<string, unknown>)[path];
  for (let dot = path.indexOf('.'); dot >= 0; dot = path.indexOf('.', dot + 1)) {
    const name = path.slice(0, dot);
    if (!Object.hasOwn(value, name)) continue;
    const found = valueAt((value as Record<string, unknown>)[name], path.slice(dot + 1));
    if (found !== undefined) return found;
  }
  return undefined;
}

function away({ name }: OidcIssuer, cause: unknown): RegistryError {
  return new RegistryError('Unavailable', `the keys of the issuer ${name} can not be had now`, {
    cause,
    retryAfter: 5,
  });
}
