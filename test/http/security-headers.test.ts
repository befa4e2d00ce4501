import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import { bytesOf, digestOf, openUpload, pushBlob, pushImage } from './content.js';
import { sharedServer } from './shared-server.js';
import { head, Wire } from './wire.js';

const REPOSITORY = 'browsers/model';

describe('the headers that keep browsers from harm', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  it('stand on every response, whoever writes it', async () => {
    const digest = await pushBlob(server, REPOSITORY, bytesOf('for browsers', 100));
    await pushImage(server, REPOSITORY, 'v1');
    const etag = `If-None-Match: "${digest}"`;
    const requests: [status: number, text: string][] = [
      [200, head('GET', '/v2/')],
      [200, head('GET', `/v2/${REPOSITORY}/blobs/${digest}`)],
      [200, head('HEAD', `/v2/${REPOSITORY}/blobs/${digest}`)],
      [206, head('GET', `/v2/${REPOSITORY}/blobs/${digest}`, 'Range: bytes=1-2')],
      [206, head('GET', `/v2/${REPOSITORY}/blobs/${digest}`, 'Range: bytes=1-2,5-6')],
      [416, head('GET', `/v2/${REPOSITORY}/blobs/${digest}`, 'Range: bytes=100-')],
      [304, head('GET', `/v2/${REPOSITORY}/blobs/${digest}`, etag)],
      [200, head('GET', `/v2/${REPOSITORY}/manifests/v1`)],
      [200, head('GET', `/v2/${REPOSITORY}/tags/list`)],
      [202, head('POST', `/v2/${REPOSITORY}/blobs/uploads/`, 'Content-Length: 0')],
      [204, head('GET', await openUpload(server, REPOSITORY))],
      [404, head('GET', `/v2/${REPOSITORY}/blobs/${digestOf('absent')}`)],
      [404, head('GET', '/')],
      [405, head('DELETE', '/v2/')],
      [401, head('GET', '/v2/').replace(/Authorization.*\r\n/, '')],
      [413, head('PUT', `/v2/${REPOSITORY}/manifests/v1`, 'Content-Length: 999999999')],
      [414, head('GET', `/v2/?${'x'.repeat(10_000)}`)],
      [400, 'GARBAGE\r\n\r\n'],
      [431, head('GET', '/v2/', `X: ${'x'.repeat(100_000)}`)],
      [405, head('CONNECT', 'example.org:443')],
    ];
    for (const [status, text] of requests) {
      const wire = (await Wire.open(server.host)).write(text);
      await wire.untilAnswers(1);
      await wire.until(() => wire.text.includes('\r\n\r\n'));
      expect(wire.status).to.equal(status);
      const lines = wire.text.split('\r\n\r\n')[0]?.toLowerCase().split('\r\n') ?? [];
      for (const line of [
        'x-content-type-options: nosniff',
        "content-security-policy: default-src 'none'; frame-ancestors 'none'; sandbox",
        'referrer-policy: no-referrer',
      ])
        expect(
          lines.filter((given) => given === line),
          `${status}: ${line}`,
        ).to.have.lengthOf(1);
      // Over plain HTTP it counts for nothing.
      expect(wire.text).not.to.match(/strict-transport-security/i);
      wire.end();
    }
  });
});
