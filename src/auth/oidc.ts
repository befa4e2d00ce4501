import { errors, type JWTPayload, jwtVerify } from 'jose';
import { RegistryError } from '../errors.js';
import type { Identity, TokenBounds } from './access.js';
import { ForgedToken, saysForged } from './forged-token.js';
import { IssuerKeys } from './issuer-keys.js';
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
/** An issuer's clock and ours may be a minute apart. */
const TOLERANCE_SECONDS = 60;
/** OpenID Connect Core 1.0 section 2. */
const SUBJECT = /^[\x20-\x7e]{1,255}$/;

/** Who holds a token of an issuer; `token` tells when it expires, or that it has. */
export interface Workload {
  readonly identity: Identity;
  readonly token: TokenBounds;
}

/** Accepts tokens of configured issuers: CI systems, Kubernetes, and whoever else speaks OpenID Connect. */
export class Oidc {
  readonly #issuers: ReadonlyMap<string, { readonly settings: OidcIssuer; readonly keys: IssuerKeys }>;

  /** @param freshMs how long the keys of an issuer are believed without asking it again */
  constructor(issuers: readonly OidcIssuer[], freshMs?: number) {
    this.#issuers = new Map(
      issuers.map((settings) => [settings.issuer, { settings, keys: new IssuerKeys(settings, freshMs) }]),
    );
  }

  /** Whether a token says that it is of one of these issuers. */
  knows(issuer: string): boolean {
    return this.#issuers.has(issuer);
  }

  /**
   * @throws 'Unauthorized' if the token is not good or no rule takes it, ForgedToken if the issuer can not have signed it;
   * 'Unavailable' if the issuer's keys can't be had.
   */
  async verify(token: string, issuer: string): Promise<Workload> {
    const known = this.#issuers.get(issuer);
    if (!known) throw new RegistryError('Unauthorized', 'this issuer of tokens is not known');
    const { settings, keys } = known;
    const { payload, expired } = await this.#check(token, settings, keys);
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

  async #check(token: string, settings: OidcIssuer, keys: IssuerKeys) {
    try {
      const { payload } = await jwtVerify(token, keys.find, {
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
      if (saysForged(error, token)) throw new ForgedToken(`token:${settings.name}`, error);
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
