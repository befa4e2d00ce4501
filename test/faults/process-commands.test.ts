import { userInfo } from 'node:os';
import { expect } from 'chai';
import { listAudit } from '../../src/metadata/audit-list.js';
import { basic, onDatabase } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import { runCommand } from './support/command.js';
import { until } from './support/processes.js';
import { EmbeddedSite } from './support/embedded.js';

describe('weighhouse on the command line', function () {
  this.timeout(120_000);
  let server: TestServer;
  before(async () => {
    server = await startServer({ environment: { REGISTRY_WORKERS: '2' } });
  });
  after(() => server.dispose());

  const run = async (command: string, ...args: string[]) => {
    const { REGISTRY_DATABASE_URL = '', REGISTRY_DATA_DIR = '' } = server.environment;
    return await runCommand(command, { REGISTRY_DATABASE_URL, REGISTRY_DATA_DIR }, args);
  };
  const status = async (key: string, path = '/v2/') =>
    (await server.request('GET', path, { headers: { authorization: basic(key) } })).status;

  it('makes a key that works at once, lists it without its secret, and revokes it for good', async () => {
    const made = await run('key', 'create', 'ci of team a', '--grant', 'team-a/*=pull,push', '--expires', '90d');
    expect(made.code).to.equal(0);
    expect(made.said).to.match(/^wh_[a-z2-7]{12}_[A-Za-z0-9_-]{32}\n$/);
    const key = made.said.trim();
    const id = key.split('_')[1] ?? '';
    expect(await status(key)).to.equal(200);
    expect(await status(key, '/v2/team-a/model/tags/list')).to.equal(404);
    expect(await status(key, '/v2/team-b/model/tags/list')).to.equal(403);
    const listed = await run('key', 'list');
    expect(listed.said).to.match(new RegExp(`^${id} +active +20\\S+ +\\S+ +team-a/\\*=pull,push +ci of team a$`, 'm'));
    expect(listed.said).not.to.include(key.slice(`wh_${id}_`.length));
    const revoked = await run('key', 'revoke', id);
    expect(revoked).to.deep.equal({ code: 0, said: `revoked ${id}\n` });
    // It returned when that held, in every worker.
    for (let index = 0; index < 20; index++) expect(await status(key)).to.equal(401);
    expect((await run('key', 'revoke', id)).said).to.equal(`${id} was revoked before\n`);
    const json = JSON.parse((await run('key', 'list', '--json')).said) as { id: string; active: boolean }[];
    expect(json.find((row) => row.id === id)).to.include({ active: false });
  });

  it('makes keys of admins and of readers', async () => {
    const admin = (await run('key', 'create', 'boss', '--admin')).said.trim();
    const auditor = (await run('key', 'create', 'auditor', '--admin', '--read-only')).said.trim();
    const push = async (key: string) =>
      (await server.request('POST', '/v2/any/model/blobs/uploads/', { headers: { authorization: basic(key) } })).status;
    expect(await push(admin)).to.equal(202);
    expect(await push(auditor)).to.equal(403);
    expect(await status(auditor, '/v2/any/model/tags/list')).to.equal(200);
  });

  it('makes repositories public and private', async () => {
    const anonymous = async () => (await fetch(`${server.url}/v2/shown/model/tags/list`)).status;
    expect(await anonymous()).to.equal(401);
    expect((await run('visibility', 'public', 'shown/*')).said).to.equal('shown/* is public now\n');
    expect(await anonymous()).to.equal(404);
    expect((await run('visibility', 'private', 'shown/model')).said).to.equal('shown/model is private now\n');
    expect(await anonymous()).to.equal(401);
    expect((await run('visibility', 'list')).said).to.equal('public   shown/*\nprivate  shown/model\n');
    expect((await run('visibility', 'default', 'shown/model')).code).to.equal(0);
    expect(await anonymous()).to.equal(404);
    expect((await run('visibility', 'default', 'shown/model')).said).to.equal('nothing to change\n');
  });

  it('revokes all tokens', async () => {
    const key = (await run('key', 'create', 'x', '--grant', '**=pull')).said.trim();
    const answer = await fetch(`${server.url}/v2/token`, { headers: { authorization: basic(key) } });
    const { token } = (await answer.json()) as { token: string };
    const withToken = async () =>
      (await server.request('GET', '/v2/', { headers: { authorization: `Bearer ${token}` } })).status;
    expect(await withToken()).to.equal(200);
    expect((await run('token', 'revoke-all')).said).to.equal('all tokens are revoked\n');
    expect(await withToken()).to.equal(401);
    expect(await status(key)).to.equal(200);
  });

  it('says in the record what commands changed, from what to what, and by whom', async () => {
    const made = (await run('key', 'create', 'noted', '--grant', 'noted/*=pull', '--read-only')).said.trim();
    const id = made.split('_')[1] ?? '';
    // It may have underscores of its own.
    const secret = made.slice(`wh_${id}_`.length);
    await run('key', 'revoke', id);
    await run('key', 'revoke', id);
    await run('visibility', 'public', 'noted/*');
    await run('visibility', 'private', 'noted/*');
    await run('visibility', 'private', 'noted/*');
    await run('visibility', 'default', 'noted/*');
    await run('token', 'revoke-all');
    const rows = await onDatabase(server, async (database) => {
      const [key, visibility, token] = await Promise.all(
        [{ resourceId: id }, { resourceId: 'noted/*' }, { action: 'token.*' }].map((filters) =>
          listAudit(database, { filters, limit: 10 }),
        ),
      );
      return [...(key?.rows ?? []), ...(visibility?.rows ?? []), ...(token?.rows.slice(0, 1) ?? [])];
    });
    const facts = {
      name: 'noted',
      grants: [{ repository: 'noted/*', actions: ['pull'] }],
      read_only: true,
      expires_at: null,
    };
    const [before, after] = [true, false].map((active) => ({ ...facts, is_active: active }));
    expect(rows.map(({ action, details }) => ({ action, ...details }))).to.deep.equal([
      { action: 'key.revoke', before, after },
      { action: 'key.create', before: null, after: before },
      { action: 'visibility.unset', pattern: 'noted/*', before: 'private', after: null },
      { action: 'visibility.set', pattern: 'noted/*', before: 'public', after: 'private' },
      { action: 'visibility.set', pattern: 'noted/*', before: null, after: 'public' },
      { action: 'token.revoke_all' },
    ]);
    for (const row of rows)
      expect(row).to.include({ actor: 'local', actorName: userInfo().username, ipAddress: '', requestId: '' });
    expect(JSON.stringify(rows)).not.to.include(secret);
    expect(JSON.stringify(rows)).not.to.include('$2b$');
  });

  it('goes through the record, finds an earlier head again, and fails for what was changed', async () => {
    await run('key', 'create', 'sealed', '--admin');
    const isSealed = async () => /^unsealed {2}0$/m.test((await run('audit', 'verify')).said);
    // Each look is a process that has to start.
    await until('the record is sealed', isSealed, 60_000);
    const { code, said } = await run('audit', 'verify');
    expect(code).to.equal(0);
    const [, head = ''] =
      /^rows +[1-9][0-9]*\nseals +[1-9][0-9]*\nunsealed +[0-9]+\nhead +([0-9a-f]{64})\n$/.exec(said) ?? [];
    expect((await run('audit', 'verify', '--head', head.toUpperCase())).code).to.equal(0);
    const other = await run('audit', 'verify', '--head', head.replaceAll(/[0-9]/g, 'a'));
    expect(other.code).to.equal(1);
    expect(other.said).to.include('no seal has the hash');
    await onDatabase(server, (database) =>
      database.transaction(async (transaction) => {
        await transaction.query('alter table audit_logs disable trigger audit_logs_append_only');
        await transaction.query(`update audit_logs set actor_name = 'somebody else' where id = 1`);
        await transaction.query('alter table audit_logs enable trigger audit_logs_append_only');
      }),
    );
    const changed = await run('audit', 'verify');
    expect(changed.code).to.equal(1);
    expect(changed.said).to.match(
      /the audit log is not as it was written: a row between row 1 and row [0-9]+ or their seal/,
    );
  });

  const wrong: [string[], string][] = [
    [['key'], 'weighhouse key create NAME'],
    [['key', 'create'], 'one name is needed'],
    [['key', 'create', 'a', 'b', '--admin'], 'one name is needed'],
    [['key', 'create', 'x'], 'could do nothing'],
    [['key', 'create', 'x', '--grant', 'team'], 'is not PATTERN=ACTIONS'],
    [['key', 'create', 'x', '--grant', 'team/**x=pull'], 'the repository pattern "team/**x"'],
    [['key', 'create', 'x', '--grant', 'Team=pull'], 'the repository pattern "Team"'],
    [['key', 'create', 'x', '--grant', 'team=fly'], '"fly" is none of pull, push, delete, deploy, admin'],
    [['key', 'create', 'x', '--grant', 'team=admin'], 'admin goes only with the repository **'],
    [['key', 'create', 'x', '--admin', '--expires', '2001-01-01'], '--expires 2001-01-01 is not a time to come'],
    [['key', 'create', 'x', '--admin', '--expires', 'soon'], '--expires soon is not a time to come'],
    [['key', 'create', 'x', '--nonsense'], 'nonsense'],
    [['key', 'revoke'], 'an id is needed'],
    [['visibility', 'secret', 'x'], 'weighhouse visibility public PATTERN'],
    [['visibility', 'public', 'UPPER'], 'the repository pattern "UPPER"'],
    [['token'], 'weighhouse token revoke-all'],
    [['audit'], 'weighhouse audit verify'],
    [['audit', 'seal'], 'weighhouse audit verify'],
    [['audit', 'verify', '--head', 'abc'], '--head abc is not a hash of 64 hexadecimal digits'],
  ];
  for (const [line, words] of wrong) {
    it(`answers "weighhouse ${line.join(' ')}" with how it is meant`, async () => {
      const [command = '', ...args] = line;
      const { code, said } = await run(command, ...args);
      expect(code).to.equal(2);
      expect(said).to.include(words);
      expect(said).not.to.include('    at ');
    });
  }

  it('says that a key to be revoked is not there', async () => {
    const { code, said } = await run('key', 'revoke', 'nobody');
    expect(code).to.equal(1);
    expect(said).to.include('nobody: there is no key of this id');
  });

  it('revokes the keys that are there also where one is not, and says so', async () => {
    const key = (await run('key', 'create', 'x', '--grant', '**=pull')).said.trim();
    const id = key.split('_')[1] ?? '';
    const { code, said } = await run('key', 'revoke', 'nobody', id, 'nobody-else');
    expect(code).to.equal(1);
    expect(said).to.include(`revoked ${id}`);
    expect(said).to.include('nobody, nobody-else: there is no key of this id');
    expect(await status(key)).to.equal(401);
  });

  it('prints how it is used', async () => {
    for (const command of ['key', 'visibility', 'token', 'audit']) {
      const { code, said } = await run(command, '--help');
      expect(code).to.equal(0);
      expect(said).to.include(`weighhouse ${command} `);
    }
  });

  it('finds the embedded PostgreSQL of a registry that runs, and starts that of one that does not', async () => {
    const site = await EmbeddedSite.make();
    try {
      const environment = { REGISTRY_DATA_DIR: site.dataDir };
      const before = await runCommand('key', environment, ['create', 'early', '--admin']);
      expect(before.code, before.said).to.equal(0);
      expect(await site.postmaster()).to.equal(undefined);
      const running = await site.start();
      const during = await runCommand('key', environment, ['create', 'late', '--admin']);
      expect(during.code, during.said).to.equal(0);
      for (const key of [before, during]) {
        const headers = { authorization: basic(key.said.trim()) };
        expect((await running.request('GET', '/v2/', { headers })).status).to.equal(200);
      }
      expect(await running.stop()).to.equal(0);
    } finally {
      await site.clear();
    }
  });
});
