import { expect } from 'chai';
import type { TestServer } from '../support/server.js';
import {
  bytesOf,
  descriptorOf,
  digestOf,
  expectError,
  IMAGE,
  imageOf,
  INDEX,
  indexOf,
  LAYER,
  locationOf,
  pushBlob,
  pushConfig,
  pushImage,
  putManifest,
  type TestDescriptor,
} from './content.js';
import { sharedServer } from './shared-server.js';
import { exchange } from './wire.js';

const REPOSITORY = 'manifests/model';
const DOCKER = 'application/vnd.docker.distribution.manifest.v2+json';
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';

describe('manifests over HTTP', () => {
  let server: TestServer;
  let config: TestDescriptor;
  let layer: TestDescriptor;
  before(async () => {
    server = await sharedServer();
    config = await pushConfig(server, REPOSITORY);
    const bytes = bytesOf('layer of manifests', 1000);
    await pushBlob(server, REPOSITORY, bytes);
    layer = descriptorOf(bytes, LAYER);
  });

  it('gives back the very bytes, however they are spaced and whatever else they say', async () => {
    const text = `\n{ "schemaVersion" : 2,\t"mediaType":"${IMAGE}","zebra":[1.0,1e2,"\\u00e9é"],\r\n"config":${JSON.stringify(config)},"layers":[]  }\n\n`;
    const bytes = Buffer.from(text);
    const pushed = await putManifest(server, REPOSITORY, 'spaced', bytes);
    expect(pushed.status).to.equal(201);
    expect(pushed.headers.get('docker-content-digest')).to.equal(digestOf(bytes));
    expect(pushed.headers.get('warning')).to.equal(null);
    for (const path of [locationOf(pushed), `/v2/${REPOSITORY}/manifests/spaced`]) {
      const pulled = await exchange(server.host, 'GET', path);
      expect(pulled.status).to.equal(200);
      expect(pulled.body.equals(bytes)).to.equal(true);
      expect(pulled.headers['content-type']).to.equal(IMAGE);
      expect(pulled.headers['content-length']).to.equal(String(bytes.length));
      expect(pulled.headers['docker-content-digest']).to.equal(digestOf(bytes));
      expect(pulled.headers.etag).to.equal(`"${digestOf(bytes)}"`);
    }
  });

  it('answers HEAD as it does GET, without the body', async () => {
    const bytes = await pushImage(server, REPOSITORY, 'head');
    for (const reference of ['head', digestOf(bytes)]) {
      const path = `/v2/${REPOSITORY}/manifests/${reference}`;
      const [head, get] = await Promise.all([exchange(server.host, 'HEAD', path), exchange(server.host, 'GET', path)]);
      expect(head.status).to.equal(200);
      expect(head.body).to.have.lengthOf(0);
      for (const name of ['content-type', 'content-length', 'docker-content-digest', 'etag', 'cache-control'])
        expect(head.headers[name], name).to.equal(get.headers[name]);
    }
  });

  it('answers 304 to If-None-Match of the digest, and 200 when the tag has moved', async () => {
    const bytes = await pushImage(server, REPOSITORY, 'cached');
    const etag = `"${digestOf(bytes)}"`;
    for (const method of ['GET', 'HEAD']) {
      for (const tag of [etag, `W/${etag}`, `"x", ${etag}`, '*', digestOf(bytes)]) {
        const path = `/v2/${REPOSITORY}/manifests/cached`;
        const answer = await exchange(server.host, method, path, { headers: { 'if-none-match': tag } });
        expect(answer.status, tag).to.equal(304);
        expect(answer.headers.etag).to.equal(etag);
        expect(answer.headers['docker-content-digest']).to.equal(digestOf(bytes));
        expect(answer.headers['content-type']).to.equal(undefined);
      }
    }
    await pushImage(server, REPOSITORY, 'cached', { annotations: { moved: 'yes' } });
    const path = `/v2/${REPOSITORY}/manifests/cached`;
    const answer = await server.request('GET', path, { headers: { 'if-none-match': etag } });
    expect(answer.status).to.equal(200);
  });

  it('sends the manifest whatever Accept says, in one line or several', async () => {
    const bytes = await pushImage(server, REPOSITORY, 'accepted');
    const path = `/v2/${REPOSITORY}/manifests/accepted`;
    for (const accept of [
      undefined,
      '*/*',
      'text/html',
      INDEX,
      [INDEX, IMAGE],
      [IMAGE, DOCKER],
      `${DOCKER}, ${INDEX}`,
    ]) {
      const answer = await exchange(server.host, 'GET', path, { headers: accept === undefined ? {} : { accept } });
      expect(answer.status).to.equal(200);
      expect(answer.headers['content-type']).to.equal(IMAGE);
      expect(answer.body.equals(bytes)).to.equal(true);
    }
  });

  it('takes Docker schema 2, images and lists', async () => {
    const image = imageOf(config, [layer], { mediaType: DOCKER });
    expect((await putManifest(server, REPOSITORY, 'docker', image, DOCKER)).status).to.equal(201);
    const list = indexOf([descriptorOf(image, DOCKER)], { mediaType: DOCKER_LIST });
    expect((await putManifest(server, REPOSITORY, 'docker-list', list, DOCKER_LIST)).status).to.equal(201);
    const pulled = await server.request('GET', `/v2/${REPOSITORY}/manifests/docker-list`);
    expect(pulled.headers.get('content-type')).to.equal(DOCKER_LIST);
  });

  it('refuses Docker schema 1 in words that say so', async () => {
    const old = Buffer.from(JSON.stringify({ schemaVersion: 1, name: 'x', tag: 'y', fsLayers: [], history: [] }));
    for (const suffix of ['v1+json', 'v1+prettyjws']) {
      const type = `application/vnd.docker.distribution.manifest.${suffix}`;
      const answer = await putManifest(server, REPOSITORY, 'old', old, type);
      expect(await answer.clone().text()).to.include('schema 1');
      await expectError(answer, 400, 'MANIFEST_INVALID');
    }
  });

  it('takes any type of config, layer and artifact', async () => {
    const odd = { ...config, mediaType: 'application/vnd.ollama.whatever+x' };
    const text = { ...layer, mediaType: 'text/plain; charset=utf-8' };
    const bytes = imageOf(odd, [text], { artifactType: 'application/vnd.cncf.model.manifest.v1+json' });
    expect((await putManifest(server, REPOSITORY, 'odd', bytes)).status).to.equal(201);
  });

  it('ignores parameters of the Content-Type and answers without them', async () => {
    const bytes = imageOf(config, [layer], { annotations: { parameters: 'ignored' } });
    const pushed = await putManifest(server, REPOSITORY, 'parameters', bytes, `${IMAGE}; charset=utf-8`);
    expect(pushed.status).to.equal(201);
    const pulled = await exchange(server.host, 'GET', `/v2/${REPOSITORY}/manifests/parameters`);
    expect(pulled.headers['content-type']).to.equal(IMAGE);
  });

  it('takes a manifest without mediaType under its Content-Type, and warns', async () => {
    const bytes = imageOf(config, [layer], { mediaType: undefined });
    const pushed = await putManifest(server, REPOSITORY, 'typeless', bytes);
    expect(pushed.status).to.equal(201);
    expect(pushed.headers.get('warning')).to.match(/^299 - "[^"]*mediaType[^"]*"$/);
  });

  it('takes an index whose manifests are not there, empty ones and nested ones', async () => {
    const absent = descriptorOf(Buffer.from('absent'), IMAGE);
    const outer = indexOf([absent]);
    expect((await putManifest(server, REPOSITORY, 'sparse', outer, INDEX)).status).to.equal(201);
    const nested = indexOf([descriptorOf(outer, INDEX)]);
    expect((await putManifest(server, REPOSITORY, 'nested', nested, INDEX)).status).to.equal(201);
    expect((await putManifest(server, REPOSITORY, 'empty', indexOf([]), INDEX)).status).to.equal(201);
  });

  it('takes layers that are not to be distributed without their blobs', async () => {
    for (const mediaType of [
      'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
      'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    ]) {
      const foreign = descriptorOf(Buffer.from(mediaType), mediaType);
      expect((await putManifest(server, REPOSITORY, 'foreign', imageOf(config, [foreign]))).status).to.equal(201);
    }
  });

  it('refuses a manifest whose blobs are missing, and names them', async () => {
    const missing = [1, 2].map((n) => descriptorOf(Buffer.from(`missing ${n}`), LAYER));
    const answer = await putManifest(server, REPOSITORY, 'missing', imageOf(config, [layer, ...missing]));
    const error = await expectError(answer, 400, 'MANIFEST_BLOB_UNKNOWN');
    expect(error.detail).to.deep.equal({ missing: missing.map(({ digest }) => digest) });
    expect((await server.request('HEAD', `/v2/${REPOSITORY}/manifests/missing`)).status).to.equal(404);
    // A blob of another repository is not there either.
    const elsewhere = await putManifest(server, 'manifests/elsewhere', 'v1', imageOf(config, [layer]));
    await expectError(elsewhere, 400, 'MANIFEST_BLOB_UNKNOWN');
  });

  it('refuses a manifest by digest whose bytes are others', async () => {
    const bytes = imageOf(config, [layer]);
    const altered = Buffer.from(bytes.toString().replace('"layers":[', '"layers": ['));
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const answer = await putManifest(server, 'manifests/altered', digestOf(bytes, algorithm), altered);
      await expectError(answer, 400, 'DIGEST_INVALID');
    }
  });

  it('takes a manifest of almost four megabytes, and refuses one above 4 MiB with 413', async () => {
    const large = imageOf(config, [layer], { annotations: { large: 'x'.repeat(4_000_000) } });
    expect((await putManifest(server, REPOSITORY, 'large', large)).status).to.equal(201);
    const pulled = await server.request('GET', `/v2/${REPOSITORY}/manifests/large`);
    expect(Buffer.from(await pulled.arrayBuffer()).equals(large)).to.equal(true);
    const tooLarge = imageOf(config, [layer], { annotations: { large: 'x'.repeat(4 * 1024 * 1024) } });
    await expectError(await putManifest(server, REPOSITORY, 'too-large', tooLarge), 413, 'SIZE_INVALID');
    const path = `/v2/${REPOSITORY}/manifests/too-large`;
    const chunked = await exchange(server.host, 'PUT', path, { headers: { 'content-type': IMAGE }, body: [tooLarge] });
    expect(chunked.status).to.equal(413);
  });

  const invalid: [string, string | Buffer, string?][] = [
    ['is no JSON', '{'],
    ['is empty', ''],
    ['is no UTF-8', Buffer.from([0x22, 0xff, 0x22])],
    ['is an array', '[]'],
    ['is null', 'null'],
    ['has a contradicting mediaType', JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [] })],
    ['is an image by type and an index by shape', JSON.stringify({ schemaVersion: 2, manifests: [] })],
    ['is nested too deep', `${'['.repeat(100_000)}`],
    ['names a field twice', '{"schemaVersion":2,"schemaVersion":2}'],
    ['has no type that can be read', JSON.stringify({ schemaVersion: 2, manifests: [] }), 'nonsense'],
  ];
  for (const [what, text, type] of invalid) {
    it(`refuses a manifest that ${what}`, async () => {
      const answer = await putManifest(server, REPOSITORY, 'invalid', Buffer.from(text), type);
      await expectError(answer, 400, 'MANIFEST_INVALID');
      expect((await server.request('HEAD', `/v2/${REPOSITORY}/manifests/invalid`)).status).to.equal(404);
    });
  }

  for (const tag of ['-x', '.x', 'a'.repeat(129), 'a%20b', 'ä', 'a+b', '%00', 'a%0Ab']) {
    it(`refuses the tag "${tag.slice(0, 20)}" of ${tag.length} characters, and does not find it`, async () => {
      const path = `/v2/${REPOSITORY}/manifests/${tag}`;
      const headers = { 'content-type': IMAGE };
      await expectError(
        await server.request('PUT', path, { headers, body: imageOf(config, []) }),
        400,
        'MANIFEST_INVALID',
      );
      await expectError(await server.request('GET', path), 404, 'MANIFEST_UNKNOWN');
    });
  }

  it('does not find manifests that are not there', async () => {
    const path = `/v2/${REPOSITORY}/manifests`;
    for (const reference of ['nothing', digestOf('nothing')]) {
      await expectError(await server.request('GET', `${path}/${reference}`), 404, 'MANIFEST_UNKNOWN');
      expect((await server.request('HEAD', `${path}/${reference}`)).status).to.equal(404);
      await expectError(await server.request('DELETE', `${path}/${reference}`), 404, 'MANIFEST_UNKNOWN');
    }
    await expectError(await server.request('GET', '/v2/manifests/nowhere/manifests/latest'), 404, 'MANIFEST_UNKNOWN');
    await expectError(await server.request('GET', `${path}/sha256:baddigeststring`), 400, 'DIGEST_INVALID');
  });
});
