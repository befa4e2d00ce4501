import { createHash } from 'node:crypto';
import { errors, type JWTPayload, jwtVerify, SignJWT } from 'jose';
import { RegistryError } from '../errors.js';
import type { Identity } from './access.js';
import { ForgedToken, saysForged } from './forged-token.js';
import type { Grant } from './grants.js';
import type { SigningKeys } from './signing-keys.js';

export const TOKEN_ISSUER = 'weighhouse';
const ALGORITHM = 'HS256';
const OURS = `token:${TOKEN_ISSUER}` as const;
/** As the names of our keys are, now and ever: one that is none was made up. */
const KEY_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** As many tokens as are remembered to be ours. */
const MAX_REMEMBERED = 1_000;

/** A token whose signature was found to be ours. */
interface Signed {
  readonly payload: JWTPayload;
  readonly kid: string;
  readonly secret: Uint8Array;
}

/** What a token for access is about. */
export interface AccessClaims {
  readonly kind: Identity['kind'];
  /** The identity's id. */
  readonly subject: string;
  readonly name: string;
  /** Of a workload: what the rules gave it; a key's are those of its row when the token is used. */
  readonly grants: readonly Grant[];
  readonly repositories: readonly string[];
  readonly catalog: boolean;
  /** Of a key: the secret for which it was given. */
  readonly fingerprint: string | undefined;
}

/** A token whose signature is ours. Times in seconds since 1970. */
export interface VerifiedAccess extends AccessClaims {
  readonly expiresAt: number;
  readonly expired: boolean;
}

/** A token for refreshing: whose it is, and the secret that it was given for. */
export interface RefreshClaims {
  readonly subject: string;
  readonly fingerprint: string;
}

/** Makes and checks the tokens of the token endpoint: JWT, signed with a key that all nodes share. */
export class Tokens {
  readonly #keys: SigningKeys;
  /** By their text. Whether the key still signs, and the token is not over, is asked anew each time. */
  readonly #signed = new Map<string, Signed>();

  constructor(keys: SigningKeys) {
    this.#keys = keys;
  }

  async signAccess(claims: AccessClaims, lifetimeSeconds: number): Promise<string> {
    const { kind, name, grants, repositories, catalog, fingerprint } = claims;
    const payload = { use: 'access', kind, name, repositories, fingerprint, ...(catalog ? { catalog } : {}) };
    return await this.#sign(grants.length > 0 ? { ...payload, grants } : payload, claims.subject, lifetimeSeconds);
  }

  async signRefresh({ subject, fingerprint }: RefreshClaims, lifetimeSeconds: number): Promise<string> {
    return await this.#sign({ use: 'refresh', fingerprint }, subject, lifetimeSeconds);
  }

  /** @throws 'Unauthorized' if it is none of ours, ForgedToken if it never was; one that has expired is told by `expired`. */
  async verifyAccess(token: string): Promise<VerifiedAccess> {
    const { payload, expired } = await this.#verify(token, 'access');
    const { kind, sub, name, grants, repositories, catalog, fingerprint, exp } = payload as JWTPayload &
      Partial<AccessClaims>;
    return {
      kind: kind ?? 'anonymous',
      subject: sub ?? '',
      name: name ?? '',
      grants: grants ?? [],
      repositories: repositories ?? [],
      catalog: catalog ?? false,
      fingerprint,
      expiresAt: exp ?? 0,
      expired,
    };
  }

  /** @throws 'Unauthorized' if it is none of ours or has expired, ForgedToken if it never was one. */
  async verifyRefresh(token: string): Promise<RefreshClaims> {
    const { payload, expired } = await this.#verify(token, 'refresh');
    if (expired) throw new RegistryError('Unauthorized', 'this refresh token has expired');
    return { subject: payload.sub ?? '', fingerprint: String(payload.fingerprint) };
  }

  /** The time that counts for tokens, in seconds since 1970. */
  async now(): Promise<number> {
    return await this.#keys.now();
  }

  async #sign(payload: JWTPayload, subject: string, lifetimeSeconds: number): Promise<string> {
    const key = await this.#keys.current();
    const now = Math.floor(await this.now());
    return await new SignJWT(payload)
      .setProtectedHeader({ alg: ALGORITHM, kid: key.id, typ: 'JWT' })
      .setIssuer(TOKEN_ISSUER)
      .setSubject(subject)
      .setIssuedAt(now)
      .setExpirationTime(now + lifetimeSeconds)
      .sign(key.secret);
  }

  async #verify(token: string, use: 'access' | 'refresh'): Promise<{ payload: JWTPayload; expired: boolean }> {
    let verified: { payload: JWTPayload; expired: boolean };
    try {
      verified = (await this.#remembered(token)) ?? (await this.#checked(token));
    } catch (error) {
      // The signature is checked before the claims, so that an expired token is still one of ours.
      if (error instanceof errors.JWTExpired) verified = { payload: error.payload, expired: true };
      else if (saysForged(error, token) || error instanceof errors.JOSEAlgNotAllowed)
        throw new ForgedToken(OURS, error);
      else if (error instanceof errors.JOSEError) throw invalid(error);
      else throw error;
    }
    const { payload } = verified;
    if (payload.use !== use || payload.iss !== TOKEN_ISSUER) throw invalid();
    return verified;
  }

  async #checked(token: string): Promise<{ payload: JWTPayload; expired: false }> {
    let signedBy: { kid: string; secret: Uint8Array } | undefined;
    const { payload } = await jwtVerify(
      token,
      async ({ kid = '' }) => {
        const { secret } = await this.#key(kid);
        signedBy = { kid, secret };
        return secret;
      },
      {
        algorithms: [ALGORITHM],
        issuer: TOKEN_ISSUER,
        requiredClaims: ['exp', 'sub'],
        currentDate: new Date((await this.now()) * 1000),
      },
    );
    if (signedBy) this.#signed.set(token, { payload, ...signedBy });
    const oldest = this.#signed.keys().next().value;
    if (this.#signed.size > MAX_REMEMBERED && oldest !== undefined) this.#signed.delete(oldest);
    return { payload, expired: false };
  }

  /** What is known of a token whose signature was checked before, with the same key. */
  async #remembered(token: string): Promise<{ payload: JWTPayload; expired: boolean } | undefined> {
    const signed = this.#signed.get(token);
    if (!signed) return undefined;
    const { payload, kid, secret } = signed;
    const key = await this.#key(kid);
    if (Buffer.compare(key.secret, secret) !== 0) return undefined;
    return { payload, expired: (payload.exp ?? 0) <= Math.floor(await this.now()) };
  }

  async #key(id: string): Promise<{ secret: Uint8Array }> {
    if (!KEY_ID.test(id)) throw new ForgedToken(OURS);
    const key = await this.#keys.find(id);
    // Forged, or signed with a key that is gone since: nobody can tell, and nothing was tried.
    if (!key) throw invalid();
    return key;
  }
}

/** What binds a token to the secret that it was given for, without telling anything of it. */
export function fingerprintOf(keyHash: string): string {
  return createHash('sha256').update(keyHash).digest('base64url').slice(0, 22);
}

function invalid(cause?: unknown): RegistryError {
  return new RegistryError('Unauthorized', 'this token is not valid', { cause });
}
