import { expect } from 'chai';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { REVOKED_MS } from '../../src/auth/lease.js';
import { api, type ApiOptions } from '../support/api.js';
import { basic, bearer, makeKey, onDatabase } from '../support/keys.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';
import { bytesOf, openUpload, pushBlob } from './content.js';
import { exchange } from './wire.js';

const REPOSITORY = 'keys/model';
const MiB = 1024 * 1024;
/** Connections of which each goes to some worker; enough that every worker has several. */
const CONNECTIONS = 30;
const ADMIN = [{ repository: '**', actions: ['admin'] }];
const PUSH = [{ repository: 'keys/**', actions: ['pull', 'push'] }];
const NOBODY = '00000000-0000-4000-8000-000000000000';

interface Key {
  readonly id: string;
  readonly name: string;
  readonly key_prefix: string;
  readonly grants: unknown;
  readonly is_active: boolean;
  readonly last_used_at: string | null;
  readonly key: string;
}

describe('the keys of the metadata API', function () {
  this.timeout(60_000);
  let server: TestServer;
  let digest: string;

  before(async () => {
    server = await startServer({ environment: { REGISTRY_WORKERS: '3' } });
    digest = await pushBlob(server, REPOSITORY, bytesOf('what keys are for', 32 * MiB));
  });
  after(() => server.dispose());

  const list = async (query = '') =>
    (await api<{ items: Key[]; next: string | null; total?: number }>(server, 'GET', `/api-keys${query}`)).body;
  const create = async (body: object, options: ApiOptions = {}) =>
    await api<Key>(server, 'POST', '/api-keys', { body, ...options });
  const made = async (grants: object = PUSH) => (await create({ name: 'of a test', grants })).body;
  const patch = async (id: string, body: object, options: ApiOptions = {}) =>
    await api<Key>(server, 'PATCH', `/api-keys/${id}`, { body, ...options });
  const remove = async (id: string, options: ApiOptions = {}) =>
    await api(server, 'DELETE', `/api-keys/${id}`, options);
  const statuses = async (authorization: string, method = 'GET', path = '/v2/') => {
    const answers = await Promise.all(
      Array.from({ length: CONNECTIONS }, () => exchange(server.host, method, path, { headers: { authorization } })),
    );
    return [...new Set(answers.map((answer) => answer.status))];
  };
  const issuesOf = (body: object) => (body as { detail: { loc: unknown[]; type: string }[] }).detail;
  const recorded = async (prefix: string) => {
    const rows = await onDatabase(server, (database) =>
      database.query<{ action: string; actor: string; details: object }>(
        `select action, actor, details from audit_logs where resource_type = 'key' and resource_id = $1 order by id`,
        [prefix],
      ),
    );
    return rows;
  };

  it('are made with a text that is shown once, and that lets in', async () => {
    const answer = await create({ name: 'of a pipeline', grants: PUSH, read_only: true, expires_at: null });
    expect(answer.status).to.equal(201);
    expect(answer.headers.get('cache-control')).to.equal('no-store');
    const { key, id, key_prefix: prefix } = answer.body;
    expect(key).to.match(new RegExp(`^wh_${prefix}_.{32}$`));
    expect(answer.body).to.deep.include({ name: 'of a pipeline', grants: PUSH, read_only: true, is_active: true });
    expect(await statuses(basic(key))).to.deep.equal([200]);
    const listed = await list('?limit=1');
    expect(listed.items.map((item) => item.id)).to.deep.equal([id]);
    expect(JSON.stringify(await list())).not.to.include(key.slice(-32));
    const rows = await recorded(prefix);
    expect(rows.map(({ action, actor }) => [action, actor])).to.deep.equal([['key.create', 'admin']]);
    expect(JSON.stringify(rows)).not.to.include(key.slice(-32));
  });

  it('are made once for an Idempotency-Key, and the text is not said again', async () => {
    const body = { name: 'once', grants: [] };
    const headers = { 'idempotency-key': 'a-key-once' };
    const answers = await Promise.all([1, 2, 3].map(async () => await create(body, { headers })));
    answers.push(await create(body, { headers }));
    expect(answers.map(({ status }) => status)).to.deep.equal([201, 201, 201, 201]);
    expect(new Set(answers.map((answer) => answer.body.id)).size).to.equal(1);
    expect(answers.filter((answer) => answer.body.key !== null)).to.have.length(1);
    expect((await list('?q=once&total=true')).total).to.equal(1);
    const other = await create({ ...body, name: 'twice' }, { headers });
    expect(other.status).to.equal(422);
    expect(issuesOf(other.body)[0]?.loc).to.deep.equal(['header', 'Idempotency-Key']);
    const kept = await onDatabase(server, (database) =>
      database.query<{ response: unknown }>(`select response from idempotency_keys where key = 'a-key-once'`),
    );
    expect(JSON.stringify(kept))
      .to.include('"key":null')
      .and.not.match(/wh_[a-z2-7]{12}_/);
  });

  for (const [what, body, loc, type] of [
    ['no name', { grants: [] }, ['body', 'name'], 'missing'],
    ['an empty name', { name: '', grants: [] }, ['body', 'name'], 'string_too_short'],
    ['no grants', { name: 'x' }, ['body', 'grants'], 'missing'],
    [
      'a pattern that is none',
      { name: 'x', grants: [{ repository: 'a**b', actions: ['pull'] }] },
      ['body', 'grants', 0, 'repository'],
      'string_pattern_mismatch',
    ],
    [
      'an unknown action',
      { name: 'x', grants: [{ repository: 'a', actions: ['fly'] }] },
      ['body', 'grants', 0, 'actions', 0],
      'enum',
    ],
    [
      'a time that is over',
      { name: 'x', grants: [], expires_at: '2020-01-01T00:00:00Z' },
      ['body', 'expires_at'],
      'value_error',
    ],
    ['a field that there is not', { name: 'x', grants: [], secret: 'mine' }, ['body', 'secret'], 'extra_forbidden'],
  ] as const)
    it(`are not made with ${what}`, async () => {
      const answer = await create(body);
      expect(answer.status).to.equal(422);
      expect(issuesOf(answer.body).map((issue) => [issue.loc, issue.type])).to.deep.include([loc, type]);
    });

  it('that give everything in one repository alone are refused, with the place', async () => {
    const answer = await create({ name: 'x', grants: [PUSH[0], { repository: 'keys/*', actions: ['admin'] }] });
    expect(answer.status).to.equal(422);
    expect(issuesOf(answer.body)[0]?.loc.slice(0, 3)).to.deep.equal(['body', 'grants', 1]);
  });

  it('are a matter for admins, and for read-only ones to look at', async () => {
    const { id } = await made();
    const reader = await makeKey(server, ['**=pull,push,delete,deploy']);
    const looker = await makeKey(server, ['**=admin'], { readOnly: true });
    const body = { name: 'x', grants: [] };
    const all = async (options: ApiOptions) => [
      await api(server, 'GET', '/api-keys', options),
      await create(body, options),
      await patch(id, { name: 'y' }, options),
      await remove(id, options),
      // What is not there is not told apart.
      await patch(NOBODY, { name: 'y' }, options),
    ];
    const answered = async (options: ApiOptions) => (await all(options)).map(({ status }) => status);
    expect(await answered({ key: reader.text })).to.deep.equal([403, 403, 403, 403, 403]);
    expect(await answered({ key: looker.text })).to.deep.equal([200, 403, 403, 403, 403]);
    for (const { status, body: said } of await all({ key: null }))
      expect([status, said]).to.deep.equal([401, { detail: 'Missing API key' }]);
    const token = await bearer(server, basic(ADMIN_KEY), REPOSITORY, 'catalog');
    for (const { status, body: said } of await all({ key: null, headers: { authorization: token } }))
      expect([status, said]).to.deep.equal([401, { detail: 'Invalid API key' }]);
  });

  it('that are not there can not be changed, nor what is no id', async () => {
    for (const id of [NOBODY, 'admin', '%00', 'x'.repeat(300)]) {
      expect((await patch(id, { name: 'x' })).status, id).to.equal(404);
      expect((await remove(id)).status, id).to.equal(404);
    }
  });

  it('are changed only by whom has seen them as they are', async () => {
    const created = await create({ name: 'seen', grants: [] });
    const { id, key } = created.body;
    const etag = created.headers.get('etag') ?? '';
    // Its use, which the registry notes, is no change.
    expect(await statuses(basic(key))).to.deep.equal([200]);
    await onDatabase(server, (database) =>
      database.query('update api_keys set last_used_at = now() where id = $1', [id]),
    );
    const renamed = await patch(id, { name: 'seen again' }, { headers: { 'if-match': etag } });
    expect(renamed.status).to.equal(200);
    expect(renamed.headers.get('etag')).not.to.equal(etag);
    expect((await patch(id, { name: 'lost' }, { headers: { 'if-match': etag } })).status).to.equal(412);
    expect((await remove(id, { headers: { 'if-match': etag } })).status).to.equal(412);
    const last = renamed.headers.get('etag') ?? '';
    expect((await remove(id, { headers: { 'if-match': last } })).status).to.equal(204);
  });

  it('take back what was read of them, and name what can’t be changed', async () => {
    const { key: _, ...read } = await made();
    const same = await patch(read.id, { ...read, last_used_at: '2026-01-01T00:00:00.000Z' });
    expect(same.status).to.equal(200);
    expect(same.body).to.deep.equal(read);
    const other = await patch(read.id, { id: NOBODY, key_prefix: 'mine', created_at: '2020-01-01T00:00:00.000Z' });
    expect(other.status).to.equal(422);
    expect(issuesOf(other.body).map(({ loc }) => loc[1])).to.have.members(['id', 'key_prefix', 'created_at']);
    expect((await patch(read.id, { key_hash: 'x' })).status).to.equal(422);
    expect((await recorded(read.key_prefix)).map(({ action }) => action)).to.deep.equal(['key.create']);
  });

  it('that have expired keep their end or get a later one', async () => {
    const { id } = await made();
    const over = '2026-01-01T00:00:00.000Z';
    await onDatabase(server, (database) =>
      database.query('update api_keys set expires_at = $2 where id = $1', [id, over]),
    );
    expect((await patch(id, { name: 'over', expires_at: over })).status).to.equal(200);
    expect((await patch(id, { expires_at: '2026-01-02T00:00:00Z' })).status).to.equal(422);
    expect((await patch(id, { expires_at: '2099-01-01T00:00:00+02:00' })).body).to.include({
      expires_at: '2098-12-31T22:00:00.000Z',
    });
  });

  it('lose a grant everywhere before it is said to be done, and get it back so', async () => {
    const { id, key, key_prefix: prefix } = await made();
    const target = `/v2/${REPOSITORY}/blobs/uploads/`;
    expect(await statuses(basic(key), 'POST', target)).to.deep.equal([202]);
    const begun = performance.now();
    const narrowed = await patch(id, { grants: [{ repository: 'keys/**', actions: ['pull'] }] });
    expect(narrowed.status).to.equal(200);
    // Also where a notification is lost, on another node.
    expect(performance.now() - begun).to.be.at.least(REVOKED_MS);
    expect(await statuses(basic(key), 'POST', target)).to.deep.equal([403]);
    await patch(id, { grants: PUSH });
    expect(await statuses(basic(key), 'POST', target)).to.deep.equal([202]);
    await patch(id, { read_only: true });
    expect(await statuses(basic(key), 'POST', target)).to.deep.equal([403]);
    const rows = await recorded(prefix);
    expect(rows.map(({ action }) => action)).to.deep.equal(['key.create', 'key.update', 'key.update', 'key.update']);
    expect(rows[1]?.details).to.have.nested.property('after.grants[0].actions').that.deep.equals(['pull']);
  });

  /** A download that is not read yet. */
  async function slowDownload(key: string): Promise<IncomingMessage> {
    const [hostname, port] = server.host.split(':');
    const path = `/v2/${REPOSITORY}/blobs/${digest}`;
    const outgoing = request({ hostname, port, path, headers: { authorization: basic(key) }, agent: false }).end();
    const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
    return incoming.on('error', () => undefined);
  }

  for (const [what, end, action] of [
    ['deactivated', async (id: string) => (await patch(id, { is_active: false })).status, 'key.revoke'],
    ['removed', async (id: string) => (await remove(id)).status, 'key.delete'],
  ] as const)
    it(`are ended everywhere when they are said to be ${what}: tokens, requests and uploads, too`, async () => {
      const { id, key, key_prefix: prefix } = await made();
      const token = await bearer(server, basic(key), REPOSITORY);
      expect(await statuses(token)).to.deep.equal([200]);
      const opened = await exchange(server.host, 'POST', `/v2/${REPOSITORY}/blobs/uploads/`, {
        headers: { authorization: basic(key) },
      });
      const location = opened.headers.location ?? '';
      const other = await openUpload(server, REPOSITORY);
      const download = await slowDownload(key);
      const closed = new Promise((resolve) => download.once('close', resolve));
      const begun = performance.now();
      expect(await end(id)).to.be.oneOf([200, 204]);
      expect(performance.now() - begun).to.be.at.least(REVOKED_MS);
      expect(await statuses(basic(key))).to.deep.equal([401]);
      expect(await statuses(token)).to.deep.equal([401]);
      expect((await api(server, 'GET', '/models', { key })).body).to.deep.equal({ detail: 'Invalid API key' });
      expect((await server.request('GET', location)).status).to.equal(404);
      expect((await server.request('GET', other)).status).to.equal(204);
      download.resume();
      await closed;
      expect(download.complete).to.equal(false);
      expect((await recorded(prefix)).map((row) => row.action)).to.deep.equal(['key.create', action]);
    });

  it('that are active again let in again', async () => {
    const { id, key } = await made();
    await patch(id, { is_active: false });
    expect((await list('?is_active=false')).items.map((item) => item.id)).to.include(id);
    expect((await list('?is_active=true')).items.map((item) => item.id)).not.to.include(id);
    await patch(id, { is_active: true });
    expect(await statuses(basic(key))).to.deep.equal([200]);
  });

  it('that are removed are gone from the list, and twice is once too often', async () => {
    const { id } = await made();
    expect((await remove(id)).status).to.equal(204);
    expect((await list()).items.map((item) => item.id)).not.to.include(id);
    expect((await remove(id)).status).to.equal(404);
  });

  it('that end themselves are told so before they have ended', async () => {
    for (const end of ['remove', 'patch'] as const) {
      const { id, key } = await made(ADMIN);
      const answer = end === 'remove' ? await remove(id, { key }) : await patch(id, { is_active: false }, { key });
      expect(answer.status).to.equal(end === 'remove' ? 204 : 200);
      expect(await statuses(basic(key))).to.deep.equal([401]);
    }
  });

  it('are said to be changed at once where no right of them is', async () => {
    const { id } = await made();
    // The quickest of some: the machine may take its time for one, a wait would be in each.
    const times: number[] = [];
    for (const name of ['renamed', 'and again', 'and once more']) {
      const begun = performance.now();
      expect((await patch(id, { name })).body.name).to.equal(name);
      times.push(performance.now() - begun);
    }
    expect(Math.min(...times)).to.be.below(REVOKED_MS);
  });

  it('can’t be without an admin, and the one that the start makes can’t be removed', async () => {
    const alone = await startServer();
    try {
      const { items } = (await api<{ items: Key[] }>(alone, 'GET', '/api-keys')).body;
      const [first] = items;
      expect(items.map((key) => key.key_prefix)).to.deep.equal(['admin']);
      const path = `/api-keys/${first?.id}`;
      for (const body of [{ is_active: false }, { grants: PUSH }, { read_only: true }]) {
        const refused = await api(alone, 'PATCH', path, { body });
        expect(refused.status).to.equal(409);
        expect(refused.body.conflicts).to.deep.equal([{ type: 'api-key', id: first?.id, name: 'REGISTRY_ADMIN_KEY' }]);
      }
      const second = await api<Key>(alone, 'POST', '/api-keys', { body: { name: 'second', grants: ADMIN } });
      expect((await api(alone, 'DELETE', path)).status).to.equal(409);
      expect((await api(alone, 'PATCH', path, { body: { is_active: false } })).status).to.equal(200);
      const { key } = second.body;
      expect((await api(alone, 'DELETE', `/api-keys/${second.body.id}`, { key })).status).to.equal(409);
      // What the operator has set does not come back by a start.
      await alone.stop();
      await alone.start();
      expect((await api(alone, 'GET', '/api-keys')).status).to.equal(401);
      expect((await api(alone, 'GET', '/api-keys', { key })).status).to.equal(200);
    } finally {
      await alone.dispose();
    }
  });

  it('can’t be removed by whatever id the operator gave the one that the start makes', async () => {
    const key = 'wh_ops_chosen-by-the-operator';
    const chosen = await startServer({ environment: { REGISTRY_ADMIN_KEY: key } });
    try {
      const own = (await api<{ items: Key[] }>(chosen, 'GET', '/api-keys', { key })).body.items[0];
      expect(own?.key_prefix).to.equal('ops');
      const second = await api<Key>(chosen, 'POST', '/api-keys', { key, body: { name: 'second', grants: ADMIN } });
      const refused = await api(chosen, 'DELETE', `/api-keys/${own?.id}`, { key: second.body.key });
      expect(refused.status).to.equal(409);
    } finally {
      await chosen.dispose();
    }
  });
});
