import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import {
  bytesOf,
  descriptorOf,
  digestOf,
  expectBlob,
  expectError,
  imageOf,
  LAYER,
  pushBlob,
  pushConfig,
  pushImage,
  putManifest,
} from './content.js';
import { sharedServer } from './shared-server.js';

describe('deletes over HTTP', () => {
  let server: TestServer;
  before(async () => {
    server = await sharedServer();
  });

  const remove = (path: string) => server.request('DELETE', `/v2/${path}`);
  const status = async (path: string) => (await server.request('HEAD', `/v2/${path}`)).status;
  const tagsOf = async (repository: string) =>
    ((await (await server.request('GET', `/v2/${repository}/tags/list`)).json()) as { tags: string[] }).tags;

  it('deletes a tag and leaves its manifest and the other tags', async () => {
    const bytes = await pushImage(server, 'deletes/tag', 'one');
    await pushImage(server, 'deletes/tag', 'two');
    const removed = await remove('deletes/tag/manifests/one');
    expect(removed.status).to.equal(202);
    expect(removed.headers.get('content-length')).to.equal('0');
    expect(await status('deletes/tag/manifests/one')).to.equal(404);
    expect(await status('deletes/tag/manifests/two')).to.equal(200);
    expect(await status(`deletes/tag/manifests/${digestOf(bytes)}`)).to.equal(200);
    expect(await tagsOf('deletes/tag')).to.deep.equal(['two']);
    await expectError(await remove('deletes/tag/manifests/one'), 404, 'MANIFEST_UNKNOWN');
  });

  it('deletes a manifest with all its tags, and no other', async () => {
    const bytes = await pushImage(server, 'deletes/manifest', 'one');
    await pushImage(server, 'deletes/manifest', 'two');
    await pushImage(server, 'deletes/manifest', 'kept', { annotations: { another: 'manifest' } });
    const path = `deletes/manifest/manifests/${digestOf(bytes)}`;
    expect((await remove(path)).status).to.equal(202);
    for (const gone of [path, 'deletes/manifest/manifests/one', 'deletes/manifest/manifests/two'])
      expect(await status(gone)).to.equal(404);
    expect(await tagsOf('deletes/manifest')).to.deep.equal(['kept']);
    await expectError(await remove(path), 404, 'MANIFEST_UNKNOWN');
  });

  it('deletes a blob that no manifest names, at once', async () => {
    const bytes = bytesOf('to be deleted', 100);
    const path = `deletes/blob/blobs/${await pushBlob(server, 'deletes/blob', bytes)}`;
    expect((await remove(path)).status).to.equal(202);
    expect(await status(path)).to.equal(404);
    await expectError(await server.request('GET', `/v2/${path}`), 404, 'BLOB_UNKNOWN');
    await expectError(await remove(path), 404, 'BLOB_UNKNOWN');
    await pushBlob(server, 'deletes/blob', bytes);
    await expectBlob(server, 'deletes/blob', bytes);
  });

  it('denies to delete a blob that a manifest of the repository names, until the manifest is deleted', async () => {
    const repository = 'deletes/named';
    const layer = bytesOf('named layer', 100);
    const digest = await pushBlob(server, repository, layer);
    const config = await pushConfig(server, repository);
    const manifest = imageOf(config, [descriptorOf(layer, LAYER)]);
    expect((await putManifest(server, repository, 'v1', manifest)).status).to.equal(201);
    for (const named of [digest, config.digest])
      await expectError(await remove(`${repository}/blobs/${named}`), 403, 'DENIED');
    await expectBlob(server, repository, layer);
    await remove(`${repository}/manifests/v1`);
    await expectError(await remove(`${repository}/blobs/${digest}`), 403, 'DENIED');
    await remove(`${repository}/manifests/${digestOf(manifest)}`);
    for (const named of [digest, config.digest])
      expect((await remove(`${repository}/blobs/${named}`)).status).to.equal(202);
  });

  it('leaves the same blobs and manifests of other repositories alone', async () => {
    const bytes = bytesOf('in two repositories', 100);
    for (const repository of ['deletes/left', 'deletes/right']) await pushBlob(server, repository, bytes);
    await remove(`deletes/left/blobs/${digestOf(bytes)}`);
    await expectBlob(server, 'deletes/right', bytes);
    const manifest = await pushImage(server, 'deletes/left', 'v1');
    await pushImage(server, 'deletes/right', 'v1');
    await remove(`deletes/left/manifests/${digestOf(manifest)}`);
    expect(await status('deletes/right/manifests/v1')).to.equal(200);
    expect(await status('deletes/left/manifests/v1')).to.equal(404);
  });

  it('shows a deletion and a new push at once, whichever worker answers', async () => {
    for (let round = 0; round < 10; round++) {
      const bytes = await pushImage(server, 'deletes/at-once', 'v1');
      const path = `deletes/at-once/manifests/${digestOf(bytes)}`;
      expect((await remove(path)).status).to.equal(202);
      const seen = await Promise.all(Array.from({ length: 6 }, () => status(path)));
      expect(seen).to.deep.equal([404, 404, 404, 404, 404, 404]);
    }
  });

  it('refuses to delete by malformed digests, and does not find what is in no repository', async () => {
    await expectError(await remove('deletes/blob/blobs/sha256:short'), 400, 'DIGEST_INVALID');
    await expectError(await remove(`deletes/nowhere/blobs/${digestOf('x')}`), 404, 'BLOB_UNKNOWN');
    await expectError(await remove(`deletes/nowhere/manifests/${digestOf('x')}`), 404, 'MANIFEST_UNKNOWN');
    await expectError(await remove('deletes/nowhere/manifests/latest'), 404, 'MANIFEST_UNKNOWN');
  });
});
