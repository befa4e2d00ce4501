import { expect } from 'chai';
import { makeKey, onDatabase } from '../support/keys.js';
import type { TestServer } from '../support/server.js';
import { allPages, type Ask, asker, faultsOf, type Resource, told } from './api-scene.js';
import { sharedServer } from './shared-server.js';

const NOBODY = '00000000-0000-4000-8000-000000000000';

describe('policies', function () {
  this.timeout(60_000);
  let server: TestServer;
  let ask: Ask;

  before(async () => {
    server = await sharedServer();
    ask = asker(server);
  });

  const recorded = async (id: string) =>
    await onDatabase(server, (database) =>
      database.query<{ action: string; actor: string; details: Resource }>(
        `select action, actor, details from audit_logs where resource_type = 'policy' and resource_id = $1 order by id`,
        [id],
      ),
    );

  it('are made, read, changed and removed, and all of it is written down', async () => {
    const answer = await ask('POST', '/policies', { pattern: 'crud/**' });
    const made = await told(Promise.resolve(answer), 201);
    expect(answer.headers.get('location')).to.equal(`/api/v1/policies/${made.id}`);
    expect(made).to.deep.include({ untagged: null, protected_tags: [], quota_bytes: null, created_by: 'admin' });
    expect(await told(ask('GET', `/policies/${made.id}`))).to.deep.equal(made);

    for (const [said, wanted] of [
      [{ untagged: { days: 7 } }, { untagged: { days: 7 }, protected_tags: [], quota_bytes: null }],
      [
        { untagged: { days: 0 }, quota_bytes: 9007199254740991 },
        { untagged: { days: 0 }, quota_bytes: 9007199254740991 },
      ],
      [{ untagged: { keep: true } }, { untagged: { keep: true }, quota_bytes: 9007199254740991 }],
      [{ protected_tags: ['v*', 'prod', 'v*'] }, { untagged: { keep: true }, protected_tags: ['v*', 'prod'] }],
      [
        { untagged: null, protected_tags: [], quota_bytes: null },
        { untagged: null, protected_tags: [], quota_bytes: null },
      ],
    ] as const) {
      const changed = await told(ask('PATCH', `/policies/${made.id}`, said));
      expect(changed).to.deep.include(wanted);
      expect(await told(ask('GET', `/policies/${made.id}`))).to.deep.equal(changed);
    }
    const now = await told(ask('GET', `/policies/${made.id}`));
    // As it is: nothing changes, and nothing is written down.
    expect(await told(ask('PATCH', `/policies/${made.id}`, now))).to.deep.equal(now);
    expect((await ask('DELETE', `/policies/${made.id}`)).status).to.equal(204);
    await told(ask('GET', `/policies/${made.id}`), 404);

    const rows = await recorded(made.id as string);
    expect(rows.map(({ action }) => action)).to.deep.equal([
      'policy.create',
      ...Array.from({ length: 5 }, () => 'policy.update'),
      'policy.delete',
    ]);
    expect(rows[0]?.details).to.deep.equal({
      before: null,
      after: { pattern: 'crud/**', untagged: null, retention: null, protected_tags: [], quota_bytes: null },
    });
    expect(rows[1]?.details).to.deep.include({
      after: { pattern: 'crud/**', untagged: { days: 7 }, retention: null, protected_tags: [], quota_bytes: null },
    });
    expect(rows.at(-1)?.details.after).to.equal(null);
    expect(new Set(rows.map(({ actor }) => actor))).to.deep.equal(new Set(['admin']));
  });

  it('are one for each pattern, also of those who come at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => ask('POST', '/policies', { pattern: 'one/for/each' })),
    );
    expect(answers.map(({ status }) => status).sort()).to.deep.equal([201, 409, 409, 409, 409]);
    await told(ask('POST', '/policies', { pattern: 'one/for/each', quota_bytes: 1 }), 409);
  });

  it('are made once for an Idempotency-Key', async () => {
    const options = { headers: { 'idempotency-key': 'policy-once' } };
    const first = await told(ask('POST', '/policies', { pattern: 'once/*' }, options), 201);
    expect(await told(ask('POST', '/policies', { pattern: 'once/*' }, options), 201)).to.deep.equal(first);
    expect(await recorded(first.id as string)).to.have.length(1);
  });

  it('are refused with every field that is wrong', async () => {
    for (const [body, faults] of [
      [{}, ['body.pattern']],
      [{ pattern: 'A/b' }, ['body.pattern']],
      [{ pattern: 'a/***' }, ['body.pattern']],
      [{ pattern: 'a//b' }, ['body.pattern']],
      [{ pattern: 'x'.repeat(256) }, ['body.pattern']],
      [{ pattern: 'a', quota_bytes: -1 }, ['body.quota_bytes']],
      [{ pattern: 'a', quota_bytes: 1.5 }, ['body.quota_bytes']],
      [{ pattern: 'a', quota_bytes: 9007199254740992 }, ['body.quota_bytes']],
      [{ pattern: 'a', quota_bytes: '5' }, ['body.quota_bytes']],
      [{ pattern: 'a', protected_tags: ['a b'] }, ['body.protected_tags.0']],
      [{ pattern: 'a', protected_tags: ['ok', ''] }, ['body.protected_tags.1']],
      [{ pattern: 'a', protected_tags: 'v*' }, ['body.protected_tags']],
      [
        { pattern: 'a', protected_tags: Array.from({ length: 101 }, (_, index) => `t${index}`) },
        ['body.protected_tags'],
      ],
      [{ pattern: 'A', quota_bytes: -1 }, ['body.pattern', 'body.quota_bytes']],
      [{ pattern: 'a', untagged: {} }, ['body.untagged']],
      [{ pattern: 'a', untagged: { days: -1 } }, ['body.untagged.days']],
      [{ pattern: 'a', untagged: { days: 1, keep: true } }, ['body.untagged']],
      [{ pattern: 'a', retention: {} }, ['body.retention']],
      [{ pattern: 'a', retention: { last: 0, tags: [] } }, ['body.retention.last', 'body.retention.tags']],
      [{ pattern: 'a', retention: { last: 1, keep: true } }, ['body.retention']],
    ] as const)
      expect(await faultsOf(ask('POST', '/policies', body)), JSON.stringify(body)).to.deep.equal(faults);
    for (const untagged of [
      {},
      { keep: false },
      { days: -1 },
      { days: 1.5 },
      { days: 36_501 },
      { keep: true, days: 1 },
      7,
    ]) {
      const faults = await faultsOf(ask('POST', '/policies', { pattern: 'a', untagged }));
      expect(
        faults.every((fault) => fault.startsWith('body.untagged')),
        `${JSON.stringify(untagged)} ${faults}`,
      ).to.equal(true);
    }
    const { items } = await told(ask('GET', '/policies?limit=1000'));
    expect((items as Resource[]).filter(({ pattern }) => pattern === 'a')).to.deep.equal([]);
  });

  it('keep their pattern, and change only what was seen', async () => {
    const made = await told(ask('POST', '/policies', { pattern: 'seen/*', quota_bytes: 5 }), 201);
    const path = `/policies/${made.id}`;
    expect(await faultsOf(ask('PATCH', path, { pattern: 'other/*' }))).to.deep.equal(['body.pattern']);
    expect(await faultsOf(ask('PATCH', path, { id: NOBODY }))).to.deep.equal(['body.id']);
    const etag = (await ask('GET', path)).headers.get('etag') ?? '';
    await told(ask('PATCH', path, { quota_bytes: 6 }, { headers: { 'if-match': etag } }));
    for (const method of ['PATCH', 'DELETE'])
      await told(ask(method, path, method === 'PATCH' ? {} : undefined, { headers: { 'if-match': etag } }), 412);
    expect(await told(ask('GET', path))).to.include({ quota_bytes: 6 });
    for (const method of ['GET', 'PATCH', 'DELETE'])
      await told(ask(method, `/policies/${NOBODY}`, method === 'PATCH' ? {} : undefined), 404);
  });

  it('are listed by pages, in the order of their patterns', async () => {
    for (const pattern of ['list/c', 'list/a*', 'list/b']) await told(ask('POST', '/policies', { pattern }), 201);
    const patterns = async (query: string) =>
      (await allPages(ask, `/policies${query}`)).map(({ pattern }) => pattern as string);
    const all = await patterns('');
    expect(all)
      .to.include.members(['list/a*', 'list/b', 'list/c'])
      .and.to.deep.equal([...all].sort());
    expect(await patterns('?sort=-pattern')).to.deep.equal([...all].reverse());
    expect((await patterns('?sort=-created_at')).slice(0, 3)).to.deep.equal(['list/b', 'list/a*', 'list/c']);
    await told(ask('GET', '/policies?sort=quota_bytes'), 422);
    await told(ask('GET', '/policies?cursor=abc'), 422);
  });

  it("are an admin's alone, and read by one who may only read", async () => {
    const made = await told(ask('POST', '/policies', { pattern: 'rights/*' }), 201);
    const { text: writer } = await makeKey(server, ['**=pull,push,delete,deploy']);
    const { text: reader } = await makeKey(server, ['**=admin'], { readOnly: true });
    const statuses = async (key: string) => [
      (await ask('GET', '/policies', undefined, { key })).status,
      (await ask('GET', `/policies/${made.id}`, undefined, { key })).status,
      (await ask('POST', '/policies', { pattern: 'rights/**' }, { key })).status,
      (await ask('PATCH', `/policies/${made.id}`, { quota_bytes: 1 }, { key })).status,
      (await ask('DELETE', `/policies/${made.id}`, undefined, { key })).status,
    ];
    expect(await statuses(writer)).to.deep.equal([403, 403, 403, 403, 403]);
    expect(await statuses(reader)).to.deep.equal([200, 200, 403, 403, 403]);
    expect(await told(ask('GET', `/policies/${made.id}`))).to.deep.equal(made);
  });
});
