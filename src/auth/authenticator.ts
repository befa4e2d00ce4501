import { decodeJwt } from 'jose';
import type { Database } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import { Access, ANONYMOUS, type Identity, type OpenPolicy, type TokenBounds } from './access.js';
import type { Announced } from './changes.js';
import { ForgedToken } from './forged-token.js';
import { KeyCheck, type KeyStatistics } from './key-check.js';
import { type KeyRow, KeyRows } from './key-rows.js';
import { noteUse } from './keys.js';
import type { Lease } from './lease.js';
import { Oidc } from './oidc.js';
import type { OidcIssuer } from './oidc-settings.js';
import { type Session, type SessionLimits, Sessions } from './sessions.js';
import { SigningKeys } from './signing-keys.js';
import { Throttle } from './throttle.js';
import { TOKEN_ISSUER, Tokens } from './tokens.js';
import { leaseVisibility, type Visibility } from './visibility.js';

/** What a request brings to show who it is. */
export type Credentials =
  | { readonly kind: 'none' }
  /** A password or `X-API-Key`: a key, or the token of a configured issuer. */
  | { readonly kind: 'secret'; readonly text: string }
  | { readonly kind: 'bearer'; readonly text: string };

export interface AuthenticatorOptions {
  readonly database: Database;
  readonly anonymous: OpenPolicy['anonymous'];
  readonly tokenLifetimeSeconds: number;
  readonly refreshLifetimeSeconds: number;
  readonly signingKeyLifetimeSeconds: number;
  /** How long an upload may go on with a token that has expired. */
  readonly uploadLifetimeSeconds: number;
  readonly sessions: SessionLimits;
  readonly issuers: readonly OidcIssuer[];
  /** Failed attempts a minute, in this process. */
  readonly failuresPerAddress: number;
  readonly failuresPerKey: number;
}

/** What was asked of the token endpoint. */
export interface TokenRequest {
  readonly repositories: readonly string[];
  readonly catalog: boolean;
  readonly refresh: boolean;
}

export interface GivenToken {
  readonly token: string;
  readonly lifetimeSeconds: number;
  readonly refreshToken: string | undefined;
}

/** Also without a signature, which is forged. */
const JWT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/;

/** Finds out who asks, by keys, tokens, and tokens of other issuers (spec/access.md). */
export class Authenticator {
  readonly #options: AuthenticatorOptions;
  readonly #rows: KeyRows;
  readonly #throttle: Throttle;
  readonly #check: KeyCheck;
  readonly #signingKeys: SigningKeys;
  readonly #tokens: Tokens;
  readonly #oidc: Oidc;
  /** Who is signed in. */
  readonly sessions: Sessions;
  readonly #visibility: Lease<Visibility>;
  #uses = new Map<string, Date>();

  constructor(options: AuthenticatorOptions) {
    const { database } = options;
    this.#options = options;
    this.#rows = new KeyRows(database);
    this.#throttle = new Throttle({ perAddress: options.failuresPerAddress, perKey: options.failuresPerKey });
    this.#check = new KeyCheck(this.#rows, this.#throttle);
    this.#signingKeys = new SigningKeys({
      database,
      lifetimeSeconds: options.signingKeyLifetimeSeconds,
      keepSeconds:
        options.tokenLifetimeSeconds + Math.max(options.refreshLifetimeSeconds, options.uploadLifetimeSeconds),
    });
    this.#tokens = new Tokens(this.#signingKeys);
    this.#oidc = new Oidc(options.issuers);
    this.sessions = new Sessions(database, options.sessions);
    this.#visibility = leaseVisibility(database);
  }

  /**
   * What the bearer of credentials may do.
   * @param address the client's, for which failures count
   * @throws 'Unauthorized' for credentials that are wrong; 'TooManyRequests'
   */
  async authenticate(credentials: Credentials, address: string): Promise<Access> {
    const { identity, token } = await this.#counted(this.#identify(credentials, address), address);
    this.noteUse(identity);
    return new Access(identity, await this.#open(), token);
  }

  /** What a browser may do that is signed in: all that its key may; undefined: it is not, or no more. */
  async resume(cookie: string): Promise<{ access: Access; session: Session } | undefined> {
    const session = await this.sessions.find(cookie);
    const row = session && (await this.#rows.find(session.key));
    if (!row || row.fingerprint !== session.fingerprint) return undefined;
    const identity = { ...identityOf(row), session: session.id };
    this.noteUse(identity);
    return { access: new Access(identity, await this.#open()), session };
  }

  /**
   * Signs a browser in.
   * @param former as of `Sessions.begin`
   * @throws 'Unauthorized' to whoever came by anything but a key
   */
  async signIn({ identity, token }: Access, former: string | undefined, announced: Announced) {
    if (identity.kind !== 'key' || identity.session !== undefined || token)
      throw new RegistryError('Unauthorized', 'a key is needed to sign in');
    return await this.sessions.begin(identity, former, announced);
  }

  /**
   * Whether an identity that was let in still is one: false after its key was revoked, expired or got another secret, or its
   * session was ended.
   */
  async isAlive(identity: Identity): Promise<boolean> {
    if (identity.kind !== 'key') return true;
    const row = await this.#rows.find(identity.id);
    if (!row || row.fingerprint !== identity.secret) return false;
    return identity.session === undefined || (await this.sessions.isThere(identity.session));
  }

  /** Notes that a key is used, and its session. */
  noteUse({ kind, id, session }: Identity): void {
    if (kind === 'key') this.#uses.set(id, new Date());
    if (session !== undefined) this.sessions.use(session);
  }

  /**
   * A token for whoever authenticated, by other than such a token, which could be widened so.
   * @throws 'Unauthorized', also for an anonymous request to which nothing would be open.
   */
  async giveToken(access: Access, request: TokenRequest): Promise<GivenToken> {
    const { identity, open } = access;
    if (access.token && (access.token.expired || access.token.repositories !== 'all'))
      throw new RegistryError('Unauthorized', 'a token is given for a key, not for a token');
    if (identity.session !== undefined)
      throw new RegistryError('Unauthorized', 'a token is given for a key, not for a session, which it would outlive');
    if (identity.kind === 'anonymous' && open.anonymous === 'none' && !open.visibility.somePublic)
      throw new RegistryError('Unauthorized', 'a key is needed: any user name, the key as password');
    const { tokenLifetimeSeconds, refreshLifetimeSeconds } = this.#options;
    // It must not outlive the token of another issuer for which it is given.
    const left = access.token ? access.token.expiresAt - Math.floor(await this.#tokens.now()) : tokenLifetimeSeconds;
    const lifetimeSeconds = Math.max(1, Math.min(tokenLifetimeSeconds, left));
    const { kind, id: subject, name } = identity;
    const { repositories, catalog } = request;
    const grants = kind === 'workload' ? identity.grants : [];
    const row = kind === 'key' ? await this.#rows.find(subject) : undefined;
    const fingerprint = row?.fingerprint;
    const claims = { kind, subject, name, grants, repositories, catalog, fingerprint };
    const token = await this.#tokens.signAccess(claims, lifetimeSeconds);
    const refreshToken =
      request.refresh && fingerprint !== undefined
        ? await this.#tokens.signRefresh({ subject, fingerprint }, refreshLifetimeSeconds)
        : undefined;
    return { token, lifetimeSeconds, refreshToken };
  }

  /**
   * What the holder of a refresh token may do.
   * @param address as of `authenticate`
   * @throws 'Unauthorized'; 'TooManyRequests'
   */
  async refresh(token: string, address: string): Promise<Access> {
    // One of another registry that was here before is old, and not forged.
    if (issuerOf(token) !== TOKEN_ISSUER) throw new RegistryError('Unauthorized', 'this token is not valid');
    const row = await this.#holderOf(await this.#counted(this.#tokens.verifyRefresh(token), address));
    return new Access(identityOf(row), await this.#open());
  }

  /** Told on ACCESS_CHANNEL that something changed. */
  onChange(payload: string): void {
    const [what, id] = payload.split(' ');
    if (what === 'key' && id !== undefined) this.#rows.end(id);
    if (what === 'session' && id !== undefined) this.sessions.forget(id);
    if (what === 'visibility') this.#visibility.end();
    if (what === 'signing-keys') this.#signingKeys.end();
  }

  /** Told that changes may have been missed: nothing that was read before now is believed. */
  onGap(): void {
    this.#rows.endAll();
    this.sessions.forgetAll();
    this.#visibility.end();
    this.#signingKeys.end();
  }

  /** Writes down which keys and sessions were used since the last time; what can't be written is kept for the next. */
  async flushUses(): Promise<void> {
    await this.sessions.flushUses();
    const uses = this.#uses;
    this.#uses = new Map();
    try {
      await noteUse(this.#options.database, uses);
    } catch (error) {
      this.#uses = new Map([...uses, ...this.#uses]);
      throw error;
    }
  }

  /** Hashes the secret of a new key. `cost` is bcrypt's. @throws 'TooManyRequests' if too many wait for it */
  async hashSecret(secret: string, cost: number): Promise<string> {
    return await this.#check.hash(secret, cost);
  }

  statistics(): KeyStatistics {
    return this.#check.statistics();
  }

  /** The key for which a token was given, if it still has the secret of then. @throws 'Unauthorized' */
  async #holderOf(claims: { subject: string; fingerprint: string | undefined }): Promise<KeyRow> {
    const row = await this.#rows.find(claims.subject);
    if (!row || row.fingerprint !== claims.fingerprint)
      throw new RegistryError('Unauthorized', 'the key of this token is revoked, has expired or has changed');
    return row;
  }

  async #open(): Promise<OpenPolicy> {
    return { anonymous: this.#options.anonymous, visibility: await this.#visibility.get() };
  }

  /** Counts tokens that prove to be forged, as wrong keys are counted; good ones never wait for that. */
  async #counted<T>(verified: Promise<T>, address: string): Promise<T> {
    try {
      return await verified;
    } catch (error) {
      if (!(error instanceof ForgedToken)) throw error;
      throw await this.#throttle.failed(address, error.claimed, error);
    }
  }

  async #identify(
    credentials: Credentials,
    address: string,
  ): Promise<{ identity: Identity; token?: TokenBounds | undefined }> {
    if (credentials.kind === 'none') return { identity: ANONYMOUS };
    const { kind, text } = credentials;
    const issuer = JWT.test(text) ? issuerOf(text) : undefined;
    if (issuer !== undefined && this.#oidc.knows(issuer)) {
      return await this.#oidc.verify(text, issuer);
    }
    if (kind === 'secret') return { identity: identityOf(await this.#check.check(text, address)) };
    if (issuer !== TOKEN_ISSUER) throw new RegistryError('Unauthorized', 'this token is not valid');
    return await this.#identifyToken(text);
  }

  async #identifyToken(text: string): Promise<{ identity: Identity; token: TokenBounds }> {
    const claims = await this.#tokens.verifyAccess(text);
    const { expiresAt, expired, catalog } = claims;
    const token = { repositories: new Set(claims.repositories), catalog, expiresAt, expired };
    if (claims.kind === 'anonymous') return { identity: ANONYMOUS, token };
    if (claims.kind === 'workload') {
      const { subject, name, grants } = claims;
      return { identity: { kind: 'workload', id: subject, name, grants, readOnly: false }, token };
    }
    return { identity: identityOf(await this.#holderOf(claims)), token };
  }
}

function identityOf({ id, name, grants, readOnly, fingerprint }: KeyRow): Identity {
  return { kind: 'key', id, name, grants, readOnly, secret: fingerprint };
}

function issuerOf(token: string): string | undefined {
  try {
    return decodeJwt(token).iss;
  } catch {
    return undefined;
  }
}
