import { compare, hash } from 'bcrypt';
import type { Database, Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
import { type Announced, announceAccess, type KeyFacts } from './changes.js';
import type { Grant } from './grants.js';
import { MAX_SECRET_BYTES, newKey, newKeyId, parseKey } from './key-text.js';
import { ACCESS_CHANNEL } from './lease.js';
import { endSessionsOfKey } from './sessions.js';

/** A key as it is listed: never with its secret nor its hash. */
export interface Key extends KeyFacts {
  readonly id: string;
  readonly createdAt: Date;
  readonly lastUsedAt: Date | null;
}

export interface NewKey {
  readonly name: string;
  readonly grants: readonly Grant[];
  readonly readOnly: boolean;
  readonly expiresAt?: Date | null | undefined;
}

const ADMIN: readonly Grant[] = [{ repository: '**', actions: ['admin'] }];
const MAX_NAME = 255;

/** A key that nobody has yet. */
export interface FreshKey {
  readonly id: string;
  /** For its holder, who alone ever has it. */
  readonly text: string;
  /** bcrypt's. */
  readonly hash: string;
}

/** Makes up a key. Hashing takes long, and belongs in no transaction. */
export async function freshKey(hashSecret: (secret: string) => Promise<string>): Promise<FreshKey> {
  const id = newKeyId();
  const text = newKey(id);
  return { id, text, hash: await hashSecret(parseKey(text).secret) };
}

/**
 * Makes a key. `cost` is bcrypt's, a power of two.
 * @returns its text, which nobody can read again.
 * @throws 'ParameterInvalid' for a name that is empty or too long, or an expiry in the past.
 */
export async function createKey(
  database: Database,
  key: NewKey,
  cost: number,
  announced: Announced,
): Promise<{ id: string; text: string }> {
  checkKey(key);
  const fresh = await freshKey((secret) => hash(secret, cost));
  await database.transaction((transaction) => addKey(transaction, fresh, key, announced));
  return { id: fresh.id, text: fresh.text };
}

/** @throws 'ParameterInvalid' for a name that is empty or too long, or an expiry in the past. */
function checkKey({ name, expiresAt }: NewKey): void {
  if (name === '' || name.length > MAX_NAME)
    throw new RegistryError('ParameterInvalid', `the name of a key must have 1 to ${MAX_NAME} characters`);
  if (expiresAt && expiresAt.getTime() <= Date.now())
    throw new RegistryError('ParameterInvalid', 'the expiry of the key is in the past');
}

/** Stores a new key. */
export async function addKey(
  transaction: Queries,
  { id, hash }: FreshKey,
  { name, grants, readOnly, expiresAt = null }: NewKey,
  announced: Announced,
): Promise<void> {
  await transaction.query(
    'insert into api_keys (name, key_prefix, key_hash, grants, read_only, expires_at) values ($1, $2, $3, $4, $5, $6)',
    [name, id, hash, JSON.stringify(grants), readOnly, expiresAt],
  );
  const after = { name, grants, readOnly, active: true, expiresAt };
  await announceAccess({ kind: 'key-created', id, after }, announced, transaction);
  await notifyKey(transaction, id);
}

/** Stores a key of full access unless there is one of its id. @returns whether it was stored. */
export async function addAdminKey(
  database: Database,
  text: string,
  name: string,
  cost: number,
  announced: Announced,
): Promise<boolean> {
  const { id, secret } = parseKey(text);
  const hashed = await hash(secret, cost);
  return await database.transaction(async (transaction) => {
    const added = await transaction.query(
      `insert into api_keys (name, key_prefix, key_hash, grants) values ($1, $2, $3, $4)
       on conflict (key_prefix) do nothing returning id`,
      [name, id, hashed, JSON.stringify(ADMIN)],
    );
    if (added.length === 0) return false;
    const after = { name, grants: ADMIN, readOnly: false, active: true, expiresAt: null };
    await announceAccess({ kind: 'key-created', id, after }, announced, transaction);
    await notifyKey(transaction, id);
    return true;
  });
}

/** Stores a key of full access (its hash), replacing the one of the same id, also a revoked one. */
export async function putAdminKey(
  database: Database,
  text: string,
  name: string,
  cost: number,
  announced: Announced,
): Promise<void> {
  const { id, secret } = parseKey(text);
  if (Buffer.byteLength(secret) > MAX_SECRET_BYTES)
    throw new Error(`a key's secret may have at most ${MAX_SECRET_BYTES} bytes`);
  const hashed = await hash(secret, cost);
  await database.transaction(async (transaction) => {
    const before = await lockKey(transaction, id);
    await transaction.query(
      `insert into api_keys (name, key_prefix, key_hash, grants) values ($1, $2, $3, $4)
       on conflict (key_prefix) do update
          set key_hash = excluded.key_hash, grants = excluded.grants, read_only = false, is_active = true, expires_at = null`,
      [name, id, hashed, JSON.stringify(ADMIN)],
    );
    const after = { name: before?.name ?? name, grants: ADMIN, readOnly: false, active: true, expiresAt: null };
    await announceAccess(
      before ? { kind: 'key-changed', id, before, after, secretReplaced: true } : { kind: 'key-created', id, after },
      announced,
      transaction,
    );
    await notifyKey(transaction, id);
  });
}

/** A key as it is now, its row held FOR UPDATE. */
async function lockKey(transaction: Queries, id: string): Promise<KeyFacts | undefined> {
  const [row] = await transaction.query<KeyFacts>(
    `select name, grants, read_only as "readOnly", is_active as active, expires_at as "expiresAt"
       from api_keys where key_prefix = $1 for update`,
    [id],
  );
  return row;
}

/** All keys, the oldest first. */
export async function listKeys(queries: Queries): Promise<Key[]> {
  return await queries.query<Key>(
    `select key_prefix as id, name, grants, read_only as "readOnly", is_active as active, created_at as "createdAt",
            expires_at as "expiresAt", last_used_at as "lastUsedAt" from api_keys order by created_at, key_prefix`,
  );
}

/**
 * Revokes a key. Its upload sessions end by an observer in the same transaction. It stops everywhere within
 * REVOKED_MS, which whoever tells a person that it is done waits for.
 * @returns false if it was revoked already. @throws 'KeyUnknown'
 */
export async function revokeKey(database: Database, id: string, announced: Announced): Promise<boolean> {
  return await database.transaction(async (transaction) => {
    const before = await lockKey(transaction, id);
    if (!before) throw new RegistryError('KeyUnknown', 'there is no key of this id', { detail: { id } });
    if (!before.active) return false;
    await transaction.query('update api_keys set is_active = false where key_prefix = $1', [id]);
    await endSessionsOfKey(transaction, id);
    const after = { ...before, active: false };
    await announceAccess({ kind: 'key-revoked', id, before, after }, announced, transaction);
    await notifyKey(transaction, id);
    return true;
  });
}

/** Notes that keys were used; done in the background. */
export async function noteUse(queries: Queries, uses: ReadonlyMap<string, Date>): Promise<void> {
  if (uses.size === 0) return;
  await queries.query(
    `update api_keys k set last_used_at = greatest(k.last_used_at, u.at)
       from unnest($1::text[], $2::timestamptz[]) as u (id, at) where k.key_prefix = u.id`,
    [[...uses.keys()], [...uses.values()]],
  );
}

/** The stored hash of a key, if there is such a key, active or not. */
export async function findKeyHash(
  queries: Queries,
  id: string,
): Promise<{ hash: string; active: boolean } | undefined> {
  const [row] = await queries.query<{ hash: string; active: boolean }>(
    'select key_hash as hash, is_active as active from api_keys where key_prefix = $1',
    [id],
  );
  return row;
}

/** Whether `text` is the key of which `hashed` is stored. */
export async function matchesKey(text: string, hashed: string): Promise<boolean> {
  return await compare(parseKey(text).secret, hashed);
}

/** Tells every process that a key changed, when the transaction holds. */
export async function notifyKey(transaction: Queries, id: string): Promise<void> {
  await transaction.query('select pg_notify($1, $2)', [ACCESS_CHANNEL, `key ${id}`]);
}
