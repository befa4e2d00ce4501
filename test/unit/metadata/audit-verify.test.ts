import { expect } from 'chai';
import { sealAudit } from '../../../src/metadata/seals.js';
import { verifyAudit } from '../../../src/metadata/audit-verify.js';
import { AuditScene } from './audit-scene.js';

const PATIENCE = { unsealedSeconds: 60 };

describe('the record, gone through', () => {
  let scene: AuditScene;

  // Rows 1 to 9 under three seals; number 5 was given back.
  beforeEach(async () => {
    scene = await AuditScene.make();
    for (let index = 1; index <= 9; index++) {
      const writer = scene.open(`row ${index}`);
      await writer.written;
      await (index === 5 ? writer.rollback() : writer.commit());
      if (index % 3 === 0) await sealAudit(scene.database);
    }
  });
  afterEach(async () => await scene.dispose());

  const verify = async (head?: string) => await verifyAudit(scene.database, { ...PATIENCE, head });

  it('agrees with its seals as long as nobody touches it', async () => {
    const verified = await verify();
    expect(verified).to.include({ rows: 8, seals: 3, unsealed: 0, fault: undefined });
    expect(verified.head).to.match(/^[0-9a-f]{64}$/);
    await scene.write('later');
    expect(await verify()).to.deep.equal({ ...verified, unsealed: 1 });
  });

  for (const [what, table, statement, rows, fault] of [
    [
      'a row that was changed',
      'audit_logs',
      `update audit_logs set actor = 'x' where id = 4`,
      3,
      /^a row between row 4 and row 6 or their seal was changed$/,
    ],
    [
      'the time of a row, moved by a microsecond',
      'audit_logs',
      `update audit_logs set created_at = created_at + interval '1 microsecond' where id = 1`,
      0,
      /^a row between row 1 and row 3/,
    ],
    [
      'a row that is gone',
      'audit_logs',
      'delete from audit_logs where id = 8',
      5,
      /^1 of 3 rows are missing between row 7 and row 9$/,
    ],
    [
      'a row that was added under a number that nobody has',
      'audit_logs',
      `insert into audit_logs overriding system value select (jsonb_populate_record(a, '{"id": 5}')).* from audit_logs a where id = 4`,
      3,
      /^1 rows were added between row 4 and row 6$/,
    ],
    [
      'a row that was added before the first',
      'audit_logs',
      `insert into audit_logs overriding system value select (jsonb_populate_record(a, '{"id": -3}')).* from audit_logs a where id = 4`,
      0,
      /^row -3 was added: no seal covers it$/,
    ],
    [
      'a seal that is gone from the middle',
      'audit_seals',
      'delete from audit_seals where first_id = 4',
      3,
      /^the seal of row 4 is missing: the next one begins at row 7$/,
    ],
    [
      'a first seal that is gone',
      'audit_seals',
      'delete from audit_seals where first_id = 1',
      0,
      /^the seal of row 1 is missing: the next one begins at row 4$/,
    ],
    [
      'a seal that was added',
      'audit_seals',
      `insert into audit_seals (first_id, last_id, rows, hash) values (2, 2, 1, '\\x00')`,
      3,
      /^the seal of the rows from 2 on was added: row 4 is next$/,
    ],
    [
      'the hash of a seal',
      'audit_seals',
      `update audit_seals set hash = sha256(hash) where first_id = 4`,
      3,
      /^a row between row 4 and row 6 or their seal was changed$/,
    ],
    [
      'the count of a seal',
      'audit_seals',
      'update audit_seals set rows = 7 where first_id = 4',
      3,
      /^5 of 7 rows are missing between row 4 and row 6$/,
    ],
    [
      'the time of a seal',
      'audit_seals',
      `update audit_seals set sealed_at = sealed_at - interval '1 day' where first_id = 7`,
      5,
      /^a row between row 7 and row 9 or their seal was changed$/,
    ],
  ] as const) {
    it(`shows ${what}`, async () => {
      await scene.tamper(table, statement);
      const verified = await verify();
      expect(verified.fault).to.match(fault);
      expect(verified.rows).to.equal(rows);
    });
  }

  it('shows that it was cut off at its end, or written anew, by a head that was noted before', async () => {
    const { head } = await verify();
    await scene.tamper('audit_seals', 'delete from audit_seals where first_id = 7');
    expect(await verify(), 'a shorter record is no less whole by itself').to.include({ rows: 5, fault: undefined });
    expect((await verify(head)).fault).to.match(/^no seal has the hash/);
    await scene.tamper('audit_logs', `update audit_logs set actor = 'x' where id = 8`);
    await sealAudit(scene.database);
    expect(await verify()).to.include({ rows: 8, seals: 3, fault: undefined });
    expect((await verify(head)).fault).to.match(/^no seal has the hash/);
  });

  it('finds every earlier head again, however far it went on', async () => {
    const { head } = await verify();
    await scene.write('later');
    await sealAudit(scene.database);
    expect(await verify(head)).to.include({ rows: 9, fault: undefined });
  });

  it('shows that nobody seals it', async () => {
    await scene.write('waits for a sealer');
    await scene.tamper('audit_logs', `update audit_logs set created_at = now() - interval '90 seconds' where id = 10`);
    expect((await verify()).fault).to.match(/^row 10 was not sealed within 60 seconds/);
  });

  for (const table of ['audit_logs', 'audit_seals', 'tag_events']) {
    for (const statement of [`update ${table} set id = default`, `delete from ${table}`, `truncate ${table}`]) {
      it(`is not touched by "${statement}"`, async () => {
        const error = await scene.database.query(statement).then(
          () => undefined,
          (thrown: unknown) => thrown as { code?: string; message: string },
        );
        expect(error).to.include({ code: '23001', message: `${table} is append-only` });
      });
    }
  }
});
