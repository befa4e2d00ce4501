import { expect } from 'chai';
import { listAudit } from '../../../src/metadata/audit-list.js';
import { auditChanges } from '../../../src/metadata/audit.js';
import { type Digest, digestOf } from '../../../src/oci/digest.js';
import { parseManifest } from '../../../src/oci/manifest.js';
import { parseTag } from '../../../src/oci/name.js';
import { type Change, recordBy } from '../../../src/registry/changes.js';
import { type ManifestPush, putManifest } from '../../../src/registry/manifest-rows.js';
import { ACTOR, bodyOf, repository, type Rooms, Site } from '../../support/rooms.js';

const NAME = repository('team/model');
const OTHER = repository('team/other');
const LIMITS = { maxBytes: 1_000_000, maxDepth: 20, maxDescriptors: 100 };
const TYPE = 'application/vnd.oci.image.manifest.v1+json';

describe('the record of what the registry changes', () => {
  let site: Site;
  let rooms: Rooms;
  let failing: Change['kind'] | undefined;

  beforeEach(async () => {
    failing = undefined;
    site = await Site.make();
    const fail = async (change: Change) => {
      if (change.kind === failing) throw new Error('an observer fails');
    };
    rooms = site.open({ observers: [recordBy(auditChanges), fail] });
  });
  afterEach(async () => await site.dispose());

  async function pushBlob(text: string): Promise<{ digest: Digest; size: number }> {
    const bytes = Buffer.from(text);
    const digest = digestOf('sha256', bytes);
    const id = await rooms.registry.uploads.create(NAME, 'sha256', ACTOR);
    await rooms.registry.uploads.finish({ id, repository: NAME, actor: ACTOR }, digest, bodyOf([bytes]));
    return { digest, size: bytes.length };
  }

  function manifestOf(blob: { digest: Digest; size: number }, annotation: string, ...tags: string[]): ManifestPush {
    const mediaType = 'application/octet-stream';
    const content = { schemaVersion: 2, mediaType: TYPE, config: { ...blob, mediaType }, layers: [] };
    const payload = Buffer.from(JSON.stringify({ ...content, annotations: { annotation } }));
    const manifest = parseManifest(payload, undefined, LIMITS);
    return { repository: NAME, digest: digestOf('sha256', payload), payload, manifest, tags: tags.map(parseTag) };
  }

  /** What was written down since the start, the oldest first. */
  const rows = async () =>
    [...(await listAudit(rooms.database, { filters: {}, limit: 100 })).rows].reverse().map((row) => ({
      what: `${row.action} ${row.resourceType} ${row.resourceId}`,
      repository: row.repository,
      details: row.details,
    }));

  it('has who did it, from where, with what, in which request', async () => {
    await pushBlob('weights');
    const { rows: written } = await listAudit(rooms.database, { filters: {}, limit: 100 });
    expect(written).to.have.length(1);
    expect(written[0]).to.deep.include({
      actor: 'tester',
      actorName: 'a tester',
      ipAddress: '127.0.0.1',
      userAgent: 'tests',
      requestId: 'none',
    });
  });

  it('has one row for each change, with what was before and what is after', async () => {
    const blob = await pushBlob('weights');
    await rooms.registry.blobs.mount(OTHER, blob.digest, NAME, () => true, ACTOR);
    const first = manifestOf(blob, 'first', 'v1', 'latest', 'v1');
    const second = manifestOf(blob, 'second', 'latest', 'v2');
    await rooms.registry.manifests.put(first, ACTOR);
    await rooms.registry.manifests.put(second, ACTOR);
    await rooms.registry.manifests.put(second, ACTOR);
    await rooms.registry.tags.remove(NAME, parseTag('v2'), ACTOR);
    await rooms.registry.manifests.remove(NAME, second.digest, ACTOR);
    await rooms.registry.blobs.remove(OTHER, blob.digest, ACTOR);
    const about = ({ digest, payload }: ManifestPush) => ({ digest, media_type: TYPE, size: payload.length });
    const pushed = (push: ManifestPush) => ({ ...about(push), artifact_type: 'application/octet-stream' });
    expect(await rows()).to.deep.equal([
      { what: `blob.push blob ${blob.digest}`, repository: NAME, details: blob },
      { what: `blob.mount blob ${blob.digest}`, repository: OTHER, details: { digest: blob.digest, from: NAME } },
      {
        what: `manifest.push manifest ${first.digest}`,
        repository: NAME,
        details: {
          ...pushed(first),
          tags: [
            { tag: 'v1', before: null, after: first.digest },
            { tag: 'latest', before: null, after: first.digest },
          ],
        },
      },
      {
        what: `manifest.push manifest ${second.digest}`,
        repository: NAME,
        details: {
          ...pushed(second),
          tags: [
            { tag: 'latest', before: first.digest, after: second.digest },
            { tag: 'v2', before: null, after: second.digest },
          ],
        },
      },
      {
        what: `manifest.push manifest ${second.digest}`,
        repository: NAME,
        details: {
          ...pushed(second),
          tags: [
            { tag: 'latest', before: second.digest, after: second.digest },
            { tag: 'v2', before: second.digest, after: second.digest },
          ],
        },
      },
      { what: 'tag.delete tag v2', repository: NAME, details: { tag: 'v2', before: second.digest, after: null } },
      {
        what: `manifest.delete manifest ${second.digest}`,
        repository: NAME,
        details: { ...about(second), tags: [{ tag: 'latest', before: second.digest, after: null }] },
      },
      { what: `blob.delete blob ${blob.digest}`, repository: OTHER, details: { digest: blob.digest } },
    ]);
  });

  it('is undone with a change that fails after it was written', async () => {
    const blob = await pushBlob('weights');
    const push = manifestOf(blob, 'first', 'v1');
    failing = 'manifest-pushed';
    const error = await rooms.registry.manifests.put(push, ACTOR).catch((thrown: unknown) => thrown);
    expect(String(error)).to.equal('Error: an observer fails');
    expect((await rows()).map(({ what }) => what)).to.deep.equal([`blob.push blob ${blob.digest}`]);
    expect(await rooms.database.query('select from manifests')).to.have.length(0);
    expect(await rooms.database.query('select from tag_events')).to.have.length(0);
  });

  it('undoes a change of which it can not be written', async () => {
    await rooms.database.query('alter table audit_logs add constraint nothing_more check (false) not valid');
    const error = await pushBlob('weights').catch((thrown: unknown) => thrown as { constraint?: string });
    expect(error).to.include({ constraint: 'nothing_more' });
    expect(await rooms.database.query('select from repository_blobs')).to.have.length(0);
  });

  it('says truly what a tag meant before, also when two set it for the first time at once', async () => {
    const blob = await pushBlob('weights');
    const first = manifestOf(blob, 'first', 'v1');
    const second = manifestOf(blob, 'second', 'v1');
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    let arrive = () => {};
    const arrived = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    const earlier = rooms.database.transaction(async (transaction) => {
      await putManifest(transaction, first, ACTOR);
      arrive();
      await released;
    });
    await arrived;
    const later = rooms.database.transaction((transaction) => putManifest(transaction, second, ACTOR));
    for (const deadline = performance.now() + 10_000; performance.now() < deadline; ) {
      const waiting = await rooms.database.query('select from pg_locks where not granted');
      if (waiting.length > 0) break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    release();
    await earlier;
    expect(await later).to.deep.equal([{ tag: 'v1', previous: first.digest }]);
    const events = await rooms.database.query('select digest, previous from tag_events order by id');
    expect(events).to.deep.equal([
      { digest: first.digest, previous: null },
      { digest: second.digest, previous: first.digest },
    ]);
    const queued = await rooms.database.query(`select digest from review_requests where kind = 'manifest'`);
    expect(queued).to.deep.equal([{ digest: first.digest }]);
  });

  it('changes nothing in a repository whose row somebody holds, before that one is done', async () => {
    const blob = await pushBlob('weights');
    const push = manifestOf(blob, 'first', 'v1');
    await rooms.registry.manifests.put(push, ACTOR);
    for (const change of [
      () => rooms.registry.manifests.put(push, ACTOR),
      () => rooms.registry.tags.remove(NAME, parseTag('v1'), ACTOR),
      () => rooms.registry.manifests.remove(NAME, push.digest, ACTOR),
    ]) {
      let done = false;
      let changing: Promise<void> = Promise.resolve();
      await rooms.database.transaction(async (transaction) => {
        await transaction.query('select from repositories where name = $1 for update', [NAME]);
        changing = change().then(() => {
          done = true;
        });
        for (const deadline = performance.now() + 10_000; performance.now() < deadline; ) {
          // In its first statement: nothing else is locked yet that the holder may want.
          const waiting = await transaction.query<{ locks: number }>(
            `select (select count(*) from pg_locks o where o.pid = w.pid and o.granted and o.mode = 'RowExclusiveLock'
                        and o.relation = any('{tags,manifests,manifest_references}'::regclass[])) as locks
               from pg_locks w where not w.granted`,
          );
          if (waiting[0]) {
            expect(waiting[0].locks).to.equal(0);
            break;
          }
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        expect(done).to.equal(false);
        await transaction.query('select from tags where repository is not null for update');
      });
      await changing;
    }
  });
});
