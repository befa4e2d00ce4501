import { expect } from 'chai';
import { connect, type Database, type Pool, type Queries } from '../../../src/database/connect.js';
import type { RepositoryName, Tag } from '../../../src/oci/name.js';
import { Manifests } from '../../../src/registry/manifests.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';

const TAGS = 5_000;

interface Plan {
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly Plans?: readonly Plan[];
}

describe('the plan by which a manifest is found', () => {
  let database: Pool;
  let test: TestDatabase;

  before(async () => {
    test = await createDatabase();
    database = connect({ url: test.url, pool: 1, timeout: 20 });
    await database.query('alter table tags set (autovacuum_enabled = false)');
    await database.query('alter table manifests set (autovacuum_enabled = false)');
    await database.query(`insert into repositories (name) select 'plan/' || g from generate_series(1, 50) g`);
    await database.query(
      `insert into manifests (repository, digest, media_type, size, payload)
       select r.id, 'sha256:' || encode(sha256(g::text::bytea), 'hex'), 'x', length(g::text), g::text::bytea
         from repositories r, generate_series(1, ${TAGS}) g where r.name = 'plan/1'`,
    );
    await database.query(
      `insert into tags (repository, name, digest) select repository, 'v' || row_number() over (), digest from manifests`,
    );
  });
  after(async () => {
    await database.close();
    await test.drop();
  });

  /** The most rows that a step of the plan of a look-up yields, after it has run often enough to be planned once for all. */
  async function mostRows(look: (manifests: Manifests) => Promise<unknown>): Promise<number> {
    let most = 0;
    const explained: Queries['query'] = async (text, values, options) => {
      const explain = `explain (analyze, format json) ${text}`;
      for (let nth = 0; nth < 8; nth++) {
        const [row] = await database.query<{ 'QUERY PLAN': readonly { Plan: Plan }[] }>(explain, values);
        const visit = (plan: Plan): void => {
          most = Math.max(most, plan['Actual Rows'] * plan['Actual Loops']);
          plan.Plans?.forEach(visit);
        };
        if (row?.['QUERY PLAN'][0]) visit(row['QUERY PLAN'][0].Plan);
      }
      return await database.query(text, values, options);
    };
    const watched: Database = {
      query: explained,
      transaction: (work) => database.transaction(work),
      close: () => Promise.resolve(),
    };
    await look(new Manifests({ database: watched, observers: [] }));
    return most;
  }

  const name = 'plan/1' as RepositoryName;
  for (const [when, statement] of [
    ['without statistics', 'select 1'],
    ['with them', 'analyze'],
  ] as const)
    it(`reads one row a table, ${when}`, async () => {
      await database.query(statement);
      expect(await mostRows((manifests) => manifests.getPayload(name, { tag: 'v77' as Tag }))).to.equal(1);
      expect(await mostRows((manifests) => manifests.get(name, { tag: 'v78' as Tag }))).to.equal(1);
    });
});
