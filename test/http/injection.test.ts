// What a client writes comes back in headers (Link, Location, OCI-Tag, WWW-Authenticate): never as a header of its own.
import { expect } from 'chai';
import { startServer, type TestServer } from '../support/server.js';
import {
  bytesOf,
  descriptorOf,
  digestOf,
  IMAGE,
  openUpload,
  pushConfig,
  imageOf,
  pushImage,
  putManifest,
} from './content.js';
import { head, Wire } from './wire.js';

const REPOSITORY = 'injection/model';
const DIGEST = digestOf('nothing');
/** A line break in every spelling that some decoder takes for one, and a header behind it. */
const BREAKS = [
  '%0d%0aInjected:%20yes',
  '%0D%0A%20Injected:yes',
  '%0aInjected:%20yes',
  '%0dInjected:%20yes',
  '%250d%250aInjected:%20yes',
  '%E5%98%8D%E5%98%8AInjected:%20yes',
  '%c4%8d%c4%8aInjected:%20yes',
  '%u000d%u000aInjected:%20yes',
  '%00Injected:%20yes',
  '%e2%80%a8Injected:%20yes',
  '%22,%20Injected=%22yes',
  '%3E;%20rel=%22Injected',
  '\\r\\nInjected:%20yes',
];

describe('header injection', () => {
  let server: TestServer;
  before(async () => {
    const environment = { REGISTRY_WORKERS: '1', REGISTRY_REFERRERS_MAX_BYTES: '1024' };
    server = await startServer({ environment });
    for (const tag of ['a', 'b', 'c']) await pushImage(server, REPOSITORY, tag);
  });
  after(async () => {
    await server?.dispose();
  });

  /** Sends one request and reads the heads of all that comes back. */
  async function heads(text: string): Promise<string> {
    const wire = (await Wire.open(server.host)).write(Buffer.from(text, 'latin1'));
    await wire.untilClosed();
    expect(wire.text.match(/HTTP\/1\.1 \d/g), wire.text).to.have.lengthOf(1);
    expect(wire.status, wire.text).to.be.within(200, 499);
    return wire.text.slice(0, wire.text.indexOf('\r\n\r\n'));
  }

  /** Every line is a field of ASCII, and none is the client's. */
  function expectClean(lines: string): void {
    for (const line of lines.split('\r\n').slice(1)) {
      expect(line).to.match(/^[A-Za-z0-9-]+: [\x20-\x7e]*$/);
      expect(line).not.to.match(/^Injected/i);
      expect(line.replace(/%22|%3E/gi, ''), 'no text breaks out of its quotes').not.to.match(
        /["<>;,] ?(rel=")?Injected/,
      );
    }
  }

  const places: [what: string, method: string, target: (text: string) => string, key?: boolean][] = [
    ['the name of a repository', 'GET', (text) => `/v2/${text}/tags/list?n=1`],
    ['the name of a repository that is pushed to', 'POST', (text) => `/v2/${text}/blobs/uploads/`],
    ['a name without a key', 'GET', (text) => `/v2/${text}/tags/list`, false],
    ['a tag', 'PUT', (text) => `/v2/${REPOSITORY}/manifests/${text}`],
    ['a tag that is read', 'GET', (text) => `/v2/${REPOSITORY}/manifests/${text}`],
    ['further tags', 'PUT', (text) => `/v2/${REPOSITORY}/manifests/d?tag=${text}`],
    ['a digest', 'GET', (text) => `/v2/${REPOSITORY}/blobs/${DIGEST}${text}`],
    ['the digest of an upload', 'POST', (text) => `/v2/${REPOSITORY}/blobs/uploads/?digest=${DIGEST}${text}`],
    ['the source of a mount', 'POST', (text) => `/v2/${REPOSITORY}/blobs/uploads/?mount=${DIGEST}&from=${text}`],
    ['the algorithm of an upload', 'POST', (text) => `/v2/${REPOSITORY}/blobs/uploads/?digest-algorithm=${text}`],
    ['the id of an upload', 'GET', (text) => `/v2/${REPOSITORY}/blobs/uploads/${text}`],
    ['the last tag', 'GET', (text) => `/v2/${REPOSITORY}/tags/list?n=1&last=${text}`],
    ['the last repository', 'GET', (text) => `/v2/_catalog?n=1&last=${text}`],
    ['the size of a page', 'GET', (text) => `/v2/${REPOSITORY}/tags/list?n=1${text}`],
    ['an artifact type', 'GET', (text) => `/v2/${REPOSITORY}/referrers/${DIGEST}?artifactType=${text}`],
    ['a route that is none', 'GET', (text) => `/${text}`],
    ['a service without a key', 'GET', (text) => `/v2/token?service=${text}&scope=repository:a:pull`, false],
    ['a scope without a key', 'GET', (text) => `/v2/token?service=x&scope=repository:${text}:pull`, false],
    ['a service', 'GET', (text) => `/v2/token?service=${text}&scope=repository:a:pull`],
    ['a scope', 'GET', (text) => `/v2/token?service=x&scope=repository:${text}:pull`],
    ['an account', 'GET', (text) => `/v2/token?account=${text}&client_id=${text}&offline_token=true`],
  ];
  for (const [what, method, target, key = true] of places) {
    it(`is not done by ${what}`, async () => {
      for (const text of BREAKS) {
        const request = head(method, target(text), 'Content-Length: 0', 'Connection: close');
        expectClean(await heads(key ? request : request.replace(/Authorization.*\r\n/, '')));
      }
    });
  }

  it('is not done by the form of a token request', async () => {
    for (const text of BREAKS) {
      const body = `grant_type=password&service=${text}&scope=repository:${text}:pull&client_id=${text}&username=${text}&password=${text}&refresh_token=${text}`;
      const type = 'Content-Type: application/x-www-form-urlencoded';
      expectClean(
        await heads(head('POST', '/v2/token', type, `Content-Length: ${body.length}`, 'Connection: close') + body),
      );
    }
  });

  it('is not done by headers that come back', async () => {
    for (const text of [
      '"',
      '\\"',
      'a", Injected="yes',
      '<script>',
      'x'.repeat(6000),
      '\x80\xff',
      '{{7*7}}',
      '$\x7bjndi:x}',
    ]) {
      const lines = [
        'X-Request-Id',
        'Origin',
        'X-Forwarded-Host',
        'X-Forwarded-Proto',
        'Forwarded',
        'Range',
        'Content-Range',
      ];
      for (const line of lines) expectClean(await heads(head('GET', '/v2/', `${line}: ${text}`, 'Connection: close')));
    }
  });

  it('is not done by the media type of a manifest', async () => {
    const config = await pushConfig(server, REPOSITORY);
    for (const mediaType of ['a/b\r\nInjected: yes', 'a/b\nInjected: yes', 'a/b\0', 'a/ä', 'a/b c', 'a/"b"']) {
      const manifest = imageOf(config, [], { mediaType });
      const put = await server.request('PUT', `/v2/${REPOSITORY}/manifests/typed`, { body: manifest });
      expect(put.status, mediaType).to.equal(400);
    }
  });

  it('is not done by an artifact type with line breaks, which goes on to the next page', async () => {
    const config = await pushConfig(server, REPOSITORY);
    const subject = descriptorOf(bytesOf('subject of many', 10), IMAGE);
    const artifactType = 'application/x\r\nInjected: yes\r\n\r\n<>"; rel="Injected';
    for (let count = 0; count < 8; count++) {
      const manifest = imageOf(config, [], {
        subject,
        artifactType,
        annotations: { count: `${count} ${'x'.repeat(300)}` },
      });
      expect((await putManifest(server, REPOSITORY, digestOf(manifest), manifest)).status).to.equal(201);
    }
    const target = `/v2/${REPOSITORY}/referrers/${subject.digest}?artifactType=${encodeURIComponent(artifactType)}`;
    const lines = await heads(head('GET', target, 'Connection: close'));
    expectClean(lines);
    expect(lines, 'the type came back').to.match(
      /\r\nLink: <[^>]+artifactType=application%2Fx%0D%0AInjected[^>]+>; rel="next"\r?/,
    );
  });

  it('is not done by a Location that a session gives back', async () => {
    const location = await openUpload(server, REPOSITORY);
    for (const text of BREAKS) {
      const target = `${location}?${text}`;
      expectClean(
        await heads(`${head('PATCH', target, 'Content-Range: 5-5', 'Content-Length: 1', 'Connection: close')}x`),
      );
    }
  });
});
