// A job is one process's at a time, but two may believe that it is theirs: each is run by two at once.
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { expiryJob, revokedJob } from '../../../src/gc/expiry.js';
import type { Job } from '../../../src/gc/jobs.js';
import { orphansJob } from '../../../src/gc/orphans.js';
import { recordChanges, recordsJob } from '../../../src/gc/records.js';
import { removalsJob } from '../../../src/gc/removals.js';
import { writeAudit } from '../../../src/metadata/audit.js';
import { verifyAudit } from '../../../src/metadata/audit-verify.js';
import { answersJob } from '../../../src/metadata/idempotency.js';
import { sealJob } from '../../../src/metadata/seals.js';
import { recordBy } from '../../../src/registry/changes.js';
import { FilesystemRecords } from '../../../src/storage/record-store.js';
import { newSegmentKey, type SegmentKey } from '../../../src/storage/segment-store.js';
import { silent } from '../../support/postgres.js';
import { ACTOR, bodyOf, repository, type Rooms, Site } from '../../support/rooms.js';

const NAME = repository('team/model');
const COUNT = 110;

describe('a job that two run at once', () => {
  let site: Site;
  let rooms: readonly [Rooms, Rooms];

  beforeEach(async () => {
    site = await Site.make();
    const options = { observers: [recordBy(recordChanges)] };
    rooms = [site.open(options), site.open(options)];
  });
  afterEach(async () => await site.dispose());

  /** Both run it until neither finds more to do. */
  async function twice(make: (rooms: Rooms) => Job): Promise<void> {
    await Promise.all(
      rooms.map(async (own) => {
        const job = make(own);
        while (await job.run());
      }),
    );
  }
  const rows = async <Row extends object>(text: string) => await rooms[0].database.query<Row>(text);
  const count = async (table: string) => (await rows<{ n: number }>(`select count(*) as n from ${table}`))[0]?.n;
  const keys = async () => {
    const found: SegmentKey[] = [];
    for await (const key of rooms[0].store.list()) found.push(key);
    return found.sort();
  };

  async function sessions(actor = ACTOR): Promise<void> {
    for (let begun = 0; begun < COUNT; begun++) {
      const id = await rooms[0].registry.uploads.create(NAME, 'sha256', actor);
      if (begun % 10 > 0) continue;
      const target = { id, repository: NAME, actor };
      await rooms[0].registry.uploads.append(target, bodyOf([Buffer.from(id)]));
    }
  }
  const removals = ({ database, store, pauses }: Rooms) =>
    removalsJob({
      database,
      store,
      log: silent,
      pause: pauses.point,
      everyMs: 1000,
      delaySeconds: 0,
      sharePercent: 100,
    });

  it('ends each expired session and removes its bytes, and nothing else', async () => {
    await sessions();
    const kept = await rooms[0].registry.uploads.create(NAME, 'sha256', ACTOR);
    await rows(`update uploads set expires_at = now() where id <> '${kept}'`);
    const before = await keys();
    await twice(({ database }) => expiryJob(database, 1000));
    expect((await rows<{ id: string }>('select id from uploads')).map(({ id }) => id)).to.deep.equal([kept]);
    expect(
      (await rows<{ key: string }>('select key from removals order by key')).map(({ key }) => key),
    ).to.include.members(before);
    for (let round = 0; round < 3; round++) await twice(removals);
    expect(await keys()).to.deep.equal([]);
    expect(await count('removals')).to.equal(0);
  });

  it('ends the sessions of a revoked key', async () => {
    await rows(
      `insert into api_keys (name, key_prefix, key_hash, grants, is_active) values ('x', 'gone', 'x', '[]', false)`,
    );
    await sessions({ ...ACTOR, key: 'gone' });
    await twice(({ database }) => revokedJob(database, 1000));
    expect(await count('uploads')).to.equal(0);
  });

  it('notes each orphan once, and gives it up once', async () => {
    const strays = Array.from({ length: COUNT }, (_, index) => newSegmentKey(crypto.randomUUID(), index));
    for (const key of strays) {
      await mkdir(dirname(join(site.root, key)), { recursive: true });
      await writeFile(join(site.root, key), 'stray');
    }
    const orphans = (ageSeconds: number) => (own: Rooms) =>
      orphansJob({ ...own, log: silent, everyMs: 1000, ageSeconds });
    await twice(orphans(3600));
    expect(await count('orphans')).to.equal(COUNT);
    await twice(orphans(0));
    expect(await count('orphans')).to.equal(0);
    expect((await rows<{ key: string }>('select key from removals')).map(({ key }) => key)).to.have.members(strays);
  });

  it('writes every record, perhaps twice but never two of one number', async () => {
    for (let pushed = 0; pushed < 20; pushed++) {
      const bytes = Buffer.from(`weights ${pushed}`);
      const own = rooms[pushed % 2] ?? rooms[0];
      await own.registry.uploads.store(NAME, bodyOf([bytes]), 'sha256', ACTOR);
    }
    const wanted = (await rows<{ id: number }>('select id from records')).map(({ id }) => id);
    await twice(({ database }) => recordsJob(database, new FilesystemRecords(site.root), 1000));
    expect(await count('records')).to.equal(0);
    const written = new Map<number, Set<string>>();
    const records = new FilesystemRecords(site.root);
    for await (const file of records.listRecords())
      for (const line of (await records.readRecords(file)).trimEnd().split('\n')) {
        const { id } = JSON.parse(line) as { id: number };
        written.set(id, (written.get(id) ?? new Set()).add(line));
      }
    expect([...written.keys()]).to.have.members(wanted);
    expect([...written.values()].every((lines) => lines.size === 1)).to.equal(true);
  });

  it('seals every row of the audit log once, in one chain', async () => {
    for (let written = 0; written < 30; written++) {
      await writeAudit(rooms[0].database, ACTOR, {
        action: 'test.write',
        resourceType: 'test',
        resourceId: String(written),
        repository: NAME,
        details: {},
      });
      if (written % 10 === 0) await twice(({ database }) => sealJob(database, 1000));
    }
    await twice(({ database }) => sealJob(database, 1000));
    const verified = await verifyAudit(rooms[0].database, { unsealedSeconds: 3600 });
    expect(verified).to.include({ rows: 30, unsealed: 0, fault: undefined });
  });

  it('forgets old answers and keeps new ones', async () => {
    await rows(
      `insert into idempotency_keys (actor, route, key, body_digest, status, created_at)
       select 'x', 'x', n::text, 'x', 201, now() - case when n <= ${COUNT} then interval '2 days' else interval '0' end
         from generate_series(1, ${COUNT} + 3) n`,
    );
    await twice(({ database }) => answersJob(database, 1000));
    expect(await count('idempotency_keys')).to.equal(3);
  });
});
