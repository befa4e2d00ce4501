import { createRemoteJWKSet, errors, type JWTVerifyGetKey } from 'jose';
import type { OidcIssuer } from './oidc-settings.js';

const FETCH_MS = 5_000;
const MAX_DOCUMENT = 1024 * 1024;
/** How long the keys count as the issuer's present ones, in milliseconds. */
const FRESH_MS = 600_000;
/** Anybody can make up tokens: no sooner than this the issuer is asked again, after a failure and for a key it does not have. */
const AGAIN_MS = 1_000;
const UNKNOWN_MS = 10_000;

type KeySet = ReturnType<typeof createRemoteJWKSet>;

/**
 * The public keys of an issuer, fetched when they are needed. They are looked at anew after a while, so that one that the
 * issuer gave up stops, but kept as they are while it is away.
 */
export class IssuerKeys {
  readonly #issuer: Pick<OidcIssuer, 'issuer' | 'jwksUri'>;
  readonly #freshMs: number;
  #set: KeySet | undefined;
  #loaded = false;
  #asking: Promise<void> | undefined;
  /** When the last answer came, or failed to; by monotonic time. */
  #askedAt = Number.NEGATIVE_INFINITY;
  /** Why the last answer failed to come. */
  #failure: Error | undefined;

  constructor(issuer: Pick<OidcIssuer, 'issuer' | 'jwksUri'>, freshMs = FRESH_MS) {
    this.#issuer = issuer;
    this.#freshMs = freshMs;
  }

  /** The key that a token names. @throws an error of jose's where there is none; what fetching throws */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    if (this.#asking || this.#isDue) await this.#ask().catch(() => undefined);
    const set = this.#set;
    if (!set || !this.#loaded) throw this.#failure ?? new Error('the issuer gave no keys');
    try {
      return await set(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      if (performance.now() - this.#askedAt < UNKNOWN_MS) throw this.#failure ?? error;
      await this.#ask();
      return await set(header, token);
    }
  };

  get #isDue(): boolean {
    const waited = performance.now() - this.#askedAt;
    if (!this.#loaded) return waited >= AGAIN_MS;
    return waited >= (this.#failure === undefined ? this.#freshMs : this.#freshMs / 10);
  }

  /** Asks the issuer, once for all who want to know at the same time. */
  #ask(): Promise<void> {
    this.#asking ??= this.#fetch()
      .then(
        () => {
          this.#loaded = true;
          this.#failure = undefined;
        },
        (error: unknown) => {
          this.#failure = error instanceof Error ? error : new Error(String(error));
          throw this.#failure;
        },
      )
      .finally(() => {
        this.#askedAt = performance.now();
        this.#asking = undefined;
      });
    return this.#asking;
  }

  async #fetch(): Promise<void> {
    // When it is asked is decided here alone.
    this.#set ??= createRemoteJWKSet(new URL(await this.#uri()), {
      timeoutDuration: FETCH_MS,
      cooldownDuration: Number.POSITIVE_INFINITY,
      cacheMaxAge: Number.POSITIVE_INFINITY,
    });
    await this.#set.reload();
  }

  /** Where the keys are: OpenID Connect Discovery 1.0 section 4, unless a setting tells. */
  async #uri(): Promise<string> {
    const { issuer, jwksUri } = this.#issuer;
    if (jwksUri !== undefined) return jwksUri;
    const answer = await fetch(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, {
      signal: AbortSignal.timeout(FETCH_MS),
      redirect: 'error',
    });
    const text = await answer.text();
    if (!answer.ok || text.length > MAX_DOCUMENT)
      throw new Error(`the discovery document was answered ${answer.status}`);
    const document = JSON.parse(text) as { issuer?: unknown; jwks_uri?: unknown };
    if (document.issuer !== issuer) throw new Error(`the discovery document is of ${String(document.issuer)}`);
    return String(document.jwks_uri);
  }
}
