import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { catchUpRecords, recordChanges, recordsJob } from '../../../src/gc/records.js';
import { findRecordLog, isAhead, nextRecordPlace, setComplete, unlessBehind } from '../../../src/gc/record-log.js';
import { recordBy } from '../../../src/registry/changes.js';
import { FilesystemRecords } from '../../../src/storage/record-store.js';
import { silent } from '../../support/postgres.js';
import { ACTOR, bodyOf, repository, type Rooms, Site } from '../../support/rooms.js';

const NAME = repository('team/model');

describe('how far a database has written down what it knows', () => {
  let site: Site;
  let rooms: Rooms;
  let records: FilesystemRecords;

  beforeEach(async () => {
    site = await Site.make();
    rooms = site.open({ observers: [recordBy(recordChanges)] });
    records = new FilesystemRecords(site.root);
  });
  afterEach(async () => await site.dispose());

  const push = async (text: string) =>
    await rooms.registry.uploads.store(NAME, bodyOf([Buffer.from(text)]), 'sha256', ACTOR);
  const write = async () => {
    while (await recordsJob(rooms.database, records, 1000).run());
  };
  const places = async () => {
    const found: string[] = [];
    for await (const { generation, sequence, legacy } of records.listRecords())
      found.push(legacy ? `legacy ${sequence}` : `${generation}.${sequence}`);
    return found;
  };

  it('is the beginning where nothing was written, and stays through restarts, also after a kill in the middle', async () => {
    expect(await catchUpRecords(rooms.database, records)).to.deep.equal({ generation: 0, sequence: 0, behind: false });
    await push('one');
    await write();
    await nextRecordPlace(rooms.database);
    await push('two');
    await write();
    expect(await places()).to.deep.equal(['0.1', '0.3']);
    expect(await catchUpRecords(rooms.database, records)).to.deep.equal({ generation: 0, sequence: 3, behind: false });
    expect(await isAhead(rooms.database, records)).to.equal(false);
  });

  it('is less than the store holds after a restore: then a generation begins, and what was due goes to the former', async () => {
    await push('one');
    await write();
    await push('due at the backup');
    const rows = await rooms.database.query<object>('select id, kind, repository, digest, tag, at from records');
    await write();
    await push('after the backup');
    await write();
    // The backup, as far as it matters.
    await rooms.database.query('update record_log set sequence = 1');
    await rooms.database.query(
      'insert into records (id, kind, repository, digest, tag, at) overriding system value select * from jsonb_to_recordset($1::jsonb) as r (id bigint, kind text, repository text, digest text, tag text, at timestamptz)',
      [JSON.stringify(rows)],
    );
    expect(await isAhead(rooms.database, records)).to.equal(true);
    const begun = await Promise.all([1, 2].map(() => catchUpRecords(rooms.database, records)));
    for (const log of begun) expect(log).to.deep.equal({ generation: 1, sequence: 0, behind: true });
    expect(await rooms.database.query('select from records')).to.have.length(0);
    await push('since');
    await write();
    expect(new Set(await places())).to.deep.equal(new Set(['0.0', '0.1', '0.2', '0.3', '1.1']));
    // It stays so until somebody says that all is there.
    expect((await catchUpRecords(rooms.database, records)).behind).to.equal(true);
    await setComplete(rooms.database);
    expect(await catchUpRecords(rooms.database, records)).to.deep.equal({ generation: 1, sequence: 1, behind: false });
  });

  it('is told from the ids where an older version wrote, and goes on in its generation', async () => {
    await push('one');
    const [last] = await rooms.database.query<{ id: number }>('select max(id) as id from records');
    await rooms.database.query('delete from records');
    const folder = join(site.root, 'records');
    await mkdir(folder);
    const file = (first: number, ids: number[]) =>
      writeFile(
        join(folder, `${String(first).padStart(16, '0')}-00000000.jsonl`),
        ids.map((id) => `${JSON.stringify({ id, kind: 'link' })}\n`).join(''),
      );
    await file(1, [1, last?.id ?? 0]);
    expect(await catchUpRecords(rooms.database, records)).to.deep.equal({ generation: 0, sequence: 0, behind: false });
    await rooms.database.query('delete from record_log');
    await file(1, [1, (last?.id ?? 0) + 1]);
    expect(await catchUpRecords(rooms.database, records)).to.deep.equal({ generation: 1, sequence: 0, behind: true });
  });

  it('is not taken for less while another process writes', async () => {
    await catchUpRecords(rooms.database, records);
    const busy = Object.assign(Object.create(records) as FilesystemRecords, {
      // Between what is read of the database and what is read of the store.
      async *listRecords(...words: Parameters<FilesystemRecords['listRecords']>) {
        await push(`written meanwhile ${Math.random()}`);
        await write();
        yield* records.listRecords(...words);
      },
    });
    expect(await isAhead(rooms.database, busy)).to.equal(false);
    let looks = 0;
    const seldom = Object.assign(Object.create(records) as FilesystemRecords, {
      listRecords: (...words: Parameters<FilesystemRecords['listRecords']>) =>
        (looks++ === 0 ? busy : records).listRecords(...words),
    });
    expect(await catchUpRecords(rooms.database, seldom)).to.include({ generation: 0, behind: false });
    expect(looks).to.equal(2);
  });

  it('holds a job back that takes anything away, as long as it is less', async () => {
    let runs = 0;
    const job = unlessBehind(
      { name: 'sweep', everyMs: 1, run: () => Promise.resolve(++runs > 100) },
      rooms.database,
      records,
      silent,
      true,
    );
    await catchUpRecords(rooms.database, records);
    await job.run();
    expect(runs).to.equal(1);
    const { generation = 0, sequence = 0 } = (await findRecordLog(rooms.database)) ?? {};
    await records.putRecords({ generation, sequence: sequence + 1 }, '');
    expect(await job.run()).to.equal(false);
    expect(runs).to.equal(1);
  });
});
