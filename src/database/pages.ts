import { RegistryError } from '../errors.js';
import type { Queries } from './connect.js';

/** A column or expression by which a list can be sorted; its values come back as text in cursors. */
export interface Sort {
  /** Never null; with the id behind it there is an index over it. */
  readonly expression: string;
  readonly type: 'timestamptz' | 'text' | 'bigint' | 'integer';
}

/** What a list is asked for. */
export interface PageQuery {
  /** Entries, 1 to 1,000. */
  readonly limit: number;
  /** As it was given with the page before. */
  readonly cursor?: string | undefined;
  /** A field, or `-field` for the other way round. */
  readonly sort?: string | undefined;
  readonly total?: boolean | undefined;
}

/** One page of a list. */
export interface Page<Row> {
  readonly items: Row[];
  /** For the page that follows; null: there is none. */
  readonly next: string | null;
  /** How many there are on all pages, if that was asked. */
  readonly total?: number;
}

/** Conditions of a WHERE with their values, numbered as they come. */
export class Conditions {
  readonly #texts: string[] = [];
  readonly values: unknown[] = [];

  /** Adds one; `?` stands for the value, and may stand several times. Nothing is added for undefined. */
  add(text: string, value: unknown): this {
    if (value === undefined) return this;
    this.values.push(value);
    this.#texts.push(text.replaceAll('?', `$${this.values.length}`));
    return this;
  }

  /** Gives a value its number, to be named in a condition that is added afterwards. */
  place(value: unknown): string {
    return `$${this.values.push(value)}`;
  }

  /** Adds one without a value. */
  say(text: string): this {
    this.#texts.push(text);
    return this;
  }

  get text(): string {
    return this.#texts.length === 0 ? 'true' : this.#texts.join(' and ');
  }
}

export interface ListOptions {
  readonly columns: string;
  /** What stands behind FROM; its first table is what the list is of. */
  readonly from: string;
  readonly conditions: Conditions;
  readonly sorts: Readonly<Record<string, Sort>>;
  readonly defaultSort: string;
  /** The expression that tells rows apart. */
  readonly id: string;
  readonly idType: 'uuid' | 'bigint' | 'text';
}

/**
 * Reads one page by keyset: an index scan from the cursor on, whatever came before.
 * @throws 'PageInvalid' for a cursor of another list or another order, or an unknown sort.
 */
export async function readPage<Row extends object>(
  queries: Queries,
  { limit, cursor, sort, total }: PageQuery,
  options: ListOptions,
): Promise<Page<Row>> {
  const order = sort ?? options.defaultSort;
  const descending = order.startsWith('-');
  const by = options.sorts[descending ? order.slice(1) : order];
  if (!by) throw unfit('sort', `must be one of ${Object.keys(options.sorts).join(', ')}, or - before it`);
  const { conditions, from, columns, id, idType } = options;
  const counted = total ? await count(queries, from, conditions) : undefined;
  const { values } = conditions;
  const list = `${/^\w*/.exec(from)?.[0]} ${order}`;
  const after = cursor === undefined ? undefined : parseCursor(cursor, list, by, idType);
  if (after) values.push(...after);
  const place = `(${by.expression}, ${id})`;
  const bound = after
    ? ` and ${place} ${descending ? '<' : '>'} ($${values.length - 1}::${by.type}, $${values.length}::${idType})`
    : '';
  const way = descending ? 'desc' : 'asc';
  // In UTC with microseconds, which a Date would lose.
  const text =
    by.type === 'timestamptz'
      ? `to_char(${by.expression} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
      : `${by.expression}::text`;
  const rows = await queries.query<Row & { page_sort?: string; page_id?: string }>(
    `select ${columns}, ${text} as page_sort, ${id}::text as page_id from ${from} where ${conditions.text}${bound}
      order by ${by.expression} ${way}, ${id} ${way} limit ${limit + 1}`,
    values,
    { prepare: false },
  );
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  const next = rows.length > limit && last ? writeCursor([list, last.page_sort ?? '', last.page_id ?? '']) : null;
  for (const item of items) {
    delete item.page_sort;
    delete item.page_id;
  }
  return { items, next, ...(counted === undefined ? {} : { total: counted }) };
}

async function count(queries: Queries, from: string, conditions: Conditions): Promise<number> {
  const text = `select count(*) as total from ${from} where ${conditions.text}`;
  const [row] = await queries.query<{ total: number }>(text, conditions.values, { prepare: false });
  return row?.total ?? 0;
}

const TYPES: Readonly<Record<string, RegExp>> = {
  timestamptz: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/,
  bigint: /^-?\d{1,16}$/,
  integer: /^-?\d{1,9}$/,
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  // biome-ignore lint/suspicious/noControlCharactersInRegex: PostgreSQL's texts hold everything but NUL.
  text: /^[^\u0000]{0,2000}$/,
};

/** Names the place in an order after which the next page begins. */
export function writeCursor(parts: readonly [list: string, value: string, id: string]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

/**
 * The value and the id after which a page begins.
 * @throws 'PageInvalid' for a cursor of another list or another order
 */
export function parseCursor(text: string, list: string, by: Pick<Sort, 'type'>, idType: string): [string, string] {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
  } catch {
    parts = undefined;
  }
  const [asked, value, id]: unknown[] = Array.isArray(parts) ? parts : [];
  const fits =
    asked === list &&
    typeof value === 'string' &&
    typeof id === 'string' &&
    TYPES[by.type]?.test(value) &&
    TYPES[idType]?.test(id) &&
    (by.type !== 'timestamptz' || isTime(value));
  if (!fits) throw unfit('cursor', 'this is no cursor of this list in this order');
  return [value as string, id as string];
}

/** Whether there is such a day and time; PostgreSQL has no year 0. */
function isTime(text: string): boolean {
  const time = new Date(text);
  if (Number.isNaN(time.getTime()) || text.startsWith('0000')) return false;
  return time.toISOString().slice(0, 19) === text.slice(0, 19);
}

function unfit(parameter: keyof PageQuery, message: string): RegistryError {
  return new RegistryError('PageInvalid', message, { detail: { parameter } });
}

/** A page of a list by name that is read otherwise. @param rows from the cursor on, at least one more than `limit` if there are */
export function pageByName<Row extends { readonly name: string }>(
  list: string,
  rows: readonly Row[],
  limit: number,
): Page<Row> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return { items, next: rows.length > limit && last ? writeCursor([list, last.name, '']) : null };
}

/** The name after which a page of such a list begins. @throws 'PageInvalid' for a cursor of another list */
export function parseNameCursor(list: string, cursor: string | undefined): string {
  return cursor === undefined ? '' : parseCursor(cursor, list, { type: 'text' }, 'text')[0];
}

/** A pattern for ILIKE that finds `text` anywhere. */
export function containing(text: string): string {
  return `%${text.replace(/[\\%_]/g, '\\$&')}%`;
}
