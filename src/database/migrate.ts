import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Log } from '../log.js';
import type { Queries } from './connect.js';
import {
  listMigrations,
  MIGRATIONS,
  type Migration,
  newestMigration,
  readMigration,
  statementsOf,
} from './migrations.js';
import { olderProcesses } from './versions.js';

const LOCK = 7_133_041_962;
const LOOK_MS = 250;
/** A statement that waits for a table holds up all who come after it: it gives way after this, and tries again. */
const LOCK_WAIT_MS = 1_000;
const LOCK_ATTEMPTS = 300;
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const HELD_UP = new Set(['55P03', '40P01']);

/**
 * Brings the database up to the newest migration: forward-only SQL files, each in a transaction of its own unless it says
 * otherwise. Several processes may start at once, and older versions may serve meanwhile: one migrates, the others wait and
 * find it done.
 * @param folder where the migrations are; a test has others
 * @returns the names of the migrations that were applied now.
 * @throws Error when the database has become one that this version can't work with, when an applied migration's file was
 * changed since, and when a migration would take away what an older version that still runs needs.
 */
export async function migrate(url: string, log: Log, folder: URL = MIGRATIONS): Promise<string[]> {
  const client = new pg.Client({ connectionString: url, application_name: 'weighhouse migrate' });
  // An end between two statements is told by the next one.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await lock(client, log);
    await makeTable(client);
    const { rows } = await client.query<Applied>('select name, sha256, needs from migrations order by name');
    await checkApplied(rows, folder);
    const done = new Set(rows.map((row) => row.name));
    if ((await listMigrations(folder)).every((name) => done.has(name))) return [];
    // Loaded only when there is something to do: it takes a tenth of a second of every start.
    const { Umzug } = await import('umzug');
    const umzug = new Umzug({
      migrations: {
        glob: ['*.sql', { cwd: folder.pathname }],
        resolve: ({ name }) => ({ name, up: async () => await apply(client, await readMigration(name, folder), log) }),
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

/** A row of the table of migrations. */
interface Applied {
  readonly name: string;
  readonly sha256: string;
  readonly needs: string;
}

/** Waits for its turn by asking: a statement that waited would hold up an index that is built concurrently, for ever. */
async function lock(client: pg.Client, log: Log): Promise<void> {
  for (let told = false; ; told = true) {
    const { rows } = await client.query<{ held: boolean }>('select pg_try_advisory_lock($1) as held', [LOCK]);
    if (rows[0]?.held) return;
    if (!told) log.info('another process migrates the database; waiting for it');
    await sleep(LOOK_MS);
  }
}

async function makeTable(client: pg.Client): Promise<void> {
  await client.query(
    'create table if not exists migrations (name text collate "C" primary key, sha256 text not null, applied_at timestamptz not null default now())',
  );
  const { rows } = await client.query(
    `select from pg_attribute where attrelid = 'migrations'::regclass and attname = 'needs'`,
  );
  if (rows.length === 0)
    await client.query(`alter table migrations add column needs text collate "C" not null default ''`);
}

async function checkApplied(rows: readonly Applied[], folder: URL): Promise<void> {
  const files = new Set(await listMigrations(folder));
  const newest = await newestMigration(folder);
  for (const { name, sha256, needs } of rows) {
    if (needs > newest)
      throw new Error(
        `the database has the migration ${name}, with which only versions of Weighhouse can work that know ${needs}; this older one knows up to ${newest}`,
      );
    if (files.has(name) && sha256 !== (await readMigration(name, folder)).sha256)
      throw new Error(`the migration ${name} was changed after it was applied`);
  }
}

async function apply(client: pg.Client, migration: Migration, log: Log): Promise<void> {
  const { name, needs } = migration;
  try {
    if (needs !== '') await requireNewer(client, needs);
    if (migration.concurrently) await runSingly(client, migration);
    else await runWhole(client, migration, log);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`the migration ${name} failed: ${message}${adviceOn(message)}`, { cause: error });
  }
}

/** @throws Error while a process serves that knows too little */
async function requireNewer(client: pg.Client, needs: string): Promise<void> {
  const older = await olderProcesses(async (text, values) => (await client.query(text, values)).rows, needs);
  if (older.length === 0) return;
  const places = [...new Set(older.map(({ address }) => address))].join(', ');
  throw new Error(
    `${older.length} processes of an older version, which knows nothing of ${needs}, still run (${places}): stop them first`,
  );
}

async function runWhole(client: pg.Client, migration: Migration, log: Log): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    await client.query('begin');
    try {
      await client.query(`set local lock_timeout = ${LOCK_WAIT_MS}`);
      await client.query(migration.sql);
      await note(client, migration);
      await client.query('commit');
      return;
    } catch (error) {
      await client.query('rollback');
      const heldUp = HELD_UP.has(String((error as { code?: unknown }).code));
      if (!heldUp || attempt >= LOCK_ATTEMPTS) throw error;
      if (attempt === 1) log.info({ migration: migration.name }, 'a migration waits until a table is free');
      await sleep(LOOK_MS + Math.random() * LOOK_MS);
    }
  }
}

async function runSingly(client: pg.Client, migration: Migration): Promise<void> {
  for (const statement of statementsOf(migration)) await client.query(statement);
  await note(client, migration);
}

async function note(client: pg.Client, { name, sha256, needs }: Migration): Promise<void> {
  await client.query('insert into migrations (name, sha256, needs) values ($1, $2, $3)', [name, sha256, needs]);
}

/** @throws Error if the database has become one with which a version that knows up to the migration `knows` can't work */
export async function checkSchema(queries: Queries, knows: string): Promise<void> {
  const [row] = await queries.query<{ needs: string | null }>('select max(needs) as needs from migrations');
  const needs = row?.needs ?? '';
  if (needs > knows)
    throw new Error(`the database needs a version of Weighhouse that knows ${needs}; this one knows up to ${knows}`);
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
