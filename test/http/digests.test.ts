import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import {
  bytesOf,
  close,
  descriptorOf,
  digestOf,
  expectBlob,
  expectError,
  imageOf,
  LAYER,
  openUpload,
  patch,
  pushBlob,
  pushConfig,
  putManifest,
} from './content.js';
import { sharedServer } from './shared-server.js';

const REPOSITORY = 'digests/model';
const bytes = bytesOf('digests', 200_000);
const sha512 = digestOf(bytes, 'sha512');

describe('digest algorithms over HTTP', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  const ways: [string, string, (location: string) => Promise<Response>][] = [
    ['a closing PUT with all bytes', '', (at) => close(server, at, sha512, bytes)],
    ['a closing PUT with all bytes, announced', '?digest-algorithm=sha512', (at) => close(server, at, sha512, bytes)],
    [
      'PATCH and an empty PUT, announced',
      '?digest-algorithm=sha512',
      async (at) => {
        await patch(server, at, bytes, 0);
        return await close(server, at, sha512);
      },
    ],
    [
      'PATCH and an empty PUT, not announced',
      '',
      async (at) => {
        await patch(server, at, bytes.subarray(0, 70_000), 0);
        await patch(server, at, bytes.subarray(70_000), 70_000);
        return await close(server, at, sha512);
      },
    ],
    [
      'PATCH and the last chunk in the PUT, not announced',
      '',
      async (at) => {
        await patch(server, at, bytes.subarray(0, 70_000), 0);
        return await close(server, at, sha512, bytes.subarray(70_000));
      },
    ],
  ];
  for (const [index, [what, query, push]] of ways.entries()) {
    it(`takes sha512 by ${what}`, async () => {
      const name = `digests/way${index}`;
      const closed = await push(await openUpload(server, name, query));
      expect(closed.status).to.equal(201);
      expect(closed.headers.get('docker-content-digest')).to.equal(sha512);
      await expectBlob(server, name, bytes, sha512);
    });
  }

  it('takes sha256 in a session that announced sha512', async () => {
    const location = await openUpload(server, REPOSITORY, '?digest-algorithm=sha512');
    await patch(server, location, bytes, 0);
    expect((await close(server, location, digestOf(bytes))).status).to.equal(201);
    await expectBlob(server, REPOSITORY, bytes);
  });

  it('corrects a wrong sha512 after PATCH without losing the session', async () => {
    const location = await openUpload(server, REPOSITORY, '?digest-algorithm=sha512');
    await patch(server, location, bytes, 0);
    await expectError(await close(server, location, digestOf('other', 'sha512')), 400, 'DIGEST_INVALID');
    expect((await close(server, location, sha512)).status).to.equal(201);
  });

  it('keeps the same bytes under two algorithms apart', async () => {
    const small = bytesOf('two algorithms', 500);
    await pushBlob(server, 'digests/apart', small, 'sha512');
    expect((await server.request('HEAD', `/v2/digests/apart/blobs/${digestOf(small)}`)).status).to.equal(404);
    await expectBlob(server, 'digests/apart', small, digestOf(small, 'sha512'));
  });

  it('takes manifests by sha512, with blobs by sha512, and answers in the algorithm that was asked', async () => {
    const layer = bytesOf('layer', 1000);
    await pushBlob(server, REPOSITORY, layer, 'sha512');
    const manifest = imageOf(await pushConfig(server, REPOSITORY), [descriptorOf(layer, LAYER, 'sha512')]);
    const digest = digestOf(manifest, 'sha512');
    const pushed = await putManifest(server, REPOSITORY, `${digest}?tag=by-sha512`, manifest);
    expect(pushed.status).to.equal(201);
    for (const reference of [digest, 'by-sha512']) {
      const pulled = await server.request('GET', `/v2/${REPOSITORY}/manifests/${reference}`);
      expect(pulled.headers.get('docker-content-digest')).to.equal(digest);
      expect(Buffer.from(await pulled.arrayBuffer()).equals(manifest)).to.equal(true);
    }
    const referrers = await server.request('GET', `/v2/${REPOSITORY}/referrers/${digest}`);
    expect(referrers.status).to.equal(200);
  });

  for (const algorithm of ['md5', 'sha384', 'SHA256', '', 'sha256:']) {
    it(`refuses the algorithm "${algorithm}" with DIGEST_INVALID`, async () => {
      const path = `/v2/${REPOSITORY}/blobs/uploads/?digest-algorithm=${algorithm}`;
      await expectError(await server.request('POST', path), 400, 'DIGEST_INVALID');
    });
  }
});
