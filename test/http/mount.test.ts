import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import { bytesOf, close, digestOf, expectBlob, expectError, locationOf, pushBlob } from './content.js';
import { sharedServer } from './shared-server.js';

const SOURCE = 'mount/source';
const bytes = bytesOf('mounted', 5000);
const digest = digestOf(bytes);

describe('mounting a blob', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
    await pushBlob(server, SOURCE, bytes);
  });

  const mount = (name: string, query: string) => server.request('POST', `/v2/${name}/blobs/uploads/?${query}`);

  it('mounts from the repository that is named, into one that did not exist', async () => {
    const mounted = await mount('mount/named', `mount=${digest}&from=${SOURCE}`);
    expect(mounted.status).to.equal(201);
    expect(mounted.headers.get('docker-content-digest')).to.equal(digest);
    const pulled = await server.request('GET', locationOf(mounted));
    expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes)).to.equal(true);
  });

  it('mounts from wherever it finds the blob when no repository is named', async () => {
    expect((await mount('mount/anonymous', `mount=${digest}`)).status).to.equal(201);
    await expectBlob(server, 'mount/anonymous', bytes);
  });

  it('mounts twice, and into the repository that has it', async () => {
    for (let time = 0; time < 2; time++)
      expect((await mount(SOURCE, `mount=${digest}&from=${SOURCE}`)).status).to.equal(201);
  });

  const failing: [string, string][] = [
    ['an unknown digest', `mount=${digestOf('unknown')}&from=${SOURCE}`],
    ['an unknown digest without a source', `mount=${digestOf('unknown')}`],
    ['a source that is not there', `mount=${digest}&from=mount/nowhere`],
    ['a source that can not be there', `mount=${digest}&from=library/`],
    ['a source that does not have the blob', `mount=${digest}&from=mount/poor`],
  ];
  for (const [what, query] of failing) {
    it(`opens an upload instead for ${what}`, async () => {
      await pushBlob(server, 'mount/poor', bytesOf('poor', 10));
      const answer = await mount('mount/failing', query);
      expect(answer.status).to.equal(202);
      const closed = await close(server, locationOf(answer), digest, bytes);
      expect(closed.status).to.equal(201);
      await server.request('DELETE', `/v2/mount/failing/blobs/${digest}`);
    });
  }

  it('leaves the source and the target independent of each other', async () => {
    await pushBlob(server, 'mount/first', bytes);
    await mount('mount/second', `mount=${digest}&from=mount/first`);
    expect((await server.request('DELETE', `/v2/mount/first/blobs/${digest}`)).status).to.equal(202);
    expect((await server.request('HEAD', `/v2/mount/first/blobs/${digest}`)).status).to.equal(404);
    await expectBlob(server, 'mount/second', bytes);
    // What was deleted is no source any more.
    expect((await mount('mount/third', `mount=${digest}&from=mount/first`)).status).to.equal(202);
  });

  it('refuses a mount whose digest is malformed, or whose digest or source is given twice', async () => {
    await expectError(await mount('mount/x', 'mount=sha256:nonsense'), 400, 'DIGEST_INVALID');
    await expectError(await mount('mount/x', `mount=${digest}&mount=${digest}`), 400, 'UNSUPPORTED');
    await expectError(await mount('mount/x', `mount=${digest}&from=a&from=b`), 400, 'UNSUPPORTED');
  });
});
