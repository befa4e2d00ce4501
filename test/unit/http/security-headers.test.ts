import { createServer, get, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { expect } from 'chai';
import { setSecurityHeaders } from '../../../src/http/security-headers.js';

describe('Strict-Transport-Security', () => {
  it('is sent where the client came by HTTPS, and nowhere else', async () => {
    const server = createServer((request, response) => {
      setSecurityHeaders(response, request.url === '/secure');
      response.end();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    try {
      for (const [path, value] of [
        ['/secure', 'max-age=31536000'],
        ['/plain', undefined],
      ] as const) {
        const [response] = (await once(get({ port, path, agent: false }), 'response')) as [IncomingMessage];
        response.resume();
        expect(response.headers['strict-transport-security']).to.equal(value);
      }
    } finally {
      server.close();
    }
  });
});
