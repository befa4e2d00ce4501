import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import pg from 'pg';
import { connect } from '../../../src/database/connect.js';
import { checkSchema, migrate } from '../../../src/database/migrate.js';
import {
  listMigrations,
  MIGRATIONS,
  newestMigration,
  readMigration,
  statementsOf,
} from '../../../src/database/migrations.js';
import { listen } from '../../../src/database/notify.js';
import { until } from '../../faults/support/processes.js';
import { createDatabase, silent, type TestDatabase } from '../../support/postgres.js';

/** What takes away or changes what an older version uses; or reads a whole table while nobody may write to it. */
const TAKES_AWAY =
  /\bdrop\s+(?!index concurrently)|\brename\b|\balter\s+(column\s+)?\S+\s+(type|set\s+not\s+null|set\s+data)|\btruncate\b/i;

describe('migrations beside an older version', () => {
  let site: TestDatabase;
  let client: pg.Client;
  let place: string;
  let newer: URL;

  beforeEach(async () => {
    site = await createDatabase();
    client = new pg.Client({ connectionString: site.url });
    await client.connect();
    place = await mkdtemp(join(tmpdir(), 'weighhouse-migrations-'));
    await cp(MIGRATIONS, place, { recursive: true });
    newer = pathToFileURL(`${place}/`);
  });
  afterEach(async () => {
    await client.end();
    await site.drop();
    await rm(place, { recursive: true });
  });

  const write = async (name: string, sql: string) => await writeFile(join(place, name), sql);
  const outcome = async (folder: URL) =>
    await migrate(site.url, silent, folder).then(
      (applied) => applied.join(),
      (error: unknown) => String(error),
    );

  it('let it go on when they only add, and refuse it when they took away what it needs', async () => {
    const database = connect({ url: site.url, pool: 1, timeout: 10 });
    try {
      await write('9001_adds.sql', 'alter table uploads add column weight bigint; create table weights (id bigint);');
      expect(await outcome(newer)).to.equal('9001_adds.sql');
      expect(await outcome(MIGRATIONS), 'of the older version').to.equal('');
      await checkSchema(database, await newestMigration());
      await write('9002_takes.sql', '-- needs: 9001\nalter table uploads drop column told_offset;');
      expect(await outcome(newer)).to.equal('9002_takes.sql');
      expect(await outcome(newer)).to.equal('');
      expect(await outcome(MIGRATIONS)).to.match(
        /has the migration 9002_takes\.sql, .* that know 9001; this older one/,
      );
      expect(String(await checkSchema(database, await newestMigration()).catch(String))).to.match(/that knows 9001/);
      await checkSchema(database, '9002');
    } finally {
      await database.close();
    }
  });

  it('take nothing away while a process of an older version listens', async () => {
    const listener = listen(site.url, silent);
    const listening = async () =>
      (
        await client.query(`select from pg_stat_activity where application_name like 'weighhouse listener%'
                             and datname = current_database()`)
      ).rows.length;
    try {
      await until('it listens', async () => (await listening()) === 1);
      await write('9001_takes.sql', '-- needs: 9001\nalter table uploads drop column told_offset;');
      expect(await outcome(newer)).to.match(/9001_takes\.sql failed: 1 processes of an older version.*stop them first/);
      await client.query('select told_offset from uploads');
    } finally {
      await listener.close();
    }
    await until('it has left', async () => (await listening()) === 0);
    expect(await outcome(newer)).to.equal('9001_takes.sql');
  });

  it('hold nobody up while they wait for a table', async () => {
    const reader = new pg.Client({ connectionString: site.url });
    await reader.connect();
    try {
      await client.query('begin; select from uploads');
      await write('9001_adds.sql', 'alter table uploads add column weight bigint');
      const migrating = outcome(newer);
      await until('it waits', async () => {
        const { rows } = await client.query(
          `select from pg_locks where relation = 'uploads'::regclass and mode = 'AccessExclusiveLock' and not granted`,
        );
        return rows.length > 0;
      });
      // Behind it in the queue, and before the transaction ends for which it waits.
      await reader.query('select from uploads');
      await client.query('commit');
      expect(await migrating).to.equal('9001_adds.sql');
    } finally {
      await reader.end();
    }
  });

  it('build an index while others write, though several start at once, and again after it failed', async () => {
    await write(
      '9001_index.sql',
      '-- concurrently\ndrop index concurrently if exists late;\ncreate unique index concurrently late on bodies (created_at);\n',
    );
    await client.query(`insert into bodies (created_at) values ('2026-01-01'), ('2026-01-01')`);
    expect(await outcome(newer)).to.match(/9001_index\.sql failed: could not create unique index "late"/);
    await client.query('delete from bodies');
    const writer = new pg.Client({ connectionString: site.url });
    await writer.connect();
    await writer.query('begin; insert into bodies default values');
    const several = Promise.all([outcome(newer), outcome(newer), outcome(newer)]);
    await until('it waits for a writer', async () => {
      const { rows } = await client.query(
        `select from pg_stat_activity where query like '%index concurrently%' and pid <> pg_backend_pid() and wait_event_type = 'Lock'
            and datname = current_database()`,
      );
      return rows.length > 0;
    });
    await writer.query('commit');
    await writer.end();
    expect((await several).sort()).to.deep.equal(['', '', '9001_index.sql']);
    const { rows } = await client.query<{ valid: boolean }>(
      `select indisvalid as valid from pg_index where indexrelid = 'late'::regclass`,
    );
    expect(rows).to.deep.equal([{ valid: true }]);
  });

  it('say so if they take something away, and build indexes over what is there concurrently', async () => {
    expect('alter table uploads drop column told_offset').to.match(TAKES_AWAY);
    expect('alter table uploads rename to sessions').to.match(TAKES_AWAY);
    expect('alter table uploads alter column body set not null').to.match(TAKES_AWAY);
    expect('drop index concurrently if exists late; create table drops (id bigint)').not.to.match(TAKES_AWAY);
    // The first three came before anybody had anything.
    for (const name of (await listMigrations()).slice(3)) {
      const migration = await readMigration(name);
      const text = statementsOf(migration).join(';\n');
      if (migration.needs === '') expect(text, `${name} has no "-- needs: NNNN"`).not.to.match(TAKES_AWAY);
      const made = new Set([...text.matchAll(/create table (\w+)/g)].map(([, table]) => table));
      for (const [statement, table = ''] of text.matchAll(/create (?:unique )?index [^;]*? on (\w+)/g))
        expect(made.has(table) || migration.concurrently, `${name}: ${statement}`).to.equal(true);
    }
  });
});
