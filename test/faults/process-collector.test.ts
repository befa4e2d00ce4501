import { join } from 'node:path';
import { expect } from 'chai';
import { startServer, type TestServer } from '../support/server.js';
import { digestOf, makeImage, type Made } from '../soak/support/content.js';
import { runCommand } from './support/command.js';
import { send } from './support/exchange.js';
import { ask, filesOf } from './support/oracle.js';
import { until } from './support/processes.js';

const PATIENCE_MS = 60_000;
/** Too large for a row. */
const BYTES = Buffer.alloc(200_000, 'weights');
const BLOB = { digest: digestOf(BYTES), bytes: BYTES };

/** Times as short as they can be. */
const HASTE = {
  REGISTRY_UPLOAD_LIFETIME: '1',
  REGISTRY_COLLECT_GRACE: '1',
  REGISTRY_COLLECT_INTERVAL: '1',
  REGISTRY_COLLECT_WALK_INTERVAL: '1',
  REGISTRY_READ_GRACE: '0',
  REGISTRY_REMOVAL_DELAY: '0',
  REGISTRY_REMOVAL_SHARE: '100',
  REGISTRY_JOB_INTERVAL: '1',
};

describe('the collector of a registry', function () {
  this.timeout(180_000);
  let server: TestServer;
  afterEach(async () => await server.dispose());

  async function ok(status: number, method: string, path: string, body?: Buffer, type = 'application/octet-stream') {
    const answer = await send(server.host, method, path, body && { body, headers: { 'content-type': type } });
    expect(answer?.status, `${method} ${path}: ${answer?.body.toString()}`).to.equal(status);
    return answer;
  }

  async function push(repository: string, made: Made, reference = made.digest): Promise<void> {
    for (const { digest, bytes } of made.blobs)
      await ok(201, 'POST', `/v2/${repository}/blobs/uploads/?digest=${digest}`, bytes);
    await ok(201, 'PUT', `/v2/${repository}/manifests/${reference}`, made.payload, made.mediaType);
  }

  const statusOf = async (path: string) => (await send(server.host, 'GET', path))?.status;
  const files = async () => await filesOf(join(server.environment.REGISTRY_DATA_DIR ?? '', 'blobs'));
  const collect = (...args: string[]) => runCommand('collect', server.environment, args);

  it('gives the room of what was deleted back, and tells beforehand what goes', async () => {
    server = await startServer({ environment: { ...HASTE, REGISTRY_UNTAGGED_AGE: 'never' } });
    const [one, other] = [makeImage([BLOB], 'one'), makeImage([BLOB], 'other')];
    await push('team/one', one, 'v1');
    await push('team/other', other, 'v1');
    expect((await collect('--dry-run')).said).to.include('altogether 0 manifests and 0 blobs, 0 bytes');
    await ok(202, 'DELETE', `/v2/team/one/manifests/${one.digest}`);
    await until(
      'one of them lets it go',
      async () => (await statusOf(`/v2/team/one/blobs/${BLOB.digest}`)) === 404,
      PATIENCE_MS,
    );
    await until(
      'its link is gone',
      async () =>
        (
          await ask(
            server.environment.REGISTRY_DATABASE_URL ?? '',
            `select from repository_blobs where digest = '${BLOB.digest}'`,
          )
        ).length === 1,
      PATIENCE_MS,
    );
    expect(await statusOf(`/v2/team/other/blobs/${BLOB.digest}`), 'the other has it').to.equal(200);
    expect([...(await files()).values()]).to.deep.equal([BYTES.length]);
    await ok(202, 'DELETE', `/v2/team/other/manifests/${other.digest}`);
    await until('the room is given back', async () => (await files()).size === 0, PATIENCE_MS);
    const metrics = (await send(server.host, 'GET', '/metrics'))?.body.toString() ?? '';
    expect(metrics).to.match(/^weighhouse_collector_freed_bytes_total 200002$/m);
    const log = await ok(200, 'GET', '/api/v1/audit-logs?actor=collector&limit=50');
    expect(log?.body.toString()).to.include('blob.delete');
  });

  it('heeds what policies say of manifests without a tag', async () => {
    server = await startServer({ environment: { ...HASTE, REGISTRY_UNTAGGED_AGE: '1' } });
    const policy = { pattern: 'team/kept', untagged: { keep: true } };
    await ok(201, 'POST', '/api/v1/policies', Buffer.from(JSON.stringify(policy)), 'application/json');
    const made = makeImage([BLOB], 'without a tag');
    for (const repository of ['team/kept', 'team/gone']) await push(repository, made);
    const dry = JSON.parse((await collect('--dry-run', '--json')).said) as {
      manifests: { repository: string; digest: string; why: string }[];
    };
    expect(dry.manifests.map(({ repository, why }) => [repository, why])).to.deep.equal([
      ['team/gone', 'nothing names it'],
    ]);
    await until(
      'it goes where nothing keeps it',
      async () =>
        (
          await ask(
            server.environment.REGISTRY_DATABASE_URL ?? '',
            `select from manifests where digest = '${made.digest}'`,
          )
        ).length === 1,
      PATIENCE_MS,
    );
    expect(await statusOf(`/v2/team/gone/manifests/${made.digest}`)).to.equal(404);
    expect(await statusOf(`/v2/team/kept/manifests/${made.digest}`)).to.equal(200);
    expect(await statusOf(`/v2/team/kept/blobs/${BLOB.digest}`)).to.equal(200);
  });

  it('by a command: takes what is due, and refuses words that it does not know', async () => {
    server = await startServer();
    const made = makeImage([BLOB], 'one');
    await push('team/one', made, 'v1');
    await ok(202, 'DELETE', `/v2/team/one/manifests/${made.digest}`);
    const url = server.environment.REGISTRY_DATABASE_URL ?? '';
    const age = async () => {
      await ask(
        url,
        `update repository_blobs set linked_at = linked_at - interval '8 days', condemned_at = condemned_at - interval '8 days'`,
      );
      await ask(url, 'update reviews set not_before = now()');
    };
    expect((await collect('--dry-run')).said).to.include('team/one: 0 manifests, 2 blobs; 2 of them are nowhere else');
    // It would be at work, too.
    await server.stop();
    await age();
    expect((await collect()).said).to.include('condemned  2');
    await age();
    expect((await collect()).said).to.include('removed    0 manifests, 2 blobs');
    expect(await ask(url, 'select from blobs')).to.have.length(0);
    for (const words of [['--all'], ['now'], ['--dry-run', '--what']])
      expect((await collect(...words)).code, words.join(' ')).to.equal(2);
  });

  it('is refused a grace period that is shorter than an upload lives', async () => {
    server = await startServer();
    const { code, said } = await runCommand('collect', { ...server.environment, REGISTRY_COLLECT_GRACE: '60' });
    expect(code).to.equal(2);
    expect(said).to.include('REGISTRY_COLLECT_GRACE must not be less than REGISTRY_UPLOAD_LIFETIME');
  });
});
