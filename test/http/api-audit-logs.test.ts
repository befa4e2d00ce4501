import { expect } from 'chai';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { api, type ApiOptions } from '../support/api.js';
import { memoryOf, until } from '../faults/support/processes.js';
import { basic, makeKey, onDatabase } from '../support/keys.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';
import { pushImage } from './content.js';

interface Row {
  readonly id: number;
  readonly actor: string;
  readonly action: string;
  readonly resource_type: string;
  readonly resource_id: string;
  readonly repository: string | null;
  readonly created_at: string;
}
interface Page {
  readonly items: Row[];
  readonly next: string | null;
  readonly total?: number;
}

const ROWS = 20_000;
const MANY = 'many/rows';

describe('the record by the metadata API', function () {
  this.timeout(60_000);
  let server: TestServer;

  before(async () => {
    server = await startServer();
    await pushImage(server, 'record/model', 'v1.0-fp16');
    for (const name of ['other', 'another'])
      await api(server, 'POST', '/models', { body: { name, storage_path: `record/${name}` } });
    // As many as a registry writes in a busy week; their texts are long, so that a stream of them does not fit any buffer.
    await onDatabase(server, (database) =>
      database.query(
        `insert into audit_logs (actor, actor_name, action, resource_type, resource_id, repository, details, ip_address,
                                 user_agent, request_id, created_at)
         select 'somebody', 'Some Body', 'many.write', 'many', n::text, $1, jsonb_build_object('text', repeat('ä', 1000)),
                '192.0.2.1', 'a "quoted" agent', 'r' || n, now() - interval '1 day' - make_interval(secs => n / 7)
           from generate_series(1, $2::int) as n`,
        [MANY, ROWS],
      ),
    );
  });
  after(() => server.dispose());

  const list = async (query = '', options: ApiOptions = {}) =>
    await api<Page>(server, 'GET', `/audit-logs${query}`, options);
  const idsOf = (page: Page) => page.items.map(({ id }) => id);

  it('has every fact of what was done, the newest first', async () => {
    const { status, body } = await list('?action=model.create&repository=record/other');
    expect(status).to.equal(200);
    const [row] = body.items;
    expect(row).to.deep.include({ actor: 'admin', actor_name: 'REGISTRY_ADMIN_KEY', ip_address: '127.0.0.1' });
    expect(row).to.include({ action: 'model.create', resource_type: 'model', repository: 'record/other' });
    const { items } = (await list('?limit=1000')).body;
    const sorted = [...items].sort((one, other) => other.created_at.localeCompare(one.created_at) || other.id - one.id);
    expect(items.map(({ id }) => id)).to.deep.equal(sorted.map(({ id }) => id));
  });

  it('is read by pages without a gap, and counted if asked', async () => {
    const seen: number[] = [];
    for (let query = `?repository=${MANY}&limit=900&total=true`; ; ) {
      const { body, headers } = await list(query);
      expect(body.total).to.equal(ROWS);
      seen.push(...idsOf(body));
      if (body.next === null) {
        expect(headers.get('link')).to.equal(null);
        break;
      }
      const link = /^<(\/api\/v1\/audit-logs\?.+)>; rel="next"$/.exec(headers.get('link') ?? '')?.[1] ?? '';
      query = link.slice(link.indexOf('?'));
      expect(new URLSearchParams(query).get('cursor')).to.equal(body.next);
    }
    expect(seen).to.have.length(ROWS);
    expect(new Set(seen).size).to.equal(ROWS);
    expect((await list()).body).not.to.have.property('total');
  });

  it('is filtered by who, what, on what, where and when, by all of them at once', async () => {
    const [newest] = (await list(`?repository=${MANY}&limit=1`)).body.items;
    const at = newest?.created_at ?? '';
    for (const [query, fits] of [
      ['actor=somebody', (row: Row) => row.actor === 'somebody'],
      ['action=many.write', (row: Row) => row.action === 'many.write'],
      ['action=model.*', (row: Row) => row.action.startsWith('model.')],
      ['resource_type=manifest', (row: Row) => row.resource_type === 'manifest'],
      ['resource_id=77', (row: Row) => row.resource_id === '77'],
      ['repository=record/model', (row: Row) => row.repository === 'record/model'],
      [`since=${encodeURIComponent(at)}`, (row: Row) => row.created_at >= at],
      [
        `until=${encodeURIComponent(at)}&actor=somebody`,
        (row: Row) => row.created_at <= at && row.actor === 'somebody',
      ],
      [`actor=somebody&action=many.*&resource_id=8&repository=${MANY}`, (row: Row) => row.resource_id === '8'],
    ] as const) {
      const { items, total } = (await list(`?${query}&total=true&limit=1000`)).body;
      expect(items, query).not.to.have.length(0);
      expect(items.every(fits), query).to.equal(true);
      expect(total, query).to.be.at.least(items.length);
    }
    for (const query of [
      'actor=nobody',
      'action=nothing.*',
      'since=2099-01-01T00:00:00Z',
      'actor=admin&action=many.write',
    ])
      expect((await list(`?${query}&total=true`)).body, query).to.deep.equal({ items: [], next: null, total: 0 });
  });

  it('is for admins alone, also those who may only read', async () => {
    const reader = await makeKey(server, ['**=pull,push,delete,deploy']);
    const looker = await makeKey(server, ['**=admin'], { readOnly: true });
    for (const query of ['', '?format=ndjson']) {
      expect((await list(query, { key: reader.text })).status).to.equal(403);
      expect((await list(query, { key: looker.text })).status).to.equal(200);
      const missing = await list(query, { key: null });
      expect([missing.status, missing.body]).to.deep.equal([401, { detail: 'Missing API key' }]);
    }
  });

  it('refuses filters that are none, and the cursor of another list', async () => {
    const models = await api<Page>(server, 'GET', '/models?limit=1');
    expect(models.body.next).to.be.a('string');
    for (const [query, name] of [
      ['limit=0', 'limit'],
      ['limit=1001', 'limit'],
      ['since=yesterday', 'since'],
      ['action=DROP', 'action'],
      ['format=csv', 'format'],
      ['actors=admin', 'actors'],
      [`cursor=${models.body.next}`, 'cursor'],
      [`cursor=${Buffer.from('["-created_at","2026-02-30T00:00:00Z","1"]').toString('base64url')}`, 'cursor'],
      ['cursor=AAAA', 'cursor'],
      ['cursor=AAAA&format=ndjson', 'cursor'],
    ] as const) {
      const { status, body } = await list(`?${query}`);
      expect(status, query).to.equal(422);
      expect((body as unknown as { detail: { loc: unknown }[] }).detail[0]?.loc, query).to.deep.equal(['query', name]);
    }
  });

  it('streams all that match, a line each', async () => {
    const { status, headers, bytes } = await list(`?format=ndjson&repository=${MANY}&limit=1`);
    expect(status).to.equal(200);
    expect(headers.get('content-type')).to.equal('application/x-ndjson');
    const lines = bytes.toString('utf8').split('\n');
    expect(lines.pop()).to.equal('');
    const rows = lines.map((line) => JSON.parse(line) as Row);
    expect(rows.map(({ resource_id: id }) => Number(id)).sort((one, other) => one - other)).to.deep.equal(
      Array.from({ length: ROWS }, (_, index) => index + 1),
    );
    const { items, next } = (await list(`?repository=${MANY}&limit=1000`)).body;
    expect(rows.slice(0, 1000)).to.deep.equal(items);
    const rest = await list(`?format=ndjson&repository=${MANY}&cursor=${next}`);
    expect(rest.bytes.toString('utf8').split('\n').length - 1).to.equal(ROWS - 1000);
    const none = await list('?format=ndjson&actor=nobody');
    expect([none.status, none.bytes.length]).to.deep.equal([200, 0]);
    const head = await api(server, 'HEAD', '/audit-logs?format=ndjson');
    expect([head.status, head.headers.get('content-type')]).to.deep.equal([200, 'application/x-ndjson']);
  });

  /** A stream of which nothing is read yet. */
  async function slowStream(key = ADMIN_KEY): Promise<IncomingMessage> {
    const [hostname, port] = server.host.split(':');
    const path = '/api/v1/audit-logs?format=ndjson';
    const outgoing = request({ hostname, port, path, headers: { authorization: basic(key) }, agent: false }).end();
    const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
    return incoming.on('error', () => undefined);
  }

  it('streams no faster than it is read, and needs no connection of PostgreSQL while it waits', async () => {
    const workers = await server.workers();
    const before = (await Promise.all(workers.map(memoryOf))).reduce((sum, { rss }) => sum + rss, 0);
    const streams = await Promise.all(Array.from({ length: 12 }, async () => await slowStream()));
    // More of them than there are connections, and others are answered.
    expect((await list('?limit=1')).status).to.equal(200);
    const after = (await Promise.all(workers.map(memoryOf))).reduce((sum, { rss }) => sum + rss, 0);
    // Twelve of 45 MB each, of which each may hold a page or two.
    expect(after - before, 'MiB').to.be.below(250);
    for (const stream of streams) stream.destroy();
    expect((await list('?limit=1')).status).to.equal(200);
    const failed = (await server.log()).split('\n').filter((line) => line.includes('a request failed'));
    expect(failed).to.deep.equal([]);
  });

  it('breaks a stream off when its key ends, so that nobody takes a part for the whole', async () => {
    const { text, id } = await makeKey(server, ['**=admin']);
    const stream = await slowStream(text);
    const closed = new Promise((resolve) => stream.once('close', resolve));
    await onDatabase(server, (database) => database.query('delete from api_keys where key_prefix = $1', [id]));
    await until('the stream is broken off', async () => {
      const log = await server.log();
      return log.includes(`"actor":"${id}","requests":1`);
    });
    stream.resume();
    await closed;
    expect(stream.complete).to.equal(false);
  });

  it('breaks a stream off when the rows can not be read any more', async () => {
    const stream = await slowStream();
    const closed = new Promise((resolve) => stream.once('close', resolve));
    await onDatabase(server, (database) => database.query('alter table audit_logs rename to audit_logs_away'));
    try {
      stream.resume();
      await closed;
      expect(stream.complete).to.equal(false);
    } finally {
      await onDatabase(server, (database) => database.query('alter table audit_logs_away rename to audit_logs'));
    }
  });
});
