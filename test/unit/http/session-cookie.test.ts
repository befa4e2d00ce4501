import type { IncomingMessage } from 'node:http';
import { expect } from 'chai';
import { isForeign, isUnsafe, readSessionCookie, sessionCookieOf } from '../../../src/http/session-cookie.js';

const SECURE = { address: '192.0.2.1', origin: 'https://weights.example', secure: true };
const PLAIN = { address: '192.0.2.1', origin: 'http://127.0.0.1:5000', secure: false };
const from = (headers: Record<string, string>, method = 'GET') => ({ headers, method }) as unknown as IncomingMessage;

describe('what browsers send beside a request', () => {
  it('is a cookie by the name that fits the connection', () => {
    const cookie = '__Host-weighhouse_session=one; weighhouse_session=two';
    expect(readSessionCookie(from({ cookie }), SECURE)).to.equal('one');
    expect(readSessionCookie(from({ cookie }), PLAIN)).to.equal('two');
    expect(readSessionCookie(from({}), PLAIN)).to.equal(undefined);
    expect(readSessionCookie(from({ cookie: 'weighhouse_session=' }), PLAIN)).to.equal('');
  });

  it('counts at the two doors, except where keys are asked for, and not beside a key', () => {
    const cookie = 'weighhouse_session=one';
    const at = (path: string, method = 'GET', more = {}) =>
      sessionCookieOf(from({ cookie, ...more }, method), path, PLAIN);
    for (const path of ['/v2/', '/v2', '/v2/a/tags/list', '/v2/tokens/tags/list', '/api/v1/models', '/api/v1/session'])
      expect(at(path), path).to.equal('one');
    for (const path of [
      '/v2/token',
      '/v2/token/',
      '/v2x',
      '/metrics',
      '/',
      '/api/v2',
      '/api/v1x',
      '/V2/',
      'http://h/v2/',
      '*',
    ])
      expect(at(path), path).to.equal(undefined);
    expect(at('/api/v1/session', 'POST')).to.equal(undefined);
    expect(at('/api/v1/session', 'DELETE')).to.equal('one');
    for (const header of ['authorization', 'x-api-key'])
      expect(at('/v2/', 'GET', { [header]: '' })).to.equal(undefined);
  });

  it('tells the pages of this registry from all others, whatever the scheme that a proxy hides', () => {
    const foreign = (origin: string, client = SECURE) => isForeign(from({ origin }), client);
    expect(foreign('https://weights.example')).to.equal(false);
    expect(foreign('https://weights.example', { ...SECURE, origin: 'http://weights.example', secure: false })).to.equal(
      false,
    );
    expect(foreign('https://weights.example', { ...SECURE, origin: 'https://weights.example:443' })).to.equal(false);
    for (const origin of [
      'https://weights.example:8443',
      'https://example',
      'https://weights.example.evil',
      'null',
      '',
    ])
      expect(foreign(origin), origin).to.equal(true);
    // A Host that is no host of a URL.
    expect(foreign('http://999.999.999.999', { ...PLAIN, origin: 'http://999.999.999.999' })).to.equal(true);
    expect(isForeign(from({}), SECURE)).to.equal(false);
  });

  it('is unsafe by every method that is not known to be safe', () => {
    expect(
      ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE', 'PURGE', 'get', ''].filter(isUnsafe),
    ).to.deep.equal(['POST', 'PUT', 'PATCH', 'DELETE', 'PURGE', 'get', '']);
  });
});
