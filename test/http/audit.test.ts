import { expect } from 'chai';
import { type AuditRow, listAudit } from '../../src/metadata/audit-list.js';
import { verifyAudit } from '../../src/metadata/audit-verify.js';
import { until } from '../faults/support/processes.js';
import { makeKey, onDatabase, type TestKey } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import {
  bytesOf,
  close,
  digestOf,
  imageOf,
  openUpload,
  patch,
  pushBlob,
  pushConfig,
  pushImage,
  putManifest,
} from './content.js';
import { exchange } from './wire.js';

const REPOSITORY = 'audited/model';

describe('the record of requests', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({
      environment: { REGISTRY_AUDIT_READS: 'read/**, other/model', REGISTRY_TRUSTED_PROXIES: '127.0.0.1' },
    });
  });
  after(async () => await server?.dispose());

  const newest = async (): Promise<readonly AuditRow[]> =>
    (await onDatabase(server, (database) => listAudit(database, { filters: {}, limit: 1_000 }))).rows;

  /** What `work` added, the oldest first. */
  async function added(work: () => Promise<unknown>): Promise<AuditRow[]> {
    const last = (await newest())[0]?.id ?? 0;
    await work();
    return [...(await newest())].filter((row) => row.id > last).reverse();
  }

  const actionsOf = (rows: readonly AuditRow[]) => rows.map((row) => `${row.action} ${row.repository}`);

  it('begins with the admin key that the start stored, without its secret', async () => {
    const [first] = [...(await newest())].reverse();
    expect(first).to.include({ id: 1, actor: 'local', action: 'key.create', resourceType: 'key', resourceId: 'admin' });
    expect(first?.actorName).to.be.a('string').that.is.not.empty;
    expect(first?.details).to.deep.equal({
      before: null,
      after: {
        name: 'REGISTRY_ADMIN_KEY',
        grants: [{ repository: '**', actions: ['admin'] }],
        read_only: false,
        is_active: true,
        expires_at: null,
      },
    });
    await server.stop();
    await server.start();
    expect(
      (await newest()).filter((row) => row.action.startsWith('key.')),
      'a second start changes nothing',
    ).to.have.length(1);
  });

  it('says who came from where with what, in which request', async () => {
    const key: TestKey = await makeKey(server, ['audited/**=pull,push']);
    const bytes = bytesOf('who', 100);
    const rows = await added(() =>
      exchange(server.host, 'POST', `/v2/${REPOSITORY}/blobs/uploads/?digest=${digestOf(bytes)}`, {
        headers: {
          authorization: key.authorization,
          'user-agent': `oras/1.2 ${'x'.repeat(600)}`,
          'x-request-id': 'who-1',
          'x-forwarded-for': '192.0.2.7',
        },
        body: bytes,
      }),
    );
    expect(rows).to.have.length(1);
    expect(rows[0]).to.include({
      actor: key.id,
      actorName: 'of a test',
      action: 'blob.push',
      resourceType: 'blob',
      resourceId: digestOf(bytes),
      repository: REPOSITORY,
      ipAddress: '192.0.2.7',
      userAgent: `oras/1.2 ${'x'.repeat(503)}`,
      requestId: 'who-1',
    });
    expect(rows[0]?.details).to.deep.equal({ digest: digestOf(bytes), size: 100 });
  });

  it('has one row for each mutation, and none for what is refused, asked or under way', async () => {
    const config = await pushConfig(server, REPOSITORY);
    const manifest = imageOf(config, []);
    const digest = digestOf(manifest);
    const blob = bytesOf('mounted', 10);
    const path = `/v2/${REPOSITORY}`;
    const steps: [string, () => Promise<unknown>, string[]][] = [
      ['a single POST', () => pushBlob(server, REPOSITORY, blob), [`blob.push ${REPOSITORY}`]],
      [
        'chunks',
        async () => {
          const location = await openUpload(server, REPOSITORY);
          const bytes = bytesOf('chunks', 20);
          await patch(server, location, bytes.subarray(0, 10), 0);
          await patch(server, location, bytes.subarray(10), 10);
          expect((await close(server, location, digestOf(bytes))).status).to.equal(201);
        },
        [`blob.push ${REPOSITORY}`],
      ],
      ['an upload given up', async () => await server.request('DELETE', await openUpload(server, REPOSITORY)), []],
      [
        'a mount',
        () => server.request('POST', `/v2/audited/other/blobs/uploads/?mount=${digestOf(blob)}&from=${REPOSITORY}`),
        ['blob.mount audited/other'],
      ],
      [
        'a manifest with two tags',
        () => putManifest(server, REPOSITORY, 'v1?tag=latest', manifest),
        [`manifest.push ${REPOSITORY}`],
      ],
      [
        'a manifest that is refused',
        () => putManifest(server, REPOSITORY, 'v2', imageOf({ ...config, digest: digestOf('no') }, [])),
        [],
      ],
      [
        'a tag that is removed',
        () => server.request('DELETE', `${path}/manifests/latest`),
        [`tag.delete ${REPOSITORY}`],
      ],
      ['a tag that is not there', () => server.request('DELETE', `${path}/manifests/latest`), []],
      ['a blob in use', () => server.request('DELETE', `${path}/blobs/${config.digest}`), []],
      [
        'a manifest that is removed',
        () => server.request('DELETE', `${path}/manifests/${digest}`),
        [`manifest.delete ${REPOSITORY}`],
      ],
      [
        'a blob that is removed',
        () => server.request('DELETE', `${path}/blobs/${config.digest}`),
        [`blob.delete ${REPOSITORY}`],
      ],
      ['questions', async () => await (await server.request('GET', `${path}/tags/list`)).text(), []],
    ];
    for (const [what, work, wanted] of steps) expect(actionsOf(await added(work)), what).to.deep.equal(wanted);
  });

  it('has the pulls from chosen repositories, soon, and no others', async () => {
    const blob = bytesOf('pulled', 1_000);
    for (const name of ['read/deep/model', 'other/model', REPOSITORY]) {
      await pushBlob(server, name, blob);
      await pushImage(server, name, 'v1');
    }
    const [{ id: last = 0 } = {}] = await newest();
    const get = async (path: string, headers: Record<string, string> = {}) =>
      await (await server.request('GET', path, { headers })).arrayBuffer();
    for (const name of ['read/deep/model', 'other/model', REPOSITORY]) {
      await get(`/v2/${name}/manifests/v1`);
      await get(`/v2/${name}/blobs/${digestOf(blob)}`);
      await get(`/v2/${name}/blobs/${digestOf(blob)}`, { range: 'bytes=100-199' });
      await get(`/v2/${name}/blobs/${digestOf(blob)}`, { range: 'bytes=0-9,20-39' });
      // Not pulls: nothing of them is sent.
      await get(`/v2/${name}/blobs/${digestOf(blob)}`, { 'if-none-match': `"${digestOf(blob)}"` });
      await get(`/v2/${name}/blobs/${digestOf('not there')}`);
      await server.request('HEAD', `/v2/${name}/blobs/${digestOf(blob)}`);
      await server.request('HEAD', `/v2/${name}/manifests/v1`);
    }
    let pulls: AuditRow[] = [];
    await until('the pulls are written down', async () => {
      pulls = [...(await newest())].filter((row) => row.id > last);
      return pulls.length >= 8;
    });
    for (const name of ['read/deep/model', 'other/model']) {
      const said = pulls
        .filter((row) => row.repository === name)
        .map(({ action, details: { at: _, ...details } }) => ({ action, ...details }));
      const manifest = said.filter(({ action }) => action === 'manifest.pull');
      expect(manifest).to.have.length(1);
      expect(manifest[0]).to.include({ tag: 'v1' });
      expect(said.filter(({ action }) => action !== 'manifest.pull')).to.have.deep.members([
        { action: 'blob.pull', size: 1_000, start: 0, bytes: 1_000 },
        { action: 'blob.pull', size: 1_000, start: 100, bytes: 100 },
        { action: 'blob.pull', size: 1_000, ranges: 2, bytes: 30 },
      ]);
    }
    expect(pulls).to.have.length(8);
  });

  it('does not tell who pulled among the events of a model', async () => {
    const name = 'read/a/model';
    const made = await server.request('POST', '/api/v1/models', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name, storage_path: name }),
    });
    expect(made.status).to.equal(201);
    await pushImage(server, name, 'v1');
    await (await server.request('GET', `/v2/${name}/manifests/v1`)).arrayBuffer();
    await until('the pull is written down', async () =>
      (await newest()).some((row) => row.action === 'manifest.pull' && row.repository === name),
    );
    const events = await server.request('GET', `/api/v1/models/${encodeURIComponent(name)}/events`);
    const { items } = (await events.json()) as { items: { action: string }[] };
    expect(items.map(({ action }) => action)).to.deep.equal(['manifest.push', 'model.create']);
  });

  it('has the last pulls before a registry ends', async () => {
    await pushImage(server, 'read/last', 'v1');
    await (await server.request('GET', '/v2/read/last/manifests/v1')).arrayBuffer();
    expect(await server.stop()).to.equal(0);
    const [row] = await newest();
    expect(row).to.include({ action: 'manifest.pull', repository: 'read/last' });
    await server.start();
  });

  it('is sealed within ten seconds while pushes go on, and whole at the end', async () => {
    const end = performance.now() + 4_000;
    await Promise.all(
      Array.from({ length: 4 }, async (_, pusher) => {
        for (let turn = 0; performance.now() < end; turn++)
          await pushImage(server, `loaded/model-${pusher}`, 'v1', { annotations: { turn: String(turn) } });
      }),
    );
    await until('all is sealed', () =>
      onDatabase(server, async (database) => (await verifyAudit(database, { unsealedSeconds: 60 })).unsealed === 0),
    );
    await onDatabase(server, async (database) => {
      const [lag] = await database.query<{ seconds: number; seals: number }>(
        `select max(extract(epoch from s.sealed_at - a.created_at))::float8 as seconds, count(distinct s.id) as seals
           from audit_logs a join audit_seals s on a.id between s.first_id and s.last_id where a.repository like 'loaded/%'`,
      );
      expect(lag?.seconds).to.be.lessThan(10);
      expect(lag?.seals).to.be.greaterThan(0);
      expect(await verifyAudit(database, { unsealedSeconds: 60 })).to.include({ fault: undefined });
    });
  });

  it('has the pulls that nginx sends, without their length', async () => {
    const behind = await startServer({
      environment: {
        REGISTRY_AUDIT_READS: '**',
        REGISTRY_X_ACCEL_PREFIX: '/blobs/',
        REGISTRY_WORKERS: '1',
        REGISTRY_INLINE_MAX_BYTES: '0',
      },
    });
    try {
      const blob = bytesOf('behind nginx', 1_000);
      const digest = await pushBlob(behind, 'read/model', blob);
      await behind.request('GET', `/v2/read/model/blobs/${digest}`, { headers: { range: 'bytes=0-9' } });
      await behind.stop();
      const { rows } = await onDatabase(behind, (database) => listAudit(database, { filters: {}, limit: 1 }));
      const { at: _, ...details } = rows[0]?.details ?? {};
      expect(rows[0]).to.include({ action: 'blob.pull', resourceId: digest });
      expect(details).to.deep.equal({ size: 1_000, range: 'bytes=0-9' });
    } finally {
      await behind.dispose();
    }
  });

  it('does not start with a pattern of reads that can not be one', async () => {
    const error = await startServer({ environment: { REGISTRY_AUDIT_READS: 'fine/**, not**fine' } }).then(
      async (started) => await started.dispose(),
      (thrown: Error) => thrown.message,
    );
    expect(error).to.include('REGISTRY_AUDIT_READS: the repository pattern "not**fine"');
  });
});
