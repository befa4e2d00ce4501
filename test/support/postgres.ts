// One real PostgreSQL for a run, started when the first test wants it; a database of its own for each who asks.
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { type EmbeddedPostgres, startEmbedded } from '../../src/database/embedded.js';
import { migrate } from '../../src/database/migrate.js';
import { createLog } from '../../src/log.js';

export const silent = createLog('silent');

const TEMPLATE = 'template_migrated';

interface Shared {
  readonly folder: string;
  readonly postgres: EmbeddedPostgres;
}

let shared: Promise<Shared> | undefined;
let count = 0;

async function start(): Promise<Shared> {
  const folder = await mkdtemp(join(tmpdir(), 'weighhouse-test-'));
  // Started by root, PostgreSQL runs as another account; where that can't pass, its cluster would lie elsewhere.
  await chmod(folder, 0o711);
  // What a test writes need not outlive the machine; durability has tests with a PostgreSQL of their own.
  const settings = { fsync: 'off', full_page_writes: 'off', synchronous_commit: 'off', max_connections: '200' };
  const postgres = await startEmbedded({ dataDir: folder, log: silent, settings });
  await admin(postgres.url, `create database ${TEMPLATE}`);
  await migrate(withDatabase(postgres.url, TEMPLATE), silent);
  return { folder, postgres };
}

async function admin(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function withDatabase(url: string, name: string): string {
  // The url names a socket's folder, which the URL class does not take; the database is the path up to the query.
  return url.replace(/\/[^/?]*(\?|$)/, `/${name}$1`);
}

export interface TestDatabase {
  readonly name: string;
  readonly url: string;
  /** Removes the database; connections to it are ended. */
  drop(): Promise<void>;
}

/** A new database, migrated unless `empty`, or a copy of another to which nothing is connected. */
export async function createDatabase(options: { empty?: boolean; copyOf?: TestDatabase } = {}): Promise<TestDatabase> {
  shared ??= start();
  const { postgres } = await shared;
  const name = `test_${process.pid}_${count++}`;
  const template = options.copyOf?.name ?? (options.empty ? 'template0' : TEMPLATE);
  await admin(postgres.url, `create database ${name} template ${template}`);
  return {
    name,
    url: withDatabase(postgres.url, name),
    drop: () => admin(postgres.url, `drop database if exists ${name} with (force)`),
  };
}

export async function stopSharedPostgres(): Promise<void> {
  if (!shared) return;
  const { folder, postgres } = await shared;
  await postgres.stop();
  await rm(folder, { recursive: true, force: true });
}
