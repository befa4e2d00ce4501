import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Database, Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import type { Identity } from './access.js';
import { type Announced, announceAccess } from './changes.js';
import { ACCESS_CHANNEL, Leases } from './lease.js';

/** A browser that is signed in with a key. */
export interface Session {
  /** Of what its cookie holds: sha256, base64url. */
  readonly id: string;
  /** The key's id, and a fingerprint of the secret that was shown. */
  readonly key: string;
  readonly fingerprint: string;
  readonly createdAt: Date;
  /** The end of it, however much it is used. */
  readonly expiresAt: Date;
}

export interface SessionLimits {
  readonly lifetimeSeconds: number;
  /** It is over, too, when nothing was asked for so long. */
  readonly idleSeconds: number;
}

/** Such a number that no person notices, and no script fills the table. */
const MAX_OF_KEY = 1_000;
/** After its end a session is still known to be over, and what began with it goes on. */
const KEPT = "interval '1 day'";
const BATCH = 1_000;
/** 256 random bits under a name by which logs know them. */
const COOKIE = /^whs_[A-Za-z0-9_-]{43}$/;
const COLUMNS = 'id, key_prefix as key, fingerprint, created_at as "createdAt", expires_at as "expiresAt"';

/** The sessions of browsers: rows, each believed under a lease, so that one that ends stops everywhere within REVOKED_MS. */
export class Sessions {
  readonly #database: Database;
  readonly #limits: SessionLimits;
  readonly #rows: Leases<(Session & { readonly over: boolean }) | undefined>;
  /** When each was last used since that was written down, by monotonic time. */
  #uses = new Map<string, number>();

  constructor(database: Database, limits: SessionLimits) {
    this.#database = database;
    this.#limits = limits;
    this.#rows = new Leases((id) => this.#read(id));
  }

  get idleSeconds(): number {
    return this.#limits.idleSeconds;
  }

  /**
   * Signs in whoever showed a key.
   * @param former a cookie that the browser had before; its session ends with this.
   * @returns what the browser's cookie is to hold
   * @throws 'Unauthorized' if the key has ended meanwhile
   */
  async begin(identity: Identity, former: string | undefined, announced: Announced): Promise<[Session, string]> {
    const cookie = `whs_${randomBytes(32).toString('base64url')}`;
    const session = await this.#database.transaction(async (transaction) => {
      if (former !== undefined) await endSession(transaction, idOf(former), announced);
      const [row] = await transaction.query<Session>(
        // Held, so that a revocation at the same time either is seen here or ends it.
        `insert into sessions (id, key_prefix, fingerprint, expires_at)
         select $1, key_prefix, $3, least(now() + make_interval(secs => $4), expires_at) from api_keys
          where key_prefix = $2 and is_active and (expires_at is null or expires_at > now()) for share
         returning ${COLUMNS}`,
        [idOf(cookie), identity.id, identity.secret, this.#limits.lifetimeSeconds],
      );
      if (!row) throw new RegistryError('Unauthorized', 'this key is not known');
      await transaction.query(
        `delete from sessions where id in
          (select id from sessions where key_prefix = $1 order by created_at desc, id offset $2)`,
        [identity.id, MAX_OF_KEY],
      );
      const { id, key, expiresAt } = row;
      await announceAccess({ kind: 'session-begun', id, key, expiresAt }, announced, transaction);
      return row;
    });
    return [session, cookie];
  }

  /** The session of a cookie; undefined: it has ended, or never was. */
  async find(cookie: string): Promise<Session | undefined> {
    if (!COOKIE.test(cookie)) return undefined;
    const row = await this.#rows.get(idOf(cookie));
    return row && !row.over ? row : undefined;
  }

  /** Whether requests that began in a session go on: until it is ended, also beyond its time. */
  async isThere(id: string): Promise<boolean> {
    return (await this.#rows.get(id)) !== undefined;
  }

  /** Ends a session; that holds everywhere within REVOKED_MS, which whoever tells a person waits for. */
  async end(id: string, announced: Announced): Promise<void> {
    await this.#database.transaction((transaction) => endSession(transaction, id, announced));
  }

  /** Notes that one is used, so that it is not taken for idle. */
  use(id: string): void {
    this.#uses.set(id, performance.now());
  }

  /** Writes down which were used since the last time; what can't be written is kept for the next. */
  async flushUses(): Promise<void> {
    const uses = this.#uses;
    if (uses.size === 0) return;
    this.#uses = new Map();
    const now = performance.now();
    try {
      await this.#database.query(
        `update sessions s set seen_at = greatest(s.seen_at, now() - make_interval(secs => u.ago))
           from unnest($1::text[], $2::float8[]) as u (id, ago) where s.id = u.id`,
        [[...uses.keys()], [...uses.values()].map((at) => (now - at) / 1000)],
      );
    } catch (error) {
      this.#uses = new Map([...uses, ...this.#uses]);
      throw error;
    }
  }

  /** Told that one ended. */
  forget(id: string): void {
    this.#rows.end(id);
  }

  /** Told that the ends of some may have been missed. */
  forgetAll(): void {
    this.#rows.endAll();
  }

  async #read(id: string) {
    const [row] = await this.#database.query<Session & { over: boolean }>(
      `select ${COLUMNS}, expires_at <= now() or seen_at + make_interval(secs => $2) <= now() as over
         from sessions where id = $1`,
      [id, this.#limits.idleSeconds],
    );
    return row;
  }
}

/** What a page has to send beside the cookie to change anything; it tells nothing of the cookie. */
export function csrfTokenOf(cookie: string): string {
  return createHmac('sha256', cookie).update('csrf').digest('base64url');
}

export function isCsrfTokenOf(cookie: string, token: string): boolean {
  const [wanted, given] = [csrfTokenOf(cookie), token].map((text) => createHash('sha256').update(text).digest());
  return wanted !== undefined && given !== undefined && timingSafeEqual(wanted, given);
}

/** Ends all sessions of a key with the key. */
export async function endSessionsOfKey(transaction: Queries, key: string): Promise<void> {
  await transaction.query('delete from sessions where key_prefix = $1', [key]);
}

/** Forgets sessions that were over long ago. */
export function sessionsJob(database: Database, everyMs: number) {
  const run = async () => {
    const rows = await database.query(
      `delete from sessions where id = any(array(select id from sessions
        where expires_at < now() - ${KEPT} order by expires_at limit $1)) returning id`,
      [BATCH],
    );
    return rows.length === BATCH;
  };
  return { name: 'sessions', everyMs, run };
}

async function endSession(transaction: Queries, id: string, announced: Announced): Promise<void> {
  const [row] = await transaction.query<{ key: string }>(
    'delete from sessions where id = $1 returning key_prefix as key',
    [id],
  );
  if (!row) return;
  await announceAccess({ kind: 'session-ended', id, key: row.key }, announced, transaction);
  await transaction.query('select pg_notify($1, $2)', [ACCESS_CHANNEL, `session ${id}`]);
}

function idOf(cookie: string): string {
  return createHash('sha256').update(cookie).digest('base64url');
}
