import { appendFile, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { rebuild } from '../../../../src/gc/rebuild/rebuild.js';
import { RebuildReport } from '../../../../src/gc/rebuild/report.js';
import { catchUpRecords, recordChanges, recordsJob } from '../../../../src/gc/records.js';
import { digestOf } from '../../../../src/oci/digest.js';
import { parseManifest } from '../../../../src/oci/manifest.js';
import { parseTag } from '../../../../src/oci/name.js';
import { recordBy } from '../../../../src/registry/changes.js';
import { FilesystemRecords } from '../../../../src/storage/record-store.js';
import { createDatabase, type TestDatabase } from '../../../support/postgres.js';
import { ACTOR, bodyOf, repository, type Rooms, Site } from '../../../support/rooms.js';

const NAME = repository('team/model');
const MEDIA_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const LIMITS = { maxBytes: 1_000_000, maxDepth: 20, maxDescriptors: 100 };

describe('a rebuild of a database', () => {
  let site: Site;
  /** The database that is lost, and another, of the same folder. */
  let lost: Rooms;
  let other: Rooms;
  let otherDatabase: TestDatabase;
  let records: FilesystemRecords;

  beforeEach(async () => {
    site = await Site.make();
    otherDatabase = await createDatabase();
    lost = site.open({ observers: [recordBy(recordChanges)] });
    other = site.open({ observers: [recordBy(recordChanges)], url: otherDatabase.url });
    records = new FilesystemRecords(site.root);
  });
  afterEach(async () => {
    await other.database.close();
    await otherDatabase.drop();
    await site.dispose();
  });

  const push = async (rooms: Rooms, text: string) =>
    await rooms.registry.uploads.store(NAME, bodyOf([Buffer.from(text)]), 'sha256', ACTOR);
  const digest = (text: string) => digestOf('sha256', Buffer.from(text));

  async function pushManifest(rooms: Rooms, layers: readonly string[], tags: readonly string[]) {
    const [config = '', ...others] = layers.map((text) => text);
    const descriptor = (text: string) => ({
      mediaType: 'application/octet-stream',
      digest: digest(text),
      size: text.length,
    });
    const document = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPE,
      config: descriptor(config),
      layers: others.map(descriptor),
    };
    const payload = Buffer.from(JSON.stringify(document));
    const manifest = parseManifest(payload, undefined, LIMITS);
    const push = { repository: NAME, digest: digestOf('sha256', payload), payload, manifest, tags: tags.map(parseTag) };
    await rooms.registry.manifests.put(push, ACTOR);
    return push.digest;
  }

  async function write(rooms: Rooms): Promise<void> {
    while (await recordsJob(rooms.database, records, 1000).run());
  }

  async function run({ accept = false, store = other.store }: { accept?: boolean; store?: Rooms['store'] } = {}) {
    const report = new RebuildReport(() => undefined);
    const complete = await rebuild(
      {
        database: other.database,
        store,
        records,
        observers: [],
        inspect: () => Promise.resolve(undefined),
        actor: ACTOR,
        report,
        dryRun: false,
        check: () => Promise.resolve(),
      },
      accept,
    );
    return { report, complete };
  }

  async function pulled(text: string, name = NAME): Promise<string> {
    const blob = await other.registry.blobs.getOpenable(name, digest(text));
    let read = '';
    for await (const bytes of await blob.open({ start: 0, end: blob.size })) read += Buffer.from(bytes).toString();
    return read;
  }
  const keyOf = async (rooms: Rooms, text: string) =>
    (
      await rooms.database.query<{ key: string }>(
        'select s.key from blobs b join segments s on s.body = b.body where b.digest = $1',
        [digest(text)],
      )
    )[0]?.key ?? '';

  it('takes the keys of what it makes out of the removals and the orphans', async () => {
    await push(lost, 'weights');
    await write(lost);
    const key = await keyOf(lost, 'weights');
    await other.database.query('insert into removals (key, not_before) values ($1, now())', [key]);
    await other.database.query(`insert into orphans (key, cluster) values ($1, '')`, [key]);
    expect((await run()).complete).to.equal(true);
    expect(await pulled('weights')).to.equal('weights');
    expect(await other.database.query('select key from removals union all select key from orphans')).to.deep.equal([]);
  });

  it('makes neither what was unlinked, nor what was collected, and keeps the tag of the later generation', async () => {
    for (const text of ['stays', 'unlinked', 'collected']) await push(lost, text);
    await push(lost, 'config');
    const first = await pushManifest(lost, ['config', 'stays'], ['moved', 'removed']);
    await lost.registry.tags.remove(NAME, parseTag('removed'), ACTOR);
    await lost.registry.blobs.remove(NAME, digest('unlinked'), ACTOR);
    await lost.database.query('delete from records where kind = $1 and digest = $2', ['link', digest('collected')]);
    await lost.database.query('delete from repository_blobs where digest = $1', [digest('collected')]);
    await lost.database.query('delete from blobs where digest = $1', [digest('collected')]);
    await write(lost);
    // Another database, which knew nothing of it, was used for a while.
    expect((await catchUpRecords(other.database, records)).generation).to.equal(1);
    await push(other, 'config');
    const second = await pushManifest(other, ['config'], ['moved']);
    const { complete, report } = await run();
    expect(complete, report.faults.join()).to.equal(true);
    const tags = await other.database.query('select name, digest from tags');
    expect(tags).to.deep.equal([{ name: 'moved', digest: second }]);
    expect(await other.database.query('select from manifests where digest = $1', [first])).to.have.length(1);
    const blobs = await other.database.query<{ digest: string }>('select digest from blobs');
    expect(blobs.map((blob) => blob.digest)).to.have.members([digest('stays'), digest('config')]);
  });

  it('gives a blob whose objects are gone those that were written down since, and reads what is in rows', async () => {
    await push(other, 'weights');
    const former = await keyOf(other, 'weights');
    await write(other);
    const lines = (
      await readFile(join(site.root, 'records', (await readdir(join(site.root, 'records')))[0] ?? ''), 'utf8')
    )
      .replaceAll(former, `00/${'a'.repeat(8)}-0000-4000-8000-000000000000.0.00000000000000aa`)
      .replaceAll(/"id":([0-9]+)/g, '"id":1$1');
    await records.putRecords({ generation: 1, sequence: 1 }, lines);
    await rename(
      join(site.root, former),
      join(site.root, '00', `${'a'.repeat(8)}-0000-4000-8000-000000000000.0.00000000000000aa`),
    );
    const { complete, report } = await run();
    expect(complete, report.faults.join()).to.equal(true);
    expect(await pulled('weights')).to.equal('weights');
  });

  it('leaves out a torn last line, and says which other line it can not read', async () => {
    await push(lost, 'weights');
    await write(lost);
    const folder = join(site.root, 'records');
    const [name = ''] = await readdir(folder);
    await appendFile(join(folder, name), '{"id":9,"kind":"li');
    const torn = await run();
    expect(torn.complete).to.equal(true);
    expect(torn.report.notes.join()).to.contain('torn');
    await writeFile(
      join(folder, name),
      `{"id":9,"kind":"li\n${(await readFile(join(folder, name), 'utf8')).split('\n')[0]}\n`,
    );
    const broken = await run();
    expect(broken.complete).to.equal(false);
    expect(broken.report.faults.join()).to.match(/line 1 of the records g00000000-0{15}1-/);
    expect(await other.database.query('select from record_log where behind')).to.have.length(1);
  });

  it('puts what nothing tells of into lost-found, once, and links what a manifest names', async () => {
    await push(lost, 'nobody knows');
    await push(lost, 'config');
    await push(lost, 'layer');
    await pushManifest(lost, ['config', 'layer'], ['v1']);
    await lost.database.query(`delete from records where kind in ('blob', 'link')`);
    await write(lost);
    const first = await run();
    expect(first.complete, first.report.faults.join()).to.equal(true);
    expect(first.report.objects).to.include({ found: 3, hashed: 3, matched: 2, kept: 1 });
    expect(await pulled('layer')).to.equal('layer');
    expect(await pulled('nobody knows', repository('lost-found'))).to.equal('nobody knows');
    const again = await run();
    expect(again.report.objects).to.include({ found: 0, hashed: 0, bytes: 0 });
    // Now it is written down: a third loss finds it without reading.
    await other.database.close();
    await otherDatabase.drop();
    otherDatabase = await createDatabase();
    other = site.open({ url: otherDatabase.url });
    const third = await run();
    expect(third.complete, third.report.faults.join()).to.equal(true);
    expect(third.report.objects.hashed).to.equal(0);
    expect(await pulled('nobody knows', repository('lost-found'))).to.equal('nobody knows');
  });

  it('that was killed while it read goes on where it was', async () => {
    for (let index = 0; index < 6; index++) await push(lost, `weights ${index}`);
    await lost.database.query(`delete from records`);
    let opened = 0;
    const dying = new Proxy(other.store, {
      get(store, name) {
        if (name === 'open')
          return async (...words: Parameters<Rooms['store']['open']>) => {
            if (++opened === 4) throw new Error('killed');
            return await store.open(...words);
          };
        const value: unknown = Reflect.get(store, name);
        return typeof value === 'function' ? (value.bind(store) as unknown) : value;
      },
    });
    const failure = await run({ store: dying }).catch((error: unknown) => error);
    expect(failure).to.have.property('message', 'killed');
    const { report, complete } = await run();
    expect(complete).to.equal(true);
    expect(report.objects).to.include({ found: 3, hashed: 3, kept: 3 });
  });

  it('tells what is missing, makes nothing of it, and is behind until that is given up', async () => {
    await push(lost, 'config');
    await push(lost, 'layer');
    const manifest = await pushManifest(lost, ['config', 'layer'], ['v1']);
    await write(lost);
    await rm(join(site.root, await keyOf(lost, 'layer')));
    const { complete, report } = await run();
    expect(complete).to.equal(false);
    expect(report.faults).to.have.length(3);
    expect(report.faults[0]).to.contain('is not there');
    expect(report.faults[1]).to.contain(manifest).and.to.contain(digest('layer'));
    expect(report.faults[2]).to.contain('tag team/model:v1');
    expect(await other.database.query('select from record_log where behind')).to.have.length(1);
    await run({ accept: true });
    expect(await other.database.query('select from record_log where behind')).to.have.length(0);
  });
});
