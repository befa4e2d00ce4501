import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import pg from 'pg';
import type { Log } from '../log.js';

const FOLDER = new URL('../../../migrations/', import.meta.url);
const LOCK = 7_133_041_962;

/**
 * Brings the database up to the newest migration: forward-only SQL files, each in a transaction of its own. Several
 * processes may start at once: one migrates, the others wait and find it done.
 * @returns the names of the migrations that were applied now.
 * @throws Error when an applied migration is unknown here (the database is newer) or its file was changed since.
 */
export async function migrate(url: string, log: Log): Promise<string[]> {
  const client = new pg.Client({ connectionString: url, application_name: 'weighhouse migrate' });
  await client.connect();
  try {
    await client.query('select pg_advisory_lock($1)', [LOCK]);
    await client.query(
      'create table if not exists migrations (name text collate "C" primary key, sha256 text not null, applied_at timestamptz not null default now())',
    );
    const { rows } = await client.query<{ name: string; sha256: string }>(
      'select name, sha256 from migrations order by name',
    );
    const files = new Set(await readdir(FOLDER));
    for (const { name, sha256 } of rows) {
      if (!files.has(name))
        throw new Error(`the database has the migration ${name}, which this older version of Weighhouse does not know`);
      if (sha256 !== fingerprint(await readFile(new URL(name, FOLDER))))
        throw new Error(`the migration ${name} was changed after it was applied`);
    }
    const done = new Set(rows.map((row) => row.name));
    if ([...files].every((name) => done.has(name))) return [];
    // Loaded only when there is something to do: it takes a tenth of a second of every start.
    const { Umzug } = await import('umzug');
    const umzug = new Umzug({
      migrations: {
        glob: ['*.sql', { cwd: FOLDER.pathname }],
        resolve: ({ name, path }) => ({ name, up: () => apply(client, name, path ?? '') }),
      },
      storage: {
        logMigration: () => Promise.resolve(),
        unlogMigration: refuse,
        executed: () => Promise.resolve(rows.map((row) => row.name)),
      },
      logger: undefined,
    });
    const applied = (await umzug.up()).map((migration) => migration.name);
    if (applied.length > 0) log.info({ applied }, 'migrated the database');
    return applied;
  } finally {
    await client.end();
  }
}

async function apply(client: pg.Client, name: string, path: string): Promise<void> {
  const sql = await readFile(path);
  await client.query('begin');
  try {
    await client.query(sql.toString('utf8'));
    await client.query('insert into migrations (name, sha256) values ($1, $2)', [name, fingerprint(sql)]);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`the migration ${name} failed: ${message}${adviceOn(message)}`, { cause: error });
  }
}

/** What an operator does about an extension that can't be made. */
function adviceOn(message: string): string {
  const [, denied] = /permission denied to create extension "(\w+)"/.exec(message) ?? [];
  if (denied !== undefined)
    return `; grant this user CREATE on the database, or let a superuser run: create extension ${denied}`;
  const [, absent] = /extension "(\w+)" is not available|extension control file .*\/(\w+)\.control/.exec(message) ?? [];
  if (absent === undefined) return '';
  return `; it is one of PostgreSQL's contrib modules, which its server needs (package postgresql-contrib, where they come apart)`;
}

function refuse(): Promise<never> {
  return Promise.reject(new Error('migrations go forward only'));
}

function fingerprint(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
