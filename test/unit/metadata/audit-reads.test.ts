import { expect } from 'chai';
import type { Queries } from '../../../src/database/connect.js';
import { AuditedReads } from '../../../src/metadata/audit-reads.js';
import { type AuditRow, listAudit } from '../../../src/metadata/audit-list.js';
import { silent } from '../../support/postgres.js';
import { ACTOR } from '../../support/rooms.js';
import { AuditScene } from './audit-scene.js';

describe('reads in the record', () => {
  let scene: AuditScene;
  let statements: number;
  let away: boolean;
  let queries: Queries;
  const started: AuditedReads[] = [];

  beforeEach(async () => {
    scene = await AuditScene.make();
    statements = 0;
    away = false;
    queries = {
      async query(text, values) {
        statements++;
        if (away) throw new Error('away');
        return await scene.database.query(text, values);
      },
    };
  });
  afterEach(async () => {
    away = false;
    await Promise.all(started.splice(0).map((reads) => reads.stop()));
    await scene.dispose();
  });

  function open(capacity?: number): AuditedReads {
    const covers = (name: string) => name.startsWith('read/');
    const reads = new AuditedReads({ queries, covers, log: silent, ...(capacity && { capacity }) });
    started.push(reads);
    return reads;
  }

  function pull(reads: AuditedReads, digest: string, repository = 'read/model'): void {
    reads.note(repository, () => ({ actor: ACTOR, what: 'blob', digest, details: { bytes: 3 } }));
  }

  const rows = async (): Promise<AuditRow[]> =>
    [...(await listAudit(scene.database, { filters: {}, limit: 1_000 })).rows].reverse();

  it('are written later, many by one statement, with their own time', async () => {
    const reads = open();
    const before = Date.now();
    for (let index = 0; index < 500; index++) pull(reads, `blob ${index}`);
    expect(statements).to.equal(0);
    await reads.flush();
    expect(statements).to.equal(1);
    const written = await rows();
    expect(written.map((row) => row.resourceId)).to.deep.equal(Array.from({ length: 500 }, (_, n) => `blob ${n}`));
    const { at, ...details } = written[0]?.details ?? {};
    expect(written[0]).to.include({
      action: 'blob.pull',
      resourceType: 'blob',
      repository: 'read/model',
      actor: 'tester',
    });
    expect(details).to.deep.equal({ bytes: 3 });
    expect(Date.parse(String(at))).to.be.within(before, Date.now());
  });

  it('are not even looked at in other repositories', async () => {
    const reads = open();
    reads.note('other/model', () => {
      throw new Error('asked');
    });
    await reads.stop();
    expect(statements).to.equal(0);
  });

  it('are written at the end, and by themselves before that', async () => {
    const reads = open();
    pull(reads, 'one');
    for (const deadline = performance.now() + 10_000; statements === 0 && performance.now() < deadline; )
      await new Promise((resolve) => setTimeout(resolve, 25));
    expect(statements).to.equal(1);
    pull(reads, 'two');
    await reads.stop();
    expect((await rows()).map((row) => row.resourceId)).to.deep.equal(['one', 'two']);
  });

  it('lose the oldest when there are too many, and say how many', async () => {
    const reads = open(20);
    for (let index = 0; index < 50; index++) pull(reads, `blob ${index}`);
    await reads.flush();
    const [lost, ...kept] = await rows();
    expect(lost).to.include({ action: 'reads.lost', actor: 'registry' });
    expect(kept.at(-1)?.resourceId).to.equal('blob 49');
    expect(kept.length).to.be.within(18, 20);
    expect(lost?.details).to.deep.equal({ lost: 50 - kept.length });
    pull(reads, 'later');
    await reads.flush();
    expect(
      (await rows()).filter((row) => row.action === 'reads.lost'),
      'said once',
    ).to.have.length(1);
  });

  it('wait for a database that is away, within the same bound', async () => {
    const reads = open(20);
    away = true;
    pull(reads, 'one');
    await reads.flush();
    pull(reads, 'two');
    away = false;
    await reads.flush();
    expect((await rows()).map((row) => row.resourceId)).to.deep.equal(['one', 'two']);
    away = true;
    for (let index = 0; index < 15; index++) pull(reads, `early ${index}`);
    await reads.flush();
    for (let index = 0; index < 15; index++) pull(reads, `late ${index}`);
    away = false;
    await reads.flush();
    const written = (await rows()).slice(2);
    expect(written[0]?.details).to.deep.equal({ lost: 30 - (written.length - 1) });
    expect(written.length - 1).to.be.at.most(20);
    expect(written.at(-1)?.resourceId).to.equal('late 14');
  });
});
