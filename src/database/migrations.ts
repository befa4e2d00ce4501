import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';

/** The registry's own migrations: `NNNN_what_it_does.sql`. */
export const MIGRATIONS = new URL('../../../migrations/', import.meta.url);

/** A step of the schema, as its file has it (decision 0017). */
export interface Migration {
  readonly name: string;
  readonly sql: string;
  readonly sha256: string;
  /**
   * `NNNN` of `-- needs: NNNN`: it takes something away, and only a registry that knows that migration can work with
   * the database afterwards. Empty: it only adds, and every older registry goes on.
   */
  readonly needs: string;
  /** `-- concurrently`: its statements run one by one outside of a transaction, and can be repeated. */
  readonly concurrently: boolean;
}

/** The names of all migrations of a folder, in order. */
export async function listMigrations(folder: URL = MIGRATIONS): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort();
}

/** The number of the newest migration that this version knows, `NNNN`: what other versions know it by. */
export async function newestMigration(folder: URL = MIGRATIONS): Promise<string> {
  return numberOf((await listMigrations(folder)).at(-1) ?? '');
}

function numberOf(name: string): string {
  return /^\d{4}/.exec(name)?.[0] ?? '';
}

export async function readMigration(name: string, folder: URL = MIGRATIONS): Promise<Migration> {
  const bytes = await readFile(new URL(name, folder));
  const sql = bytes.toString('utf8');
  return {
    name,
    sql,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    needs: /^-- needs: (\d{4})$/m.exec(sql)?.[1] ?? '',
    concurrently: /^-- concurrently$/m.test(sql),
  };
}

/** The statements of a migration that runs them one by one; each ends with a semicolon at the end of a line. */
export function statementsOf({ sql }: Migration): string[] {
  return sql
    .split(/;[ \t]*$/m)
    .map((text) => text.replace(/^--.*$/gm, '').trim())
    .filter((text) => text !== '');
}
