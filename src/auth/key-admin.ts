import { isDeepStrictEqual } from 'node:util';
import type { Queries } from '../database/connect.js';
import { Conditions, containing, type Page, type PageQuery, readPage } from '../database/pages.js';
import { RegistryError } from '../errors.js';
import { type Announced, announceAccess, type KeyFacts } from './changes.js';
import type { Grant } from './grants.js';
import { notifyKey } from './keys.js';
import { endSessionsOfKey } from './sessions.js';

/** A key as it is shown to admins: never with its secret nor its hash. */
export interface ShownKey {
  readonly id: string;
  readonly name: string;
  /** What stands in its text, and what is written down as the actor of its changes. */
  readonly key_prefix: string;
  readonly grants: readonly Grant[];
  readonly read_only: boolean;
  readonly is_active: boolean;
  readonly expires_at: Date | null;
  readonly last_used_at: Date | null;
  readonly created_at: Date;
}

export interface KeyFilters {
  readonly is_active?: boolean | undefined;
  /** Text in the name. */
  readonly q?: string | undefined;
}

/** What of a key can be changed. */
export type KeyChanges = Partial<Pick<ShownKey, 'name' | 'grants' | 'read_only' | 'is_active' | 'expires_at'>>;

/** A change of a key: who makes it, and what has to be kept from harm. */
export interface KeyChange {
  readonly announced: Announced;
  /** Told the key as it is, locked, before it changes; what it throws is the outcome. */
  expect(current: ShownKey): void;
}

const COLUMNS =
  'k.id, k.name, k.key_prefix, k.grants, k.read_only, k.is_active, k.expires_at, k.last_used_at, k.created_at';
const ADMIN = JSON.stringify([{ actions: ['admin'] }]);

/** A page of all keys, the newest first. @throws 'PageInvalid' */
export async function listKeyPage(queries: Queries, filters: KeyFilters, page: PageQuery): Promise<Page<ShownKey>> {
  const conditions = new Conditions()
    .add('k.is_active = ?', filters.is_active)
    .add('k.name ilike ?', filters.q === undefined ? undefined : containing(filters.q));
  return await readPage<ShownKey>(queries, page, {
    columns: COLUMNS,
    from: 'api_keys k',
    conditions,
    sorts: { created_at: { expression: 'k.created_at', type: 'timestamptz' } },
    defaultSort: '-created_at',
    id: 'k.id',
    idType: 'uuid',
  });
}

/** The key with this id of its text. @throws 'KeyUnknown' */
export async function getKeyByPrefix(queries: Queries, prefix: string): Promise<ShownKey> {
  const [row] = await queries.query<ShownKey>(`select ${COLUMNS} from api_keys k where k.key_prefix = $1`, [prefix]);
  if (!row) throw unknown();
  return row;
}

/**
 * Changes a key. What it may no longer do stops everywhere within REVOKED_MS, which whoever tells a person that it is done
 * waits for.
 * @returns the key as it is then, and whether any right of it changed
 * @throws 'KeyUnknown'; 'Conflict' if no admin could come in any more
 */
export async function changeKey(
  transaction: Queries,
  id: string,
  changes: KeyChanges,
  { announced, expect }: KeyChange,
): Promise<{ key: ShownKey; rightsChanged: boolean }> {
  const { key: before, others } = await lockWithAdmins(transaction, id);
  expect(before);
  const said = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as KeyChanges;
  const after = { ...before, ...said };
  if (isDeepStrictEqual(before, after)) return { key: before, rightsChanged: false };
  if (isNarrower(before, after)) keepAnAdmin(before, others);
  await transaction.query(
    'update api_keys set name = $2, grants = $3, read_only = $4, is_active = $5, expires_at = $6 where id = $1',
    [id, after.name, JSON.stringify(after.grants), after.read_only, after.is_active, after.expires_at],
  );
  const told = { id: before.key_prefix, before: factsOf(before), after: factsOf(after) };
  const revoked = before.is_active && !after.is_active;
  if (revoked) await endSessionsOfKey(transaction, before.key_prefix);
  await announceAccess(
    revoked ? { kind: 'key-revoked', ...told } : { kind: 'key-changed', ...told, secretReplaced: false },
    announced,
    transaction,
  );
  await notifyKey(transaction, before.key_prefix);
  return { key: after, rightsChanged: !isDeepStrictEqual({ ...before, name: '' }, { ...after, name: '' }) };
}

/**
 * Removes a key for good; what it did stays written down under its id. It stops everywhere within REVOKED_MS.
 * @param made id of the key that a start of the registry would make again
 * @throws 'KeyUnknown'; 'Conflict' if no admin could come in any more, or if it would come back
 */
export async function removeKey(
  transaction: Queries,
  id: string,
  made: string,
  { announced, expect }: KeyChange,
): Promise<void> {
  const { key, others } = await lockWithAdmins(transaction, id);
  expect(key);
  if (key.key_prefix === made)
    throw inTheWay(
      key,
      'This key would be made again at the next start of the registry: set is_active to false instead',
    );
  if (isAdmin(key)) keepAnAdmin(key, others);
  await transaction.query('delete from api_keys where id = $1', [id]);
  await announceAccess({ kind: 'key-removed', id: key.key_prefix, before: factsOf(key) }, announced, transaction);
  await notifyKey(transaction, key.key_prefix);
}

/** A key and all others of admins, held FOR UPDATE in one order, so that no two of them can take leave of each other at once. */
async function lockWithAdmins(transaction: Queries, id: string): Promise<{ key: ShownKey; others: ShownKey[] }> {
  const wanted = id.toLowerCase();
  const rows = await transaction.query<ShownKey>(
    `select ${COLUMNS} from api_keys k
      where k.id = $1 or (k.is_active and k.grants @> $2::jsonb) order by k.id for update`,
    [wanted, ADMIN],
  );
  const key = rows.find((row) => row.id === wanted);
  if (!key) throw unknown();
  return { key, others: rows.filter((row) => row.id !== wanted) };
}

/** @throws 'Conflict' if there is no other key that could give out keys */
function keepAnAdmin(key: ShownKey, others: readonly ShownKey[]): void {
  if (others.some(isAdmin)) return;
  throw inTheWay(key, 'No other active key is an admin: nobody could come in any more');
}

/** Whether it may change the registry as a whole, now. */
function isAdmin({ grants, read_only, is_active, expires_at }: ShownKey): boolean {
  const lives = is_active && (expires_at === null || expires_at.getTime() > Date.now());
  return lives && !read_only && grants.some(({ actions }) => actions.includes('admin'));
}

/** Whether an admin would be none, or none for as long. */
function isNarrower(before: ShownKey, after: ShownKey): boolean {
  const end = ({ expires_at }: ShownKey) => expires_at?.getTime() ?? Number.POSITIVE_INFINITY;
  return isAdmin(before) && (!isAdmin(after) || end(after) < end(before));
}

function factsOf({ name, grants, read_only, is_active, expires_at }: ShownKey): KeyFacts {
  return { name, grants, readOnly: read_only, active: is_active, expiresAt: expires_at };
}

function inTheWay({ id, name }: ShownKey, message: string): RegistryError {
  return new RegistryError('Conflict', message, { detail: { conflicts: [{ type: 'api-key', id, name }] } });
}

function unknown(): RegistryError {
  return new RegistryError('KeyUnknown', 'API key not found');
}
