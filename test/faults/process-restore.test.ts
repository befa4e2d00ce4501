import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { basic } from '../support/keys.js';
import { createDatabase, type TestDatabase } from '../support/postgres.js';
import { startServer, type TestServer } from '../support/server.js';
import { Content } from './support/bytes.js';
import { runCommand } from './support/command.js';
import { pull } from './support/exchange.js';

const MiB = 1024 * 1024;
const TYPE = 'application/vnd.oci.image.manifest.v1+json';

describe('a database restored to before what its store holds', function () {
  this.timeout(120_000);
  let live: TestDatabase;
  let backup: TestDatabase | undefined;
  let server: TestServer | undefined;

  afterEach(async () => {
    await server?.dispose();
    await backup?.drop();
    await live.drop();
  });

  async function push(target: TestServer, content: Content, tag: string): Promise<number> {
    const uploaded = await target.request('POST', `/v2/restored/blobs/uploads/?digest=${content.digest}`, {
      body: content.part(0, content.size),
    });
    if (uploaded.status !== 201) return uploaded.status;
    const descriptor = { mediaType: 'application/octet-stream', digest: content.digest, size: content.size };
    const manifest = { schemaVersion: 2, mediaType: TYPE, config: descriptor, layers: [] };
    const put = await target.request('PUT', `/v2/restored/manifests/${tag}`, {
      body: JSON.stringify(manifest),
      headers: { 'content-type': TYPE },
    });
    return put.status;
  }

  it('shows what it knew, keeps the bytes that it does not know, and takes them in again', async () => {
    live = await createDatabase();
    const settings = { REGISTRY_DATABASE_URL: live.url, REGISTRY_ORPHAN_INTERVAL: '1', REGISTRY_JOB_INTERVAL: '1' };
    server = await startServer({ environment: settings });
    const [before, after] = [new Content('before the backup', 2 * MiB), new Content('after the backup', 3 * MiB)];
    expect(await push(server, before, 'v1')).to.equal(201);
    const { REGISTRY_DATA_DIR = '' } = server.environment;
    const command = { REGISTRY_DATABASE_URL: live.url, REGISTRY_DATA_DIR };
    const key = (await runCommand('key', command, ['create', 'x', '--grant', '**=pull'])).said.trim();
    await server.stop();
    backup = await createDatabase({ copyOf: live });

    await server.start();
    expect(await push(server, after, 'v2')).to.equal(201);
    expect((await runCommand('key', command, ['revoke', key.split('_')[1] ?? ''])).code).to.equal(0);
    await server.stop();
    const blobs = join(REGISTRY_DATA_DIR, 'blobs');
    const objects = async () => (await readdir(blobs, { recursive: true })).filter((name) => /[0-9a-f]{8}/.test(name));
    const held = await objects();

    const again = { ...settings, REGISTRY_DATABASE_URL: backup.url, REGISTRY_DATA_DIR };
    const restored = await startServer({ environment: again });
    try {
      expect(await pull(restored.host, `/v2/restored/blobs/${before.digest}`)).to.include({
        status: 200,
        digest: before.digest,
      });
      expect((await restored.request('GET', '/v2/restored/manifests/v2')).status).to.equal(404);
      expect((await restored.request('HEAD', `/v2/restored/blobs/${after.digest}`)).status).to.equal(404);
      // As the page on operations says: what was revoked since is good again.
      expect((await restored.request('GET', '/v2/', { headers: { authorization: basic(key) } })).status).to.equal(200);
      // The store is looked through every second; what nobody names stays for a week.
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      expect(await objects()).to.include.members(held);
      expect(await push(restored, after, 'v2')).to.equal(201);
      expect((await pull(restored.host, `/v2/restored/blobs/${after.digest}`))?.digest).to.equal(after.digest);
    } finally {
      await restored.dispose();
    }
  });
});
