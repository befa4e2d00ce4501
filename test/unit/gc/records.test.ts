import { expect } from 'chai';
import { recordChanges, recordsJob } from '../../../src/gc/records.js';
import { digestOf } from '../../../src/oci/digest.js';
import { parseManifest } from '../../../src/oci/manifest.js';
import { parseTag } from '../../../src/oci/name.js';
import { FilesystemRecords, type RecordFile, type RecordPlace } from '../../../src/storage/record-store.js';
import { recordBy } from '../../../src/registry/changes.js';
import { ACTOR, bodyOf, repository, type Rooms, Site } from '../../support/rooms.js';

const NAME = repository('team/model');
const LIMITS = { maxBytes: 1_000_000, maxDepth: 20, maxDescriptors: 100 };

interface Line {
  kind: string;
  repository: string;
  digest: string | null;
  tag: string | null;
  size?: number;
  segments?: { key: string; length: number; bytes?: string }[];
  payload?: string;
  mediaType?: string;
  gone?: boolean;
}

describe('the records beside the bytes', () => {
  let site: Site;
  let rooms: Rooms;

  beforeEach(async () => {
    site = await Site.make();
    rooms = site.open({ observers: [recordBy(recordChanges)] });
  });
  afterEach(async () => await site.dispose());

  async function written(): Promise<Line[]> {
    const records = new FilesystemRecords(site.root);
    while (await recordsJob(rooms.database, records, 1000).run());
    const lines: Line[] = [];
    for await (const file of records.listRecords()) {
      lines.push(
        ...(await records.readRecords(file))
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line) as Line),
      );
    }
    return lines;
  }

  async function push(bytes: Buffer) {
    const digest = digestOf('sha256', bytes);
    const id = await rooms.registry.uploads.create(NAME, 'sha256', ACTOR);
    await rooms.registry.uploads.finish({ id, repository: NAME, actor: ACTOR }, digest, bodyOf([bytes]));
    return digest;
  }

  /** A manifest of about so many bytes, under a tag. */
  async function pushManifest(size: number) {
    const mediaType = 'application/vnd.oci.image.index.v1+json';
    const payload = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType, manifests: [], annotations: { padding: 'x'.repeat(size) } }),
    );
    const digest = digestOf('sha256', payload);
    const manifest = parseManifest(payload, undefined, { ...LIMITS, maxBytes: 5_000_000 });
    await rooms.registry.manifests.put({ repository: NAME, digest, payload, manifest, tags: [parseTag('t')] }, ACTOR);
    return { digest, payload };
  }

  it('hold all that a lost database is rebuilt from, in the order of the changes', async () => {
    const weights = Buffer.from('weights');
    const digest = await push(weights);
    const descriptor = { mediaType: 'application/octet-stream', digest, size: weights.length };
    const payload = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        config: descriptor,
        layers: [],
      }),
    );
    const manifest = digestOf('sha256', payload);
    const tags = [parseTag('v1'), parseTag('latest')];
    await rooms.registry.manifests.put(
      { repository: NAME, digest: manifest, payload, manifest: parseManifest(payload, undefined, LIMITS), tags },
      ACTOR,
    );
    await rooms.registry.tags.remove(NAME, parseTag('latest'), ACTOR);
    const lines = await written();
    expect(lines.map(({ kind, tag }) => (tag ? `${kind} ${tag}` : kind))).to.deep.equal([
      'blob',
      'link',
      'manifest',
      'tag v1',
      'tag latest',
      'tag-removed latest',
    ]);
    expect(lines.every((line) => line.repository === NAME)).to.equal(true);
    expect(lines[0]?.digest).to.equal(digest);
    expect(lines[0]?.size).to.equal(weights.length);
    const [segment] = lines[0]?.segments ?? [];
    expect(segment?.length).to.equal(weights.length);
    expect((await rooms.store.stat(segment?.key as never))?.size).to.equal(weights.length);
    expect(Buffer.from(lines[2]?.payload ?? '', 'base64').equals(payload)).to.equal(true);
    expect(lines[2]?.mediaType).to.equal('application/vnd.oci.image.manifest.v1+json');
    expect(lines[3]?.digest).to.equal(manifest);
    expect(await rooms.database.query('select from records')).to.have.length(0);
  });

  it('say of what is gone before it was written down that it is gone', async () => {
    const digest = await push(Buffer.from('weights'));
    await rooms.registry.blobs.remove(NAME, digest, ACTOR);
    await rooms.database.query('delete from blobs');
    const lines = await written();
    expect(lines.map((line) => line.kind)).to.deep.equal(['blob', 'link', 'unlink']);
    expect(lines[0]?.gone).to.equal(true);
  });

  it('say of a manifest that is gone that it is gone', async () => {
    const { digest } = await pushManifest(100);
    await rooms.registry.manifests.remove(NAME, digest, ACTOR);
    const lines = await written();
    expect(lines.map(({ kind, gone }) => `${kind} ${gone}`)).to.deep.equal([
      'manifest true',
      'tag undefined',
      'tag-removed undefined',
      'manifest-removed undefined',
    ]);
  });

  it('are written in files of a bounded size, each in its turn, and each manifest whole', async () => {
    const pushed = [];
    for (let index = 0; index < 6; index++) pushed.push(await pushManifest(4 * 1024 * 1024 - index));
    const files: Line[][] = [];
    const records = {
      putRecords: async (_place: RecordPlace, text: string) => {
        const lines = text.trimEnd().split('\n');
        files.push(lines.map((line) => JSON.parse(line) as Line));
      },
      listRecords: () => {
        throw new Error('not here');
      },
      readRecords: () => Promise.reject(new Error('not here')),
    };
    const job = recordsJob(rooms.database, records, 1000);
    for (const isMore of [true, true, false, false]) expect(await job.run()).to.equal(isMore);
    expect(files.map((lines) => lines.filter(({ kind }) => kind === 'manifest').length)).to.deep.equal([3, 3, 0]);
    const payloads = files.flat().flatMap(({ payload }) => (payload ? [Buffer.from(payload, 'base64')] : []));
    expect(payloads.map((payload) => digestOf('sha256', payload))).to.deep.equal(pushed.map(({ digest }) => digest));
  });

  it('have the bytes of a blob that lie in its row, and count them', async () => {
    const bytes = Buffer.alloc(60_000, 'weights');
    const digest = await push(bytes);
    await rooms.database.query(
      'update segments set bytes = $1 where body = (select body from blobs where digest = $2)',
      [bytes, digest],
    );
    const [blob] = await written();
    const [segment] = blob?.segments ?? [];
    expect(segment?.bytes).to.equal(bytes.toString('base64'));
  });

  it('are written again, not lost, when a process dies between writing them down and saying so', async () => {
    await push(Buffer.from('weights'));
    const records = new FilesystemRecords(site.root);
    const dying = {
      putRecords: async (place: RecordPlace, lines: string) => {
        await records.putRecords(place, lines);
        throw new Error('killed');
      },
      listRecords: () => records.listRecords(),
      readRecords: (file: RecordFile) => records.readRecords(file),
    };
    const failure = await recordsJob(rooms.database, dying, 1000)
      .run()
      .catch((error: unknown) => error);
    expect(failure).to.be.instanceOf(Error);
    const lines = await written();
    expect(lines.map((line) => line.kind)).to.deep.equal(['blob', 'link', 'blob', 'link']);
  });
});
