import type { Queries } from '../database/connect.js';
import type { Rights } from './rights.js';

/** The models that a caller may read; undefined: all of them. One query, whatever the number of grants. */
export async function visibleModels(queries: Queries, rights: Rights): Promise<string[] | undefined> {
  if (rights.seesAll) return undefined;
  const rows = await queries.query<{ id: string; storage_path: string }>('select id, storage_path from models');
  return rows.filter((row) => rights.maySee(row.storage_path)).map((row) => row.id);
}
