import type { Queries } from '../database/connect.js';
import { type Page, type PageQuery, parseCursor, writeCursor } from '../database/pages.js';

/** A row of the record. */
export interface AuditRow {
  readonly id: number;
  /** The key's id, and its name as it was then. */
  readonly actor: string;
  readonly actorName: string;
  readonly action: string;
  readonly resourceType: string;
  readonly resourceId: string;
  readonly repository: string | null;
  readonly details: Readonly<Record<string, unknown>>;
  readonly ipAddress: string;
  readonly userAgent: string;
  readonly requestId: string;
  readonly createdAt: Date;
}

/** What is asked for; all of it has to hold. */
export interface AuditFilters {
  readonly actor?: string | undefined;
  /** An action, or all that begin alike: `release.*`. */
  readonly action?: string | undefined;
  readonly resourceType?: string | undefined;
  readonly resourceId?: string | undefined;
  readonly repository?: string | undefined;
  /** From this time on. */
  readonly since?: Date | undefined;
  /** Before this time. */
  readonly until?: Date | undefined;
}

/** The place after a row: its time to the microsecond, which a Date can't hold, and its number. */
export interface AuditCursor {
  readonly createdAt: string;
  readonly id: number;
}

/** Rows, and where those after them begin. */
export interface AuditRows {
  readonly rows: readonly AuditRow[];
  /** Where the next page begins; undefined: there is none. */
  readonly next: AuditCursor | undefined;
}

export interface AuditRowsOptions {
  readonly filters: AuditFilters;
  readonly cursor?: AuditCursor | undefined;
  readonly limit: number;
}

/** Of which a stream reads at once. */
const STREAM_PAGE = 1_000;
/** The order of the list, as its cursors name it. */
const ORDER = '-created_at';

const COLUMNS = `id, actor, actor_name as "actorName", action, resource_type as "resourceType", resource_id as "resourceId",
  repository, details, ip_address as "ipAddress", user_agent as "userAgent", request_id as "requestId",
  created_at as "createdAt", to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`;

/** At most `limit` rows after `cursor`, the newest first; each filter has an index in this order. */
export async function listAudit(queries: Queries, options: AuditRowsOptions): Promise<AuditRows> {
  const { limit, filters } = options;
  const actions = filters.action === undefined ? undefined : await actionsOf(queries, filters.action);
  if (actions?.length === 0) return { rows: [], next: undefined };
  const { text, values } = auditStatement({ ...options, limit: limit + 1 }, actions);
  const found = await queries.query<AuditRow & { at: string }>(text, values, { prepare: false });
  const last = found[limit - 1];
  const more = found.length > limit && last !== undefined;
  return {
    rows: found.slice(0, limit).map(({ at: _, ...row }) => row),
    next: more ? { createdAt: last.at, id: last.id } : undefined,
  };
}

/** The actions that a filter means: itself, or the few that begin like it, found by leaps through the index. */
export async function actionsOf(queries: Queries, action: string): Promise<string[]> {
  if (!action.endsWith('.*')) return [action];
  const rows = await queries.query<{ action: string }>(
    `with recursive known (action) as (
       select min(action) from audit_logs where action > $1
       union all
       select (select min(action) from audit_logs where action > known.action) from known where starts_with(action, $1))
     select action from known where starts_with(action, $1)`,
    [action.slice(0, -1)],
  );
  return rows.map((row) => row.action);
}

/** A page of the rows that match, with its cursor as a text. @throws 'PageInvalid' */
export async function readAuditPage(
  queries: Queries,
  filters: AuditFilters,
  { limit, cursor, total }: PageQuery,
): Promise<Page<AuditRow>> {
  const { rows, next } = await listAudit(queries, { filters, cursor: readCursor(cursor), limit });
  return {
    items: [...rows],
    next: next ? writeCursor([ORDER, next.createdAt, String(next.id)]) : null,
    ...(total ? { total: await countAudit(queries, filters) } : {}),
  };
}

/** @throws 'PageInvalid' */
function readCursor(text: string | undefined): AuditCursor | undefined {
  if (text === undefined) return undefined;
  const [createdAt, id] = parseCursor(text, ORDER, { type: 'timestamptz' }, 'bigint');
  return { createdAt, id: Number(id) };
}

async function countAudit(queries: Queries, filters: AuditFilters): Promise<number> {
  const actions = filters.action === undefined ? undefined : await actionsOf(queries, filters.action);
  const { conditions, values } = conditionsOf(filters);
  if (actions) conditions.push(`action = any($${values.push(actions)}::text[])`);
  const where = conditions.length > 0 ? `where ${conditions.join(' and ')}` : '';
  const text = `select count(*) as total from audit_logs ${where}`;
  const [row] = await queries.query<{ total: number }>(text, values, { prepare: false });
  return row?.total ?? 0;
}

/**
 * All rows that match, the newest first, by pages: each is a statement of its own, and nothing stays open in between.
 * @param from the cursor of a page, as a text: what comes after it. @throws 'PageInvalid'
 */
export async function* streamAudit(
  queries: Queries,
  filters: AuditFilters,
  page: number = STREAM_PAGE,
  from?: string,
): AsyncGenerator<readonly AuditRow[], void> {
  let cursor = readCursor(from);
  do {
    const { rows, next } = await listAudit(queries, { filters, cursor, limit: page });
    yield rows;
    cursor = next;
  } while (cursor);
}

/** The statement of a page, for one or several actions or any; also for those who want to see its plan. */
export function auditStatement(
  { filters, cursor, limit }: AuditRowsOptions,
  actions: readonly string[] | undefined,
): { text: string; values: unknown[] } {
  const { conditions, values } = conditionsOf(filters);
  const value = (given: unknown) => `$${values.push(given)}`;
  if (cursor)
    conditions.push(`(created_at, id) < (${value(cursor.createdAt)}::timestamptz, ${value(cursor.id)}::bigint)`);
  const count = value(limit);
  const newest = (columns: string, from: string, where: readonly string[]) => {
    const filter = where.length > 0 ? `where ${where.join(' and ')}` : '';
    return `select ${columns} from ${from} ${filter} order by created_at desc, id desc limit ${count}`;
  };
  if (!actions) return { text: newest(COLUMNS, 'audit_logs', conditions), values };
  // The index has the order of time within each action; of several the newest of each are put together.
  const each = actions.map((action) => `(${newest('*', 'audit_logs', [...conditions, `action = ${value(action)}`])})`);
  return { text: newest(COLUMNS, `(${each.join(' union all ')}) found`, []), values };
}

/** The conditions of all filters but the action. */
function conditionsOf(filters: AuditFilters): { conditions: string[]; values: unknown[] } {
  const values: unknown[] = [];
  const conditions: string[] = [];
  for (const [condition, wanted] of [
    ['actor =', filters.actor],
    ['resource_type =', filters.resourceType],
    ['resource_id =', filters.resourceId],
    ['repository =', filters.repository],
    ['created_at >=', filters.since],
    ['created_at <', filters.until],
  ] as const)
    if (wanted !== undefined) conditions.push(`${condition} $${values.push(wanted)}`);
  return { conditions, values };
}
