import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import Koa from 'koa';
import { pino } from 'pino';
import { RegistryError } from '../../../src/errors.js';
import type { RequestState } from '../../../src/http/context.js';
import { isApiTarget, writeFailure } from '../../../src/http/doors.js';
import { errorResponse } from '../../../src/http/error-response.js';

/** What both doors answer to an error. */
async function answersTo(error: Error): Promise<{ status: number; headers: Headers; body: unknown }[]> {
  const app = new Koa<RequestState>();
  app.silent = true;
  app.use(errorResponse(pino({ level: 'silent' }), writeFailure));
  app.use(() => {
    throw error;
  });
  const handle = app.callback();
  const server = createServer((request, response) => void handle(request, response)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  try {
    return await Promise.all(
      ['/api/v1/models', '/v2/models/tags/list'].map(async (path) => {
        const answer = await fetch(`http://127.0.0.1:${port}${path}`);
        return { status: answer.status, headers: answer.headers, body: (await answer.json()) as unknown };
      }),
    );
  } finally {
    server.close();
  }
}

describe('the doors', () => {
  it('are told apart by the path as it was sent', () => {
    for (const target of ['/api', '/api/', '/api/v1/models', '/api?x', 'http://host:5000/api/v1', 'HTTPS://host/api'])
      expect(isApiTarget(target), target).to.equal(true);
    for (const target of ['/', '/apiary', '/v2/api/', '/v2/?/api/', 'http://host/v2/api', 'http://api/', '*', ''])
      expect(isApiTarget(target), target).to.equal(false);
  });

  it('tell nothing of an error that is ours, each in its form', async () => {
    const [api, oci] = await answersTo(new TypeError('secret: connection string'));
    expect([api?.status, api?.body]).to.deep.equal([500, { detail: 'Internal Server Error' }]);
    expect(oci?.status).to.equal(500);
    expect(oci?.body).to.have.property('errors');
    expect(JSON.stringify([api?.body, oci?.body])).not.to.include('secret');
  });

  it('say when to come again', async () => {
    const answers = await answersTo(new RegistryError('Unavailable', 'the database is away', { retryAfter: 7 }));
    for (const { status, headers } of answers) {
      expect(status).to.equal(503);
      expect(headers.get('retry-after')).to.equal('7');
    }
  });

  it('say what is in the way of a change, and what is wrong with it', async () => {
    const conflicts = [{ type: 'deployment', id: '7' }];
    const [taken, denied] = await answersTo(
      new RegistryError('ReleaseDeployed', 'it is deployed', { detail: { conflicts } }),
    );
    expect([taken?.status, taken?.body]).to.deep.equal([409, { detail: 'it is deployed', conflicts }]);
    expect([denied?.status, JSON.stringify(denied?.body)]).to.deep.equal([
      403,
      JSON.stringify({ errors: [{ code: 'DENIED', message: 'it is deployed', detail: { conflicts } }] }),
    ]);
    const issues = [{ loc: ['body', 'name'], msg: 'is missing', type: 'missing' }];
    const [invalid] = await answersTo(new RegistryError('Invalid', 'name is missing', { detail: { issues } }));
    expect([invalid?.status, invalid?.body]).to.deep.equal([422, { detail: issues }]);
    const [digest] = await answersTo(new RegistryError('DigestInvalid', 'no digest'));
    expect(digest?.body).to.deep.equal({ detail: [{ loc: ['body'], msg: 'no digest', type: 'value_error' }] });
  });

  it('list the methods that there are', async () => {
    const detail = { allowed: ['GET', 'HEAD'] };
    for (const { status, headers } of await answersTo(new RegistryError('MethodUnsupported', 'no', { detail }))) {
      expect(status).to.equal(405);
      expect(headers.get('allow')).to.equal('GET, HEAD');
    }
  });
});
