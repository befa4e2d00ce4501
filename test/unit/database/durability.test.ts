import { expect } from 'chai';
import type { Queries } from '../../../src/database/connect.js';
import { connect } from '../../../src/database/connect.js';
import { checkDurability } from '../../../src/database/durability.js';
import { createDatabase } from '../../support/postgres.js';

const SAFE = { version: '180004', fsync: 'on', pages: 'on', commit: 'on', standbys: '', replicas: 0 };

/** A PostgreSQL that tells these settings of itself. */
function telling(settings: object): Queries {
  return { query: <Row extends object>() => Promise.resolve([{ ...SAFE, ...settings } as unknown as Row]) };
}

describe('what a PostgreSQL could lose', () => {
  it('is told of a real one that runs without syncs', async () => {
    const site = await createDatabase();
    const database = connect({ url: site.url, pool: 1, timeout: 5 });
    try {
      const warnings = await checkDurability(database);
      expect(warnings.map((warning) => warning.split(' ')[0])).to.deep.equal([
        'fsync',
        'full_page_writes',
        'synchronous_commit',
      ]);
    } finally {
      await database.close();
      await site.drop();
    }
  });

  it('is nothing with the settings that PostgreSQL comes with', async () => {
    expect(await checkDurability(telling({}))).to.deep.equal([]);
  });

  it('is what was acknowledged, at a failover to a standby that is not synchronous', async () => {
    expect(await checkDurability(telling({ replicas: 1 }))).to.have.length(1);
    expect(await checkDurability(telling({ replicas: 1, standbys: 'one' }))).to.deep.equal([]);
  });

  it('is not asked of one that is too old', async () => {
    const refusal = await checkDurability(telling({ version: '140010' })).catch((error: unknown) => String(error));
    expect(refusal).to.equal('Error: PostgreSQL 15 or newer is needed, this is 14');
  });
});
