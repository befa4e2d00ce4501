import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { api } from '../support/api.js';
import { makeKey } from '../support/keys.js';
import { startServer, type TestServer } from '../support/server.js';
import { sharedServer } from './shared-server.js';
import { head, Wire } from './wire.js';

/** What a path is answered, by its JSON. */
async function ask(server: TestServer, path: string, options?: RequestInit) {
  const answer = await server.request('GET', path, options);
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

describe('the pages of the contract', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  const PARTS = ['docs.js', 'swagger-ui.css', 'swagger-ui-bundle.js', 'favicon-32x32.png'].map(
    (name) => `/api/docs/${name}`,
  );

  it('need no key, and are of their types', async () => {
    for (const [path, type] of [
      ['/api/docs', 'text/html; charset=utf-8'],
      ['/api/openapi.json', 'application/json'],
      ['/api/openapi.yaml', 'application/yaml'],
      ['/api/docs/docs.js', 'text/javascript; charset=utf-8'],
      ['/api/docs/swagger-ui.css', 'text/css; charset=utf-8'],
    ]) {
      const answer = await fetch(new URL(path ?? '', server.url));
      expect(answer.status, path).to.equal(200);
      expect(answer.headers.get('content-type'), path).to.equal(type);
      await answer.arrayBuffer();
    }
  });

  it('give the document whole, as JSON without references to what is not in it', async () => {
    const { text } = await ask(server, '/api/openapi.json');
    const document = JSON.parse(text) as { openapi: string; paths: object };
    expect(document.openapi).to.equal('3.1.0');
    expect(Object.keys(document.paths).length).to.be.greaterThan(25);
    expect(text).not.to.include('x-shared');
  });

  it('forbid other origins, scripts in the page, and frames', async () => {
    for (const path of ['/api/docs', ...PARTS]) {
      const policy = (await ask(server, path)).headers.get('content-security-policy') ?? '';
      const said = new Map(policy.split('; ').map((part): [string, string] => [part.split(' ')[0] ?? '', part]));
      expect(said.get('default-src'), path).to.equal("default-src 'none'");
      expect(said.get('script-src'), path).to.equal("script-src 'self'");
      expect(said.get('connect-src'), path).to.equal("connect-src 'self'");
      expect(said.get('frame-ancestors'), path).to.equal("frame-ancestors 'none'");
      expect(policy, path).not.to.match(/https?:|\*/);
    }
  });

  it('ask for nothing but their own parts, which are there', async () => {
    const { text } = await ask(server, '/api/docs');
    const parts = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path ?? '');
    expect(parts).to.have.members(PARTS);
    for (const path of parts) expect((await ask(server, path)).status, path).to.equal(200);
    // Swagger UI would show the mark of a service elsewhere, which it hands the address of the document to.
    expect((await ask(server, '/api/docs/docs.js')).text).to.include('validatorUrl: null');
  });

  it('are sent once, and then asked for by their ETag', async () => {
    const first = await ask(server, '/api/docs/swagger-ui-bundle.js');
    const etag = first.headers.get('etag') ?? '';
    expect(etag).to.match(/^"[\w-]+"$/);
    expect(first.headers.get('cache-control')).to.equal('no-cache');
    const again = await ask(server, '/api/docs/swagger-ui-bundle.js', { headers: { 'if-none-match': etag } });
    expect(again.status).to.equal(304);
    expect(again.text).to.equal('');
  });

  it('are no files of the disk', async () => {
    for (const path of ['/api/docs/package.json', '/api/docs/..%2f..%2fpackage.json', '/api/docs/nothing'])
      expect((await ask(server, path)).status, path).to.equal(404);
  });
});

describe('the door of the metadata API', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  it('tells the health of the node without a key', async () => {
    // Not ready before all its workers have come up.
    await until('it is well', async () => {
      const { status, body } = await api(server, 'GET', '/health', { key: null });
      expect([status, body.status]).to.deep.equal(status === 200 ? [200, 'ok'] : [503, 'unavailable']);
      return status === 200;
    });
  });

  it('asks for a key everywhere else, in its own words', async () => {
    const missing = await api(server, 'GET', '/models', { key: null });
    expect([missing.status, missing.body]).to.deep.equal([401, { detail: 'Missing API key' }]);
    const invalid = await api(server, 'GET', '/models', { key: 'wh_nobody_0123456789abcdef' });
    expect([invalid.status, invalid.body]).to.deep.equal([401, { detail: 'Invalid API key' }]);
    const unreadable = await api(server, 'GET', '/models', { key: null, headers: { authorization: 'Basic ???' } });
    expect([unreadable.status, unreadable.body]).to.deep.equal([401, { detail: 'Invalid API key' }]);
    expect(missing.headers.get('www-authenticate')).to.match(/^Bearer realm="http/);
    const nowhere = await api(server, 'GET', '/nothing', { key: null });
    expect(nowhere.status).to.equal(401);
  });

  it('says what it has not, and which methods it has', async () => {
    const nowhere = await api(server, 'GET', '/nothing');
    expect([nowhere.status, nowhere.body]).to.deep.equal([404, { detail: 'no such endpoint' }]);
    const wrong = await api(server, 'DELETE', '/health', { key: null });
    expect(wrong.status).to.equal(405);
    expect(wrong.headers.get('allow')).to.equal('GET, HEAD');
    expect((await api(server, 'GET', '/api/v2')).status).to.equal(404);
    expect((await api(server, 'GET', '/api/V1/health')).status).to.equal(404);
  });

  it('finds fault with a query of which nothing is known', async () => {
    const { status, body } = await api(server, 'GET', '/health?deep=1', { key: null });
    expect(status).to.equal(422);
    expect(body).to.deep.equal({
      detail: [{ loc: ['query', 'deep'], msg: 'is not known here', type: 'extra_forbidden' }],
    });
  });

  it('says nothing of the registry at the other door, and the other way round', async () => {
    const here = await api(server, 'GET', '/nothing');
    expect(here.headers.get('docker-distribution-api-version')).to.equal(null);
    const there = await ask(server, '/v2/nothing');
    expect(JSON.parse(there.text)).to.have.property('errors');
    const between = await ask(server, '/apiary');
    expect(JSON.parse(between.text)).to.have.property('errors');
  });

  describe('reading the body', () => {
    const create = (body: unknown, headers: Record<string, string> = {}) =>
      api<{ detail: { loc: unknown[]; type: string; msg: string }[] }>(server, 'POST', '/models', { body, headers });
    const model = (name: string) => ({ name, storage_path: `frame/${name}` });

    it('takes JSON in UTF-8, with or without saying so', async () => {
      const text = (name: string) => JSON.stringify(model(name));
      for (const [name, headers] of [
        ['typed', { 'content-type': 'application/json; charset="UTF-8"' }],
        ['identity', { 'content-type': 'Application/JSON', 'content-encoding': 'identity' }],
      ] as const)
        expect((await create(text(name), headers)).status, name).to.equal(201);
      // fetch gives bytes no type of their own.
      expect((await create(Buffer.from(text('untyped')))).status).to.equal(201);
    });

    it('takes no other type, character set or coding', async () => {
      for (const headers of [
        { 'content-type': 'text/plain' },
        { 'content-type': 'application/json; charset=latin1' },
        { 'content-type': 'application/merge-patch+json' },
        { 'content-type': 'application/json', 'content-encoding': 'gzip' },
      ])
        expect((await create('{}', headers)).status, JSON.stringify(headers)).to.equal(415);
    });

    it('takes no more than the setting says', async () => {
      const long = { ...model('long'), description: 'x'.repeat(1024 * 1024) };
      const { status, body } = await create(long);
      expect(status).to.equal(413);
      expect(body).to.deep.equal({ detail: 'the body may have at most 1048576 bytes' });
    });

    it('says that there is none', async () => {
      const { status, body } = await create(undefined);
      expect(status).to.equal(422);
      expect(body.detail).to.deep.equal([{ loc: ['body'], msg: 'is missing', type: 'missing' }]);
    });

    it('takes no JSON that parsers read differently, or that is too deep', async () => {
      const type = { 'content-type': 'application/json' };
      for (const [text, words] of [
        ['{"name": "a", "name": "b"}', /twice/],
        ['{"name": ', /not valid JSON/],
        ['\ufeff{}', /byte order mark/],
        [Buffer.from([0x7b, 0xff, 0x7d]), /not valid UTF-8/],
        [`{"metadata": ${'['.repeat(40)}${']'.repeat(40)}}`, /more than 32 levels/],
      ] as const) {
        const { status, body } = await create(text, type);
        expect(status, String(words)).to.equal(422);
        expect(body.detail.map(({ loc, type: kind }) => [loc, kind])).to.deep.equal([[['body'], 'json_invalid']]);
        expect(body.detail[0]?.msg).to.match(words);
      }
    });
  });

  /** The status and body of what is answered to bytes on the wire. */
  async function exchange(text: string): Promise<[status: number | undefined, body: unknown]> {
    const wire = (await Wire.open(server.host)).write(text);
    await wire.untilAnswers(1);
    await wire.until(() => wire.text.includes('}'));
    const body: unknown = JSON.parse(wire.text.split('\r\n\r\n')[1] ?? '');
    wire.end();
    return [wire.status, body];
  }

  it('answers in its own form what fails before it is looked at', async () => {
    for (const [status, text] of [
      [414, head('GET', `/api/v1/models?q=${'x'.repeat(10_000)}`)],
      [414, head('GET', `/api/v1/models?q=${'x'.repeat(100_000)}`)],
      [431, head('GET', '/api/v1/models', `X: ${'x'.repeat(20_000)}`)],
      [400, head('GET', '/api/v1/models').replace(/Host: [^\r]+/, 'Host: a b')],
      [400, head('GET', '/api/v1/models').replace(/Host: [^\r]+\r\n/, '')],
      [501, head('POST', '/api/v1/models', 'Transfer-Encoding: gzip')],
    ] as const) {
      const [told, body] = await exchange(text);
      expect(told).to.equal(status);
      expect(body, String(status)).to.have.all.keys('detail');
    }
  });
});

describe('pages of other sites', () => {
  let server: TestServer;
  let open: TestServer;
  const ours = 'https://models.example.com';

  before(async () => {
    server = await startServer({
      environment: { REGISTRY_CORS_ORIGINS: `${ours}, http://localhost:3000`, REGISTRY_REQUESTS_PER_ADDRESS: '20' },
    });
    open = await startServer({ environment: { REGISTRY_CORS_ORIGINS: '*' } });
  });
  after(async () => {
    await server.dispose();
    await open.dispose();
  });

  const from = (origin: string, more: Record<string, string> = {}) => ({ key: null, headers: { origin, ...more } });
  const allowed = ({ headers }: { headers: Headers }) => headers.get('access-control-allow-origin');

  it('may use the metadata API if the operator says so, also to read what went wrong', async () => {
    const health = await api(server, 'GET', '/health', from(ours));
    expect(allowed(health)).to.equal(ours);
    expect(health.headers.get('access-control-allow-credentials')).to.equal('true');
    expect(health.headers.get('access-control-expose-headers')).to.include('ETag');
    expect(health.headers.get('vary')).to.equal('Origin');
    const refused = await api(server, 'GET', '/models', from(ours));
    expect(refused.status).to.equal(401);
    expect(allowed(refused)).to.equal(ours);
    expect(refused.headers.get('vary')).to.equal('Origin');
  });

  it('may not if it does not', async () => {
    for (const origin of ['https://evil.example.com', 'https://models.example.com.evil.org', 'null']) {
      const health = await api(server, 'GET', '/health', from(origin));
      expect(allowed(health), origin).to.equal(null);
      expect(health.headers.get('vary')).to.equal('Origin');
    }
    const none = await api(await sharedServer(), 'GET', '/health', from(ours));
    expect(allowed(none)).to.equal(null);
    expect(none.headers.get('vary')).to.equal(null);
  });

  const preflight = {
    origin: ours,
    'access-control-request-method': 'PATCH',
    'access-control-request-headers': 'x-api-key',
  };

  it('ask first, without a key', async () => {
    const asked = await fetch(new URL('/api/v1/models/7', server.url), { method: 'OPTIONS', headers: preflight });
    expect(asked.status).to.equal(204);
    expect(allowed(asked)).to.equal(ours);
    expect(asked.headers.get('access-control-allow-methods')).to.include('PATCH');
    expect(asked.headers.get('access-control-allow-headers')).to.match(/X-API-Key.*/);
    expect(asked.headers.get('access-control-max-age')).to.equal('600');
  });

  it('have no business at the other doors', async () => {
    const other = await fetch(new URL('/v2/', server.url), { method: 'OPTIONS', headers: preflight });
    expect(other.status).to.equal(401);
    expect(allowed(other)).to.equal(null);
  });

  it('get no credentials of the browser where all may come', async () => {
    const health = await api(open, 'GET', '/health', from('https://anyone.example.org'));
    expect(allowed(health)).to.equal('*');
    expect(health.headers.get('access-control-allow-credentials')).to.equal(null);
  });

  it('read that they are too many', async () => {
    // At once: one after the other they may be too slow for the limit, which counts in each worker.
    const answers = await Promise.all(Array.from({ length: 200 }, () => api(server, 'GET', '/models', from(ours))));
    const refused = answers.filter(({ status }) => status !== 401);
    expect(refused).not.to.have.lengthOf(0);
    for (const answer of refused) {
      expect(answer.status).to.equal(429);
      expect(answer.headers.get('retry-after')).to.equal('1');
      expect(allowed(answer)).to.equal(ours);
    }
  });
});

describe('a key that is not an admin', () => {
  it('is somebody at the door of the metadata API', async () => {
    const server = await sharedServer();
    const { text } = await makeKey(server, ['frame/**=pull']);
    expect((await api(server, 'GET', '/nothing', { key: text })).status).to.equal(404);
  });
});
