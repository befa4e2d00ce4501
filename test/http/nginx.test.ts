// Bytes handed over by X-Accel-Redirect, with a real nginx in front, on the configuration of deploy/nginx.
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { expect } from 'chai';
import { isNginxThere, NGINX, startNginx, type TestNginx } from '../support/nginx.js';
import { notRun } from '../support/not-run.js';
import { startServer, type TestServer } from '../support/server.js';
import { bytesOf, close, digestOf, openUpload, patch, pushBlob } from './content.js';
import { parseMultipart } from './multipart.js';
import { exchange } from './wire.js';

const MiB = 1024 * 1024;

describe('downloads behind nginx with X-Accel-Redirect', () => {
  let nginx: TestNginx | undefined;
  let folder = '';
  let host = '';
  let registry: TestServer;

  before(async function () {
    if (!isNginxThere()) notRun(this, 'nginx', `${NGINX} is not there`);
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-blobs-'));
    const blobs = join(folder, 'blobs');
    registry = await startServer({
      tls: false,
      environment: {
        REGISTRY_WORKERS: '1',
        REGISTRY_X_ACCEL_PREFIX: '/weighhouse-blobs/',
        REGISTRY_FILESYSTEM_ROOT: blobs,
      },
    });
    nginx = await startNginx({ nodes: [registry.host], blobs });
    host = nginx.host;
  });

  after(async () => {
    await nginx?.dispose();
    await registry?.dispose();
    if (folder !== '') await rm(folder, { recursive: true, force: true });
  });

  const get = (path: string, headers: Record<string, string> = {}) => exchange(host, 'GET', path, { headers });

  it('sends whole blobs byte by byte, with the registry’s type, digest and cache headers', async () => {
    for (const size of [0, 1, 3 * MiB + 1]) {
      const bytes = bytesOf('behind nginx', size);
      const digest = await pushBlob(registry, 'x/model', bytes);
      const answer = await get(`/v2/x/model/blobs/${digest}`, { 'accept-encoding': 'gzip' });
      expect(answer.status).to.equal(200);
      expect(answer.body.equals(bytes)).to.equal(true);
      expect(answer.headers['content-length']).to.equal(String(size));
      expect(answer.headers['content-type']).to.equal('application/octet-stream');
      expect(answer.headers['docker-content-digest']).to.equal(digest);
      expect(answer.headers.etag).to.equal(`"${digest}"`);
      expect(answer.headers['cache-control']).to.include('immutable');
      expect(answer.headers['x-accel-redirect']).to.equal(undefined);
    }
  });

  it('sends ranges, one and several, and 416', async () => {
    const bytes = bytesOf('ranges behind nginx', MiB);
    const path = `/v2/x/model/blobs/${await pushBlob(registry, 'x/model', bytes)}`;
    for (const [range, first, last] of [
      ['bytes=0-0', 0, 0],
      ['bytes=1000-1999', 1000, 1999],
      ['bytes=-10', MiB - 10, MiB - 1],
      ['bytes=500000-', 500_000, MiB - 1],
    ] as const) {
      const answer = await get(path, { range });
      expect(answer.status).to.equal(206);
      expect(answer.headers['content-range']).to.equal(`bytes ${first}-${last}/${MiB}`);
      expect(answer.body.equals(bytes.subarray(first, last + 1))).to.equal(true);
    }
    const several = await get(path, { range: 'bytes=0-9,100-199' });
    const parts = parseMultipart(several.headers['content-type'], several.body);
    expect(parts.map(({ body }) => body)).to.deep.equal([bytes.subarray(0, 10), bytes.subarray(100, 200)]);
    expect((await get(path, { range: `bytes=${MiB}-` })).status).to.equal(416);
  });

  it('lets the registry answer HEAD, 304, 401, 404 and blobs of several segments', async () => {
    const bytes = bytesOf('one', 1000);
    const digest = await pushBlob(registry, 'x/model', bytes);
    const path = `/v2/x/model/blobs/${digest}`;
    const head = await exchange(host, 'HEAD', path);
    expect([head.status, head.headers['content-length']]).to.deep.equal([200, '1000']);
    expect((await get(path, { 'if-none-match': `"${digest}"` })).status).to.equal(304);
    expect((await get(path, { authorization: '' })).status).to.equal(401);
    expect((await get(`/v2/x/other/blobs/${digest}`)).status).to.equal(404);
    const two = bytesOf('two segments', 190_000);
    const location = await openUpload(registry, 'x/model');
    await patch(registry, location, two.subarray(0, 100_000), 0);
    await close(registry, location, digestOf(two), two.subarray(100_000));
    expect((await get(`/v2/x/model/blobs/${digestOf(two)}`)).body.equals(two)).to.equal(true);
  });

  it('serves nothing of the folder to those who ask for it themselves', async () => {
    const answer = await get('/weighhouse-blobs/weighhouse.marker');
    expect(answer.status).to.equal(404);
    expect((await get('/weighhouse-blobs/../data/admin-key')).status).to.be.oneOf([400, 404]);
  });

  it('takes pushes through nginx as well', async () => {
    const bytes = bytesOf('pushed through nginx', 2 * MiB);
    const path = `/v2/x/model/blobs/uploads/?digest=${digestOf(bytes)}`;
    expect(
      (await exchange(host, 'POST', path, { body: [bytes.subarray(0, MiB), bytes.subarray(MiB)] })).status,
    ).to.equal(201);
    expect((await get(`/v2/x/model/blobs/${digestOf(bytes)}`)).body.equals(bytes)).to.equal(true);
  });
});
