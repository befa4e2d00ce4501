import { createHmac, randomBytes } from 'node:crypto';
import { compare, hash } from 'bcrypt';
import type { Database } from '../database/connect.js';
import { RegistryError } from '../errors.js';

/** What bcrypt looks at; longer secrets would be cut without a word. */
const MAX_SECRET_BYTES = 72;
const REMEMBER_MS = 60_000;
const MAX_REMEMBERED = 10_000;
const MAX_QUEUE = 64;

/** A key as its holder presents it: `wh_<id>_<secret>`, or any other text, which is the secret of the key `admin`. */
export interface PresentedKey {
  readonly id: string;
  readonly secret: string;
}

/** A key that passed. */
export interface AuthenticatedKey {
  readonly id: string;
  readonly name: string;
}

const WRITTEN = /^wh_([a-z0-9]{1,32})_(.+)$/s;

/** Takes a key apart. An operator's own choice (REGISTRY_ADMIN_KEY) has no id in it and belongs to `admin`. */
export function parseKey(text: string): PresentedKey {
  const match = WRITTEN.exec(text);
  return match?.[1] && match[2] ? { id: match[1], secret: match[2] } : { id: 'admin', secret: text };
}

/** A new key of the id with 192 random bits. */
export function newKey(id: string): string {
  return `wh_${id}_${randomBytes(24).toString('base64url')}`;
}

/** Stores a key (its hash), replacing the one of the same id. `cost` is bcrypt's, a power of two. */
export async function putKey(database: Database, text: string, name: string, cost: number): Promise<void> {
  const { id, secret } = parseKey(text);
  if (Buffer.byteLength(secret) > MAX_SECRET_BYTES)
    throw new Error(`a key's secret may have at most ${MAX_SECRET_BYTES} bytes`);
  await database.query(
    `insert into api_keys (name, key_prefix, key_hash, grants) values ($1, $2, $3, '[{"repository":"**","actions":["admin"]}]')
     on conflict (key_prefix) do update set key_hash = excluded.key_hash, is_active = true, expires_at = null`,
    [name, id, await hash(secret, cost)],
  );
}

/** The stored hash of a key, if there is such a key. */
export async function findKeyHash(database: Database, id: string): Promise<string | undefined> {
  const [row] = await database.query<{ hash: string }>('select key_hash as hash from api_keys where key_prefix = $1', [
    id,
  ]);
  return row?.hash;
}

/** Whether `text` is the key of which `hashed` is stored. */
export async function matchesKey(text: string, hashed: string): Promise<boolean> {
  return await compare(parseKey(text).secret, hashed);
}

/**
 * Checks keys. bcrypt shares libuv's threads with the disk, so one check runs at a time, the queue is bounded, and what
 * passed or failed is remembered for a minute under a keyed hash that only this process can make.
 */
export class Keys {
  readonly #database: Database;
  readonly #pepper = randomBytes(32);
  readonly #remembered = new Map<string, { key: AuthenticatedKey | undefined; until: number }>();
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  /** @throws 'Unauthorized' if the key is none; 'TooManyRequests' if too many wait for their check. */
  async authenticate(text: string): Promise<AuthenticatedKey> {
    const fingerprint = createHmac('sha256', this.#pepper).update(text).digest('base64');
    const now = performance.now();
    const remembered = this.#remembered.get(fingerprint);
    if (remembered && remembered.until > now) return passed(remembered.key);
    const key = await this.#check(text);
    this.#remembered.delete(fingerprint);
    this.#remembered.set(fingerprint, { key, until: performance.now() + REMEMBER_MS });
    const oldest = this.#remembered.keys().next().value;
    if (this.#remembered.size > MAX_REMEMBERED && oldest !== undefined) this.#remembered.delete(oldest);
    return passed(key);
  }

  async #check(text: string): Promise<AuthenticatedKey | undefined> {
    const { id, secret } = parseKey(text);
    if (Buffer.byteLength(secret) > MAX_SECRET_BYTES) return undefined;
    if (this.#waiting >= MAX_QUEUE)
      throw new RegistryError('TooManyRequests', 'too many keys wait to be checked', { retryAfter: 1 });
    this.#waiting += 1;
    const mine = this.#turn.then(() => this.#compare(id, secret));
    this.#turn = mine.catch(() => undefined);
    try {
      return await mine;
    } finally {
      this.#waiting -= 1;
    }
  }

  async #compare(id: string, secret: string): Promise<AuthenticatedKey | undefined> {
    const [row] = await this.#database.query<{ name: string; hash: string }>(
      'select name, key_hash as hash from api_keys where key_prefix = $1 and is_active and (expires_at is null or expires_at > now())',
      [id],
    );
    if (!row || !(await compare(secret, row.hash))) return undefined;
    return { id, name: row.name };
  }
}

function passed(key: AuthenticatedKey | undefined): AuthenticatedKey {
  if (!key) throw new RegistryError('Unauthorized', 'this key is not known');
  return key;
}
