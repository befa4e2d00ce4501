import { expect } from 'chai';
import { isFailure } from '../../../src/errors.js';
import { sealAudit } from '../../../src/metadata/seals.js';
import { verifyAudit } from '../../../src/metadata/audit-verify.js';
import { AuditScene } from './audit-scene.js';

const PATIENCE = { unsealedSeconds: 60 };
/** Longer than a test stands still. */
const PATIENT = { waitMs: 60_000 };

describe('the seals of the record', () => {
  let scene: AuditScene;

  beforeEach(async () => {
    scene = await AuditScene.make();
  });
  afterEach(async () => await scene.dispose());

  const verify = async () => await verifyAudit(scene.database, PATIENCE);

  it('wait for a transaction that took its number first and commits last', async () => {
    const late = scene.open('late');
    await late.written;
    await scene.write('early');
    expect(await sealAudit(scene.database, { waitMs: 0 })).to.equal(false);
    expect(await scene.seals()).to.deep.equal([]);

    const sealing = sealAudit(scene.database, PATIENT);
    await scene.untilSealerWaits();
    await late.commit();
    await sealing;
    expect(await scene.seals()).to.deep.equal([{ first: 1, last: 2, rows: 2 }]);
    expect(await verify()).to.include({ rows: 2, seals: 1, unsealed: 0, fault: undefined });
  });

  it('do not wait for a transaction that came after them', async () => {
    const first = scene.open('first');
    await first.written;
    const sealing = sealAudit(scene.database, PATIENT);
    await scene.untilSealerWaits();
    const second = scene.open('second');
    await second.written;
    await first.commit();
    await sealing;
    expect(await scene.seals()).to.deep.equal([{ first: 1, last: 1, rows: 1 }]);
    await second.commit();
    await sealAudit(scene.database);
    expect(await scene.seals()).to.deep.equal([
      { first: 1, last: 1, rows: 1 },
      { first: 2, last: 2, rows: 1 },
    ]);
    expect(await verify()).to.include({ rows: 2, seals: 2, fault: undefined });
  });

  it('cover the numbers of what was rolled back, and are not made for these alone', async () => {
    const undone = scene.open('undone');
    await undone.written;
    const sealing = sealAudit(scene.database, PATIENT);
    await scene.untilSealerWaits();
    await undone.rollback();
    await sealing;
    expect(await scene.seals()).to.deep.equal([]);
    await scene.write('done');
    await sealAudit(scene.database);
    expect(await scene.seals()).to.deep.equal([{ first: 1, last: 2, rows: 1 }]);
    expect(await verify()).to.include({ rows: 1, unsealed: 0, fault: undefined });
  });

  it('see what was committed while they waited, whatever isolation the database gives to transactions', async () => {
    const strict = scene.connect('default_transaction_isolation=serializable');
    const late = scene.open('late');
    await late.written;
    const sealing = sealAudit(strict, PATIENT);
    await scene.untilSealerWaits();
    await late.commit();
    await sealing;
    expect(await scene.seals()).to.deep.equal([{ first: 1, last: 1, rows: 1 }]);
  });

  it('are made by one sealer at a time, and by the next one when it dies', async () => {
    const late = scene.open('late');
    await late.written;
    const other = scene.connect();
    const dying = sealAudit(other, { waitMs: 60_000 }).catch((error: unknown) => error);
    await scene.untilSealerWaits();
    // Not held back by the writer, but by the other sealer: with this wait it would see the end of the writer.
    expect(await sealAudit(scene.database, { waitMs: 60_000 })).to.equal(false);
    await scene.database.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and query like '%pg_locks%' and pid <> pg_backend_pid()`,
    );
    expect(isFailure(await dying, 'Unavailable')).to.equal(true);
    await late.commit();
    await sealAudit(scene.database);
    expect(await scene.seals()).to.deep.equal([{ first: 1, last: 1, rows: 1 }]);
    expect(await verify()).to.include({ rows: 1, fault: undefined });
  });

  it('cover a bounded number of rows each', async () => {
    for (let index = 0; index < 25; index++) await scene.write(`row ${index}`);
    const more: boolean[] = [];
    for (let run = 0; run < 4; run++) more.push(await sealAudit(scene.database, { batch: 10 }));
    expect(more).to.deep.equal([true, true, false, false]);
    expect((await scene.seals()).map((seal) => seal.rows)).to.deep.equal([10, 10, 5]);
    expect(await verify()).to.include({ rows: 25, seals: 3, fault: undefined });
  });

  it('come out the same under other settings of the session', async () => {
    await scene.write('one');
    await sealAudit(scene.connect('TimeZone=Asia/Kolkata', 'DateStyle=German', 'bytea_output=escape'));
    await scene.write('two');
    await sealAudit(scene.connect('TimeZone=America/New_York', 'DateStyle=ISO,DMY', 'IntervalStyle=iso_8601'));
    for (const setting of ['TimeZone=Pacific/Chatham', 'DateStyle=SQL,MDY', 'extra_float_digits=-15'])
      expect(await verifyAudit(scene.connect(setting), PATIENCE)).to.include({ rows: 2, seals: 2, fault: undefined });
  });

  it('go on in a copy of the database from where they were', async () => {
    await scene.write('one');
    await sealAudit(scene.database);
    const { head } = await verify();
    await scene.database.close();
    const restored = await AuditScene.make({ copyOf: scene.place });
    try {
      await restored.write('two');
      await sealAudit(restored.database);
      expect(await verifyAudit(restored.database, { ...PATIENCE, head })).to.include({ rows: 2, fault: undefined });
    } finally {
      await restored.dispose();
    }
  });

  it('keep up with many writers, of whom some are slow and some fail, and come out right', async () => {
    const end = performance.now() + 2_000;
    let seals = 0;
    const goesOn = () => performance.now() < end || seals <= 5;
    let written = 0;
    const writers = Array.from({ length: 6 }, async (_, writer) => {
      for (let turn = 0; goesOn(); turn++) {
        const one = scene.open(`writer ${writer}, ${turn}`);
        await one.written;
        if (turn % 5 === writer) await new Promise((resolve) => setTimeout(resolve, 30));
        if (turn % 7 === writer) await one.rollback();
        else {
          await one.commit();
          written++;
        }
      }
    });
    const sealing = (async () => {
      while (goesOn()) {
        await sealAudit(scene.database);
        seals = (await scene.seals()).length;
      }
    })();
    await Promise.all([...writers, sealing]);
    await sealAudit(scene.database);
    expect(await verify()).to.include({ rows: written, unsealed: 0, fault: undefined });
    const [lag] = await scene.database.query<{ seconds: number }>(
      `select max(extract(epoch from s.sealed_at - a.created_at))::float8 as seconds
         from audit_logs a join audit_seals s on a.id between s.first_id and s.last_id`,
    );
    expect(lag?.seconds).to.be.lessThan(10);
  });
});
