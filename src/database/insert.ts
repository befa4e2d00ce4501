import type { Queries } from './connect.js';

/** Rows for a table. Its name and its columns stand in the program; only values come from outside. */
export interface Insert {
  readonly into: string;
  /** Names and PostgreSQL's types of the columns. */
  readonly columns: readonly (readonly [name: string, type: string])[];
  /** Values in the order of the columns; of a jsonb, its text. */
  readonly rows: readonly (readonly unknown[])[];
}

/**
 * Inserts as parts of a statement, whose parameters are added to `values`.
 * @param condition SQL that must hold, such as `where exists (select from held)`; it stands in the program
 */
export function insertParts(inserts: readonly Insert[], values: unknown[], condition = ''): string[] {
  return inserts.map(({ into, columns, rows }) => {
    const arrays = columns.map(([, type], column) => {
      values.push(rows.map((row) => row[column] ?? null));
      return `$${values.length}::${type}[]`;
    });
    return `insert into ${into} (${columns.map(([name]) => name).join(', ')}) select * from unnest(${arrays.join(', ')}) ${condition}`;
  });
}

/** Inserts rows into one or several tables by one statement: a round trip is most of what a small insert costs. */
export async function insertRows(queries: Queries, inserts: readonly Insert[]): Promise<void> {
  const values: unknown[] = [];
  const parts = insertParts(inserts, values);
  const last = parts.pop();
  if (last === undefined) return;
  const before = parts.map((part, index) => `i${index} as (${part})`);
  await queries.query(before.length > 0 ? `with ${before.join(', ')} ${last}` : last, values);
}
