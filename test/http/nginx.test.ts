// Bytes handed over by X-Accel-Redirect, with a real nginx in front, started by hand on a folder of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, chmod, constants, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir, userInfo } from 'node:os';
import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { notRun } from '../support/not-run.js';
import { freePort, startServer, type TestServer } from '../support/server.js';
import { bytesOf, close, digestOf, openUpload, patch, pushBlob } from './content.js';
import { parseMultipart } from './multipart.js';
import { exchange } from './wire.js';

const NGINX = '/usr/sbin/nginx';
const MiB = 1024 * 1024;

function configuration(port: number, server: TestServer): string {
  const blobs = server.environment.REGISTRY_FILESYSTEM_ROOT;
  return `
daemon off;
${userInfo().uid === 0 ? 'user root;' : ''}
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {}
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen 127.0.0.1:${port};
    client_max_body_size 0;
    location / {
      proxy_pass http://${server.host};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_request_buffering off;
      proxy_buffering off;
    }
    location /weighhouse-blobs/ {
      internal;
      alias ${blobs}/;
      etag off;
      add_header ETag $upstream_http_etag;
      add_header Docker-Content-Digest $upstream_http_docker_content_digest;
    }
  }
}
`;
}

describe('downloads behind nginx with X-Accel-Redirect', () => {
  let server: TestServer | undefined;
  let nginx: ChildProcess | undefined;
  let folder = '';
  let host = '';
  let registry: TestServer;

  before(async function () {
    const there = await access(NGINX, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (!there) notRun(this, 'nginx', `${NGINX} is not there`);
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-nginx-'));
    await chmod(folder, 0o755);
    server = await startServer({
      tls: false,
      environment: {
        REGISTRY_WORKERS: '1',
        REGISTRY_X_ACCEL_PREFIX: '/weighhouse-blobs/',
        REGISTRY_FILESYSTEM_ROOT: join(folder, 'blobs'),
      },
    });
    registry = server;
    const port = await freePort();
    host = `127.0.0.1:${port}`;
    const prefix = join(folder, 'nginx');
    await mkdir(prefix);
    await writeFile(join(prefix, 'nginx.conf'), configuration(port, server));
    nginx = spawn(NGINX, ['-p', prefix, '-c', join(prefix, 'nginx.conf'), '-e', join(prefix, 'error.log')], {
      stdio: 'ignore',
    });
    await until('nginx serves', async () => {
      const answer = await fetch(`http://${host}/v2/`).catch(() => undefined);
      return answer?.status === 401;
    });
  });

  after(async () => {
    if (nginx && nginx.exitCode === null) {
      nginx.kill('SIGTERM');
      await once(nginx, 'exit');
    }
    await server?.dispose();
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
    expect((await get('/weighhouse-blobs/../nginx/nginx.conf')).status).to.be.oneOf([400, 404]);
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
