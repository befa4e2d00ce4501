import { readFile, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import pg from 'pg';
import { migrate } from '../../../src/database/migrate.js';
import { createDatabase, silent } from '../../support/postgres.js';

const SNAPSHOT = new URL('../../../../spec/schema.sql', import.meta.url);

/** The schema as PostgreSQL understands it, as SQL, in a fixed order. */
async function describeSchema(client: pg.Client): Promise<string> {
  const { rows: tables } = await client.query<{ name: string; columns: string }>(
    `select c.relname as name, string_agg(format('  %I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
              case when co.collname <> 'default' then format(' collate %I', co.collname) else '' end,
              case when a.attidentity = 'a' then ' generated always as identity'
                   when d.adbin is not null then ' default ' || pg_get_expr(d.adbin, d.adrelid) else '' end,
              case when a.attnotnull then ' not null' else '' end), E',\\n' order by a.attnum) as columns
       from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
       left join pg_collation co on co.oid = a.attcollation
      where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname <> 'migrations'
      group by c.relname order by c.relname`,
  );
  const { rows: constraints } = await client.query<{ text: string }>(
    `select format('alter table %I add constraint %I %s;', conrelid::regclass, conname, pg_get_constraintdef(oid)) as text
       from pg_constraint where connamespace = 'public'::regnamespace and contype <> 'n' and conrelid <> 0
        and conrelid <> 'migrations'::regclass order by contype <> 'p', contype = 'f', 1`,
  );
  const { rows: indexes } = await client.query<{ text: string }>(
    `select pg_get_indexdef(i.indexrelid) || ';' as text from pg_index i join pg_class c on c.oid = i.indexrelid
      where c.relnamespace = 'public'::regnamespace and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
      order by 1`,
  );
  return [
    '-- What the migrations come to, as PostgreSQL tells it. A test compares; UPDATE_SNAPSHOT=1 writes it anew.',
    ...tables.map(({ name, columns }) => `\ncreate table ${name} (\n${columns}\n);`),
    '',
    ...constraints.map((row) => row.text),
    '',
    ...indexes.map((row) => row.text),
    '',
  ].join('\n');
}

async function failureOf(url: string): Promise<string> {
  return await migrate(url, silent).then(
    () => 'none',
    (error: unknown) => String(error),
  );
}

async function dropRole(name: string): Promise<void> {
  const database = await createDatabase({ empty: true });
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query(`drop role ${name}`);
  await client.end();
  await database.drop();
}

describe('the migrations', () => {
  it('come to what spec/schema.sql says', async () => {
    const database = await createDatabase();
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    try {
      const schema = await describeSchema(client);
      if (process.env.UPDATE_SNAPSHOT === '1') await writeFile(SNAPSHOT, schema);
      expect(schema).to.equal(await readFile(SNAPSHOT, 'utf8'));
    } finally {
      await client.end();
      await database.drop();
    }
  });

  it('run once when several processes start at the same time, and do nothing the second time', async () => {
    const database = await createDatabase({ empty: true });
    try {
      const applied = await Promise.all(Array.from({ length: 5 }, () => migrate(database.url, silent)));
      expect(applied.filter((names) => names.length > 0)).to.have.length(1);
      expect(await migrate(database.url, silent)).to.deep.equal([]);
    } finally {
      await database.drop();
    }
  });

  it('run for the owner of a database who is no superuser', async () => {
    const database = await createDatabase({ empty: true });
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const owner = `owner_of_${database.name}`;
    const asOwner = `${database.url}${database.url.includes('?') ? '&' : '?'}options=-c%20role%3D${owner}`;
    try {
      await client.query(`create role ${owner}`);
      await client.query(`grant all on schema public to ${owner}`);
      const refused = await failureOf(asOwner);
      expect(refused).to.match(
        /permission denied to create extension "pg_trgm"; grant this user CREATE on the database/,
      );
      await client.query(`alter database ${database.name} owner to ${owner}`);
      expect(await migrate(asOwner, silent)).to.include('0002_models.sql');
      const { rows } = await client.query(
        `select extowner::regrole::text as owner from pg_extension where extname = 'pg_trgm'`,
      );
      expect(rows).to.deep.equal([{ owner }]);
    } finally {
      await client.end();
      await database.drop();
      await dropRole(owner);
    }
  });

  it('say what to install where the server has no trigrams', async () => {
    const database = await createDatabase({ empty: true });
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    try {
      await client.query(`alter database ${database.name} set extension_control_path = '/nowhere'`);
      expect(await failureOf(database.url)).to.match(
        /0002_models\.sql failed: extension "pg_trgm" is not available; .*contrib modules.*postgresql-contrib/,
      );
      await client.query(`alter database ${database.name} reset extension_control_path`);
      expect(await migrate(database.url, silent), 'goes on where it failed').to.include('0002_models.sql');
    } finally {
      await client.end();
      await database.drop();
    }
  });

  it('refuse a database that needs a newer version, and one whose migrations were changed after the fact', async () => {
    const database = await createDatabase();
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const refusal = () => failureOf(database.url);
    try {
      await client.query(`insert into migrations (name, sha256, needs) values ('9999_later.sql', 'x', '9999')`);
      expect(await refusal()).to.match(
        /9999_later\.sql, with which only versions of Weighhouse can work that know 9999/,
      );
      await client.query(`delete from migrations where name = '9999_later.sql'`);
      await client.query(`update migrations set sha256 = 'x'`);
      expect(await refusal()).to.match(/0001_registry\.sql was changed/);
    } finally {
      await client.end();
      await database.drop();
    }
  });
});
