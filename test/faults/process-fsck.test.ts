import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import {
  digestOf,
  expectBlob,
  expectError,
  imageOf,
  descriptorOf,
  LAYER,
  pushBlob,
  pushConfig,
  putManifest,
  bytesOf,
} from '../http/content.js';
import { scrape, sumOf } from '../http/exposition.js';
import { freePort, startServer, type TestServer } from '../support/server.js';
import { harm } from './scrub-scene.js';
import { runCommand, startCommand } from './support/command.js';
import { ask } from './support/oracle.js';
import { until } from './support/processes.js';

const MiB = 1024 * 1024;
const REPOSITORY = 'team/model';
const BYTES = bytesOf('weights', 2 * MiB);
const DIGEST = digestOf(BYTES);

interface Line {
  readonly fault?: string;
  readonly digest?: string;
  readonly releases?: readonly string[];
  readonly summary?: Readonly<Record<string, number>>;
}

describe('weighhouse fsck', function () {
  this.timeout(120_000);
  let server: TestServer;
  let operations: string;
  let blobs: string;
  let database: string;
  let manifest: Buffer;

  beforeEach(async () => {
    operations = `127.0.0.1:${await freePort()}`;
    server = await startServer({
      environment: { REGISTRY_OPERATIONS_LISTEN: operations, REGISTRY_JOB_INTERVAL: '1', REGISTRY_WORKERS: '1' },
    });
    blobs = join(server.environment.REGISTRY_DATA_DIR ?? '', 'blobs');
    database = server.environment.REGISTRY_DATABASE_URL ?? '';
    const config = await pushConfig(server, REPOSITORY);
    await pushBlob(server, REPOSITORY, BYTES);
    const title = { 'org.opencontainers.image.title': 'model.safetensors' };
    manifest = imageOf(config, [{ ...descriptorOf(BYTES, LAYER), annotations: title } as never]);
    expect((await putManifest(server, REPOSITORY, 'v1-fp16', manifest)).status).to.equal(201);
  });
  afterEach(async () => await server.dispose());

  const settings = (more: Record<string, string> = {}) => ({
    REGISTRY_DATABASE_URL: database,
    REGISTRY_DATA_DIR: server.environment.REGISTRY_DATA_DIR ?? '',
    ...more,
  });
  const fsck = async (args: readonly string[] = [], more: Record<string, string> = {}) =>
    await runCommand('fsck', settings(more), args);
  const linesOf = (said: string) =>
    said
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line);
  async function keyOf(digest = DIGEST): Promise<string> {
    const [row] = await ask<{ key: string }>(
      database,
      `select key from segments s join blobs b on b.body = s.body where b.digest = '${digest}'`,
    );
    return row?.key ?? '';
  }
  const fileOf = async () => join(blobs, await keyOf());
  const health = async () => {
    const answer = await server.request('GET', '/health');
    return { code: answer.status, ...((await answer.json()) as { status: string; degraded: string[] }) };
  };

  it('finds nothing where all is well, and counts what nothing names where it is asked to', async () => {
    const light = await fsck();
    expect(light.code, light.said).to.equal(0);
    expect(light.said)
      .to.match(/^blobs +2$/m)
      .and.match(/^faults +0$/m);
    const deep = await fsck(['--deep', '--json', '--orphans']);
    expect(deep.code, deep.said).to.equal(0);
    const [last, ...others] = linesOf(deep.said);
    expect(others).to.deep.equal([]);
    expect(last?.summary).to.include({ blobs: 2, faults: 0, healed: 0, unread: 0, quarantined: 0, unnamed: 0 });
    expect(last?.summary?.bytes).to.be.greaterThan(2 * MiB);
    expect((await health()).degraded).to.deep.equal([]);
  });

  it('refuses other words', async () => {
    for (const args of [['what'], ['--restart'], ['--all']]) expect((await fsck(args)).code).to.equal(2);
    expect((await fsck(['--help'])).code).to.equal(0);
  });

  it('quarantines what is damaged, which everything says, until it is pushed again', async () => {
    const path = `/v2/${REPOSITORY}/blobs/${DIGEST}`;
    await harm.flip(await fileOf());
    expect((await fsck()).code).to.equal(0);
    const found = await fsck(['--deep']);
    expect(found.code, found.said).to.equal(1);
    expect(found.said)
      .to.match(
        new RegExp(
          `^QUARANTINED  ${DIGEST}  its bytes have the digest sha256:[0-9a-f]{64}; in team/model; releases team/model:v1-fp16$`,
          'm',
        ),
      )
      .and.match(/^faults +1$/m)
      .and.match(/^quarantined +1$/m);

    const request = async (method: string, at: string, headers = {}) => await server.request(method, at, { headers });
    expect((await request('GET', path)).status).to.equal(500);
    expect((await request('GET', path, { range: 'bytes=0-9' })).status).to.equal(500);
    expect((await request('HEAD', path)).status).to.equal(404);
    const mount = await request('POST', `/v2/other/model/blobs/uploads/?mount=${DIGEST}&from=${REPOSITORY}`);
    expect(mount.status).to.equal(202);
    const named = await putManifest(server, REPOSITORY, 'v2-fp16', manifest);
    const { detail } = await expectError(named, 400, 'MANIFEST_BLOB_UNKNOWN');
    expect(JSON.stringify(detail)).to.include(DIGEST);
    expect((await request('GET', `/v2/${REPOSITORY}/manifests/v1-fp16`)).status).to.equal(200);
    await until('health says so', async () => (await health()).degraded.length > 0);
    expect(await health()).to.include({ code: 200, status: 'ok' });
    expect(sumOf(await scrape(operations), 'weighhouse_quarantined_blobs')).to.equal(1);
    expect(
      await ask(
        database,
        `select actor, details->'fault'->>'kind' as kind from audit_logs where action = 'blob.quarantine'`,
      ),
    ).to.deep.equal([{ actor: 'local', kind: 'digest' }]);
    const again = await fsck(['--json']);
    expect(again.code).to.equal(1);
    expect(linesOf(again.said)[0]).to.deep.include({ fault: 'digest', state: 'quarantined before', digest: DIGEST });

    await pushBlob(server, REPOSITORY, BYTES);
    await expectBlob(server, REPOSITORY, BYTES);
    expect((await putManifest(server, REPOSITORY, 'v2-fp16', manifest)).status).to.equal(201);
    const well = await fsck(['--deep']);
    expect(well.code, well.said).to.equal(0);
    await until('health is well', async () => (await health()).degraded.length === 0);
  });

  it('heals from the second store of the settings', async () => {
    const copy = join(server.folder, 'copy');
    await cp(blobs, copy, { recursive: true });
    await harm.remove(await fileOf());
    const missing = { REGISTRY_SECOND_STORE: 'filesystem' };
    expect((await fsck([], missing)).said).to.include('REGISTRY_SECOND_STORE_ROOT is missing');
    const healed = await fsck([], { ...missing, REGISTRY_SECOND_STORE_ROOT: copy });
    expect(healed.code, healed.said).to.equal(1);
    expect(healed.said).to.include(`HEALED  ${DIGEST}`);
    await expectBlob(server, REPOSITORY, BYTES);
    expect((await fsck(['--deep'])).code).to.equal(0);
  });

  it('says that it could not look where the storage or the database is away, and quarantines nothing', async () => {
    const empty = join(server.folder, 'empty');
    await mkdir(empty);
    for (const args of [[], ['--deep']]) {
      const away = await fsck(args, { REGISTRY_FILESYSTEM_ROOT: empty });
      expect(away.code, away.said).to.equal(3);
    }
    const gone = await fsck([], { REGISTRY_DATABASE_URL: 'postgres://127.0.0.1:1/none' });
    expect(gone.code, gone.said).to.equal(3);
    expect(await ask(database, 'select from blobs where quarantined_at is not null')).to.have.length(0);
  });

  it('goes on where it was stopped, unless it is told to begin anew, and only one is at work', async () => {
    for (let seed = 0; seed < 12; seed++) await pushBlob(server, REPOSITORY, bytesOf(`more ${seed}`, MiB));
    // It would take up the pass itself.
    await server.stop();
    const slow = { REGISTRY_SCRUB_RATE: String(2 * MiB) };
    const rows = async () =>
      await ask<{ blobs: number; finished: boolean; at: string }>(
        database,
        'select blobs::int, finished_at is not null as finished, last_digest as at from scrubs order by id',
      );
    const first = await startCommand('fsck', settings(slow), ['--deep']);
    // A step takes five seconds.
    await until('some are written down', async () => ((await rows())[0]?.blobs ?? 0) > 0, 30_000);
    const other = await fsck(['--deep']);
    expect(other.code, other.said).to.equal(3);
    expect(other.said).to.include('another weighhouse fsck --deep is at work');
    first.child.kill('SIGTERM');
    expect((await first.outcome).code).to.equal(3);
    const [stopped] = await rows();
    expect(stopped).to.include({ finished: false });
    const next = await fsck(['--deep']);
    expect(next.code, next.said).to.equal(0);
    expect(next.said)
      .to.include(`going on behind ${stopped?.at}`)
      .and.match(/^blobs +14$/m);
    expect(await rows()).to.deep.include({ blobs: 14, finished: true, at: (await rows())[0]?.at });

    await ask(database, `insert into scrubs (last_digest, blobs) values ('sha256:f', 99)`);
    const anew = await fsck(['--deep', '--restart']);
    expect(anew.said)
      .to.match(/^blobs +14$/m)
      .and.not.include('going on');
    await server.start();
  });

  it('is done by a registry that runs, every so many days', async () => {
    await harm.truncate(await fileOf());
    await ask(database, `update installation set created_at = now() - interval '31 days'`);
    await until('it is quarantined', async () => (await health()).degraded.length > 0, 30_000);
    await until(
      'the pass is over',
      async () => (await ask(database, 'select from scrubs where finished_at is not null')).length === 1,
    );
    expect(await server.log())
      .to.include('it is quarantined')
      .and.include('all was scrubbed');
    await until('it is counted', async () => sumOf(await scrape(operations), 'weighhouse_scrubbed_blobs_total') === 2);
    const metrics = await scrape(operations);
    expect(sumOf(metrics, 'weighhouse_scrub_faults_total', { kind: 'short' })).to.equal(1);
    expect(sumOf(metrics, 'weighhouse_scrub_last_pass_time_seconds')).to.be.closeTo(Date.now() / 1000, 60);
  });
});
