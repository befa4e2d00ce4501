import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { ADMIN_KEY, AUTHORIZATION, freePort, startServer, type TestServer } from '../support/server.js';
import { exchange, Wire } from './wire.js';

const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
const encoded = (text: string) => text.replaceAll('_', '%5F');

/** A token as they look, with a secret in it and as its signature. */
const token = (secret: string) =>
  `eyJhbGciOiJIUzI1NiJ9.${Buffer.from(`{"sub":"${secret}"}`).toString('base64url')}.${secret}`;

type Send = (host: string, key: string) => Promise<string>;

const request =
  (
    method: string,
    path: (key: string) => string,
    headers: (key: string) => Record<string, string>,
    body?: (key: string) => string,
  ): Send =>
  async (host, key) => {
    const text = body?.(key);
    const given: string[] = [];
    // Once as nobody and once as the admin, who gets further.
    for (const authorization of ['', AUTHORIZATION]) {
      const answer = await exchange(host, method, path(key), {
        headers: { authorization, ...headers(key) },
        ...(text === undefined ? {} : { body: Buffer.from(text) }),
      });
      // The id of the request is the client's own.
      const { 'x-request-id': _own, ...others } = answer.headers;
      given.push(`${answer.status} ${JSON.stringify(others)} ${answer.body.toString()}`);
    }
    return given.join('\n');
  };

const wire =
  (bytes: (key: string) => string): Send =>
  async (host, key) => {
    const connection = (await Wire.open(host)).write(bytes(key));
    await connection.until(({ text, closed }) => closed || text.includes('\r\n\r\n'));
    const { text } = connection;
    connection.end();
    return text;
  };

const form = { 'content-type': 'application/x-www-form-urlencoded' };
const json = { 'content-type': 'application/json' };
const none = () => ({});
const base = () => '/v2/';

/** Every place in which a client may put a secret, whether it belongs there or not. */
const places: [string, Send][] = [
  ['the password of Basic', request('GET', base, (key) => ({ authorization: basic(`user:${key}`) }))],
  ['the user name of Basic', request('GET', base, (key) => ({ authorization: basic(`${key}:x`) }))],
  ['Basic without encoding', request('GET', base, (key) => ({ authorization: `Basic user:${key}` }))],
  ['X-API-Key', request('GET', base, (key) => ({ 'x-api-key': key }))],
  ['Bearer', request('GET', base, (key) => ({ authorization: `Bearer ${key}` }))],
  ['a token as Bearer', request('GET', base, (key) => ({ authorization: `Bearer ${token(key)}` }))],
  ['a token as the password', request('GET', base, (key) => ({ authorization: basic(`user:${token(key)}`) }))],
  ['no scheme', request('GET', base, (key) => ({ authorization: key }))],
  ['another header of authorization', request('GET', base, (key) => ({ 'proxy-authorization': basic(`user:${key}`) }))],
  ['the cookie of a session', request('GET', base, (key) => ({ cookie: `weighhouse_session=${key}` }))],
  [
    'the token of a session',
    request(
      'DELETE',
      () => '/api/v1/session',
      (key) => ({ 'x-csrf-token': key }),
    ),
  ],
  [
    'the key to sign in with',
    request(
      'POST',
      () => '/api/v1/session',
      () => json,
      (key) => `{"key":"${key}"}`,
    ),
  ],
  [
    'the key to sign in with, under another name',
    request(
      'POST',
      () => '/api/v1/session',
      () => json,
      (key) => `{"${key}":"${key}","key":["${key}"]}`,
    ),
  ],
  ['a cookie', request('GET', base, (key) => ({ cookie: `key=${key}` }))],
  ['the id of the request', request('GET', base, (key) => ({ 'x-request-id': key }))],
  ['the user agent and the referer', request('GET', base, (key) => ({ 'user-agent': key, referer: `http://${key}/` }))],
  ['the forwarded address', request('GET', base, (key) => ({ 'x-forwarded-for': key, 'x-forwarded-proto': key }))],
  ['the query', request('GET', (key) => `/v2/_catalog?key=${key}&last=${key}&n=${key}`, none)],
  ['the query of a mount', request('POST', (key) => `/v2/a/blobs/uploads/?mount=${key}&from=${key}`, none)],
  [
    'the query of the token endpoint',
    request('GET', (key) => `/v2/token?service=${key}&scope=${key}&account=${key}`, none),
  ],
  [
    'the form of the token endpoint',
    request(
      'POST',
      () => '/v2/token',
      () => form,
      (key) => `grant_type=password&username=${key}&password=${key}&service=s`,
    ),
  ],
  [
    'a refresh token',
    request(
      'POST',
      () => '/v2/token',
      () => form,
      (key) => `grant_type=refresh_token&refresh_token=${token(key)}&service=s`,
    ),
  ],
  [
    'a refresh token that is a key',
    request(
      'POST',
      () => '/v2/token',
      () => form,
      (key) => `grant_type=refresh_token&refresh_token=${key}`,
    ),
  ],
  [
    'the kind of grant',
    request(
      'POST',
      () => '/v2/token',
      () => form,
      (key) => `grant_type=${key}&client_id=${key}`,
    ),
  ],
  [
    'a form that is none',
    request(
      'POST',
      () => '/v2/token',
      () => ({ 'content-type': 'application/json' }),
      (key) => `{"password":"${key}"`,
    ),
  ],
  ['the path of a repository', request('GET', (key) => `/v2/${key}/tags/list`, none)],
  ['the path, encoded', request('GET', (key) => `/v2/${encoded(key)}/tags/list`, none)],
  ['a digest', request('GET', (key) => `/v2/a/blobs/${key}`, none)],
  ['a tag', request('GET', (key) => `/v2/a/manifests/${key}`, none)],
  ['the id of an upload', request('PATCH', (key) => `/v2/a/blobs/uploads/${key}`, none)],
  ['the query of the metadata API', request('GET', (key) => `/api/v1/models?cursor=${key}&sort=${key}&${key}=1`, none)],
  ['the path of the metadata API', request('GET', (key) => `/api/v1/models/${key}`, none)],
  ['a path of nothing in the metadata API', request('GET', (key) => `/api/${key}`, none)],
  [
    'a body of the metadata API',
    request(
      'POST',
      () => '/api/v1/models',
      () => json,
      (key) => `{"name":"","storage_path":"${key}","${key}":"${key}"}`,
    ),
  ],
  [
    'a body of the metadata API that is no JSON',
    request(
      'POST',
      () => '/api/v1/models',
      () => json,
      (key) => `{"name": ${key}}`,
    ),
  ],
  [
    'the grants of a new key',
    request(
      'POST',
      () => '/api/v1/api-keys',
      () => json,
      (key) => `{"name":"one","grants":[{"repository":"${key}","actions":["${key}"]}]}`,
    ),
  ],
  [
    'the key that makes a request repeatable',
    request(
      'POST',
      () => '/api/v1/models',
      (key) => ({ ...json, 'idempotency-key': `${key}?` }),
      () => '{}',
    ),
  ],
  [
    'the name of a file in a form',
    request(
      'POST',
      (key) => `/api/v1/artifacts/upload?release_id=${key}&name=${key}`,
      (key) => ({ 'content-type': `multipart/form-data; boundary=${key}` }),
      (key) =>
        `--${key}\r\nContent-Disposition: form-data; name="${key}"; filename="${key}"\r\n\r\n${key}\r\n--${key}--\r\n`,
    ),
  ],
  ['a path of nothing', request('GET', (key) => `/${key}`, none)],
  ['the path of health', request('GET', (key) => `/health/${key}?key=${key}`, none)],
  ['the authority of an absolute target', request('GET', (key) => `http://user:${key}@host/v2/`, none)],
  ['an absolute target that is no URL', request('GET', (key) => `http://[${key}/v2/`, none)],
  ['a method', wire((key) => `${key} /v2/ HTTP/1.1\r\nHost: x\r\n\r\n`)],
  [
    'a head without a colon',
    wire((key) => `GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization ${basic(`user:${key}`)}\r\n\r\n`),
  ],
  [
    'a head with a wrong version',
    wire((key) => `GET /v2/?key=${key} HTTP/9.9\r\nAuthorization: Bearer ${key}\r\n\r\n`),
  ],
  [
    'a head that is too large',
    wire((key) => `GET /v2/ HTTP/1.1\r\nHost: x\r\nX-API-Key: ${key}\r\nX: ${'x'.repeat(200_000)}\r\n\r\n`),
  ],
  [
    'a chunk that is none',
    wire(
      (key) =>
        `POST /v2/token HTTP/1.1\r\nHost: x\r\nAuthorization: ${basic(`u:${key}`)}\r\nTransfer-Encoding: chunked\r\n\r\n${key}\r\n`,
    ),
  ],
  ['the target of CONNECT', wire((key) => `CONNECT ${key}:443 HTTP/1.1\r\nHost: x\r\n\r\n`)],
];

describe('secrets that clients send', function () {
  this.timeout(60_000);
  let server: TestServer;
  let operations: string;
  const sent: { readonly what: string; readonly secret: string }[] = [];

  before(async () => {
    operations = `127.0.0.1:${await freePort()}`;
    server = await startServer({
      environment: {
        REGISTRY_OPERATIONS_LISTEN: operations,
        REGISTRY_LOG_LEVEL: 'trace',
        REGISTRY_TRUSTED_PROXIES: '127.0.0.1',
        REGISTRY_AUTH_FAILURES_PER_ADDRESS: '100000',
        REGISTRY_AUTH_FAILURES_PER_KEY: '100000',
      },
    });
  });
  after(async () => {
    await server?.dispose();
  });

  /** The forms in which a secret could come to light. */
  function formsOf(secret: string): string[] {
    const plain = [
      secret,
      Buffer.from(secret).toString('base64').replace(/=+$/, ''),
      Buffer.from(secret).toString('hex'),
    ];
    // A secret in the middle of what is encoded is shifted by its place.
    const shifted = [1, 2].map((count) =>
      Buffer.from('x'.repeat(count) + secret)
        .toString('base64')
        .slice(4, -4),
    );
    return [...plain, ...shifted];
  }

  for (const [at, [what, send]] of places.entries()) {
    it(`come back in no answer: ${what}`, async () => {
      const secret = `S3cr3t${at}of${'Somebody'.repeat(2)}${at}`;
      sent.push({ what, secret });
      for (const host of [server.host, operations]) {
        const answer = await send(host, `wh_tester_${secret}`);
        expect(answer).to.match(/^(?:HTTP\/1\.1 )?[2345]\d\d/);
        for (const form of formsOf(secret)) expect(answer).not.to.include(form);
      }
    });
  }

  it('are in no line of the log, nor in the metrics', async () => {
    const made = await server.request('POST', '/api/v1/api-keys', {
      headers: { ...json, 'idempotency-key': 'of-the-test' },
      body: JSON.stringify({ name: 'one', grants: [{ repository: '**', actions: ['pull'] }] }),
    });
    const { key: text, key_prefix: id } = (await made.json()) as { key: string; key_prefix: string };
    expect((await server.request('GET', base(), { headers: { authorization: basic(`x:${text}`) } })).status).to.equal(
      200,
    );
    sent.push({ what: 'a key that was just made', secret: text.slice(`wh_${id}_`.length) });
    const last = 'the-last-of-all';
    await exchange(server.host, 'GET', '/v2/', { headers: { 'x-request-id': last } });
    await until('all is logged', async () => (await server.log()).includes(last));
    const log = await server.log();
    const metrics = (await exchange(operations, 'GET', '/metrics')).body.toString();
    expect(log.split('\n').length).to.be.above(places.length);
    expect(sent.length).to.equal(places.length + 1);
    for (const form of formsOf(ADMIN_KEY)) expect(log.includes(form), 'the admin key').to.equal(false);
    for (const { what, secret } of sent)
      for (const form of formsOf(secret)) {
        expect(log.includes(form), `${what} in the log`).to.equal(false);
        expect(metrics.includes(form), `${what} in the metrics`).to.equal(false);
      }
  });
});
