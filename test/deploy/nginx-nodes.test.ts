// nginx, on the configuration of deploy/nginx, in front of two nodes of one registry: over TLS with a private CA.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { bytesOf, digestOf, pushBlob } from '../http/content.js';
import { exchange, head, Wire } from '../http/wire.js';
import { notRun } from '../support/not-run.js';
import { ADMIN_KEY } from '../support/server.js';
import { find, run } from './support/run.js';
import { startTwoNodes, type TwoNodes } from './support/two-nodes.js';

const MiB = 1024 * 1024;
const UPLOADS = '/v2/team/model/blobs/uploads/';

describe('nginx in front of two nodes', () => {
  let scene: TwoNodes;
  let host = '';

  before(async function () {
    scene = await startTwoNodes(this);
    host = scene.nginx.host;
  });

  after(() => scene?.dispose());

  const locationOf = async (query = '') => {
    const opened = await exchange(host, 'POST', `${UPLOADS}${query}`, { body: Buffer.alloc(0) });
    expect(opened.status, opened.body.toString()).to.equal(202);
    return String(opened.headers.location);
  };

  /** Bytes of bodies that the nodes have received. */
  async function received(): Promise<number> {
    const texts = await Promise.all(
      scene.nodes.map(async (node) => await (await node.request('GET', '/metrics')).text()),
    );
    const counts = texts.map((text) => /^weighhouse_received_bytes_total (\d+)/m.exec(text)?.[1]);
    return counts.reduce((sum, count) => sum + Number(count), 0);
  }

  it('speaks TLS 1.2 and 1.3 to those who trust the private CA, and nothing older', async () => {
    const [name, port] = host.split(':');
    const speak = (version: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3') =>
      new Promise<string | null>((resolve) => {
        const old = version === 'TLSv1.1' ? { ciphers: 'DEFAULT@SECLEVEL=0' } : {};
        const ca = scene.nginx.authority?.pem;
        const socket = connect({
          host: name,
          port: Number(port),
          ca,
          minVersion: version,
          maxVersion: version,
          ...old,
        });
        socket.once('secureConnect', () => resolve(socket.getProtocol()));
        socket.once('error', () => resolve(null));
        socket.once('close', () => resolve(null));
        socket.once('secureConnect', () => socket.destroy());
      });
    expect(await speak('TLSv1.2')).to.equal('TLSv1.2');
    expect(await speak('TLSv1.3')).to.equal('TLSv1.3');
    expect(await speak('TLSv1.1')).to.equal(null);
  });

  it('carries what oras pushes and pulls, by either node', async function () {
    if (!find('oras')) notRun(this, 'oras behind nginx', 'it is not installed (npm run clients:install)');
    const bytes = bytesOf('pushed by oras through nginx', 9 * MiB + 1);
    await writeFile(join(scene.folder, 'model.safetensors'), bytes);
    const trusted = [
      '--ca-file',
      scene.nginx.authority?.file ?? '',
      '--registry-config',
      join(scene.folder, 'login.json'),
    ];
    await run('oras', ['login', host, ...trusted, '-u', 'admin', '--password-stdin'], { input: ADMIN_KEY });
    const image = `${host}/team/oras:v1.0-fp16`;
    await run('oras', ['push', ...trusted, image, 'model.safetensors'], { cwd: scene.folder });
    for (const out of ['first', 'second']) {
      await run('oras', ['pull', ...trusted, image, '-o', join(scene.folder, out)]);
      await run('cmp', [join(scene.folder, 'model.safetensors'), join(scene.folder, out, 'model.safetensors')]);
    }
  });

  it('gives out addresses that are its own, whatever a client says of proxies', async () => {
    const forged = {
      'x-forwarded-for': '203.0.113.9',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': 'evil.example',
    };
    const refused = await exchange(host, 'GET', '/v2/', { headers: { ...forged, authorization: '' } });
    expect(refused.headers['www-authenticate']).to.equal(`Bearer realm="https://${host}/v2/token",service="${host}"`);
    expect(refused.headers['docker-distribution-api-version']).to.equal('registry/2.0');
    const token = await exchange(host, 'GET', `/v2/token?service=${host}&scope=repository:team/model:pull`);
    expect(token.status).to.equal(200);
    expect(await locationOf()).to.match(/^\/v2\/team\/model\/blobs\/uploads\//);
    // Ollama takes no relative one.
    const headers = { ...forged, 'user-agent': 'ollama/0.6.5', 'x-request-id': 'forged-1' };
    const opened = await exchange(host, 'POST', UPLOADS, { headers, body: Buffer.alloc(0) });
    expect(opened.headers.location).to.match(new RegExp(`^https://${host}/v2/`));
    await until('a request of this client is in a log', async () =>
      (await Promise.all(scene.nodes.map((node) => node.log()))).some((log) => log.includes('forged-1')),
    );
    for (const node of scene.nodes) expect(await node.log()).not.to.match(/203\.0\.113\.9|evil\.example/);
  });

  it('passes a slow upload on while it arrives, its chunks to one node after the other', async () => {
    const bytes = bytesOf('slow', 4 * MiB + 7);
    const third = Math.floor(bytes.length / 3);
    const location = await locationOf();
    const before = await received();
    const wire = await Wire.open(host);
    wire.write(head('PATCH', location, 'Content-Type: application/octet-stream', `Content-Length: ${2 * third}`));
    wire.write(bytes.subarray(0, third));
    // None of it is kept back: the registry has this third while the client still owes the next.
    await until('the registry has what was sent', async () => {
      return (await received()) - before >= third;
    });
    wire.write(bytes.subarray(third, 2 * third));
    await wire.until(() => wire.status === 202);
    wire.end();
    const range = { 'content-range': `${2 * third}-${bytes.length - 1}`, 'content-type': 'application/octet-stream' };
    const patched = await exchange(host, 'PATCH', location, { headers: range, body: bytes.subarray(2 * third) });
    expect(patched.status, patched.body.toString()).to.equal(202);
    const closed = await exchange(host, 'PUT', `${location}?digest=${digestOf(bytes)}`, { body: Buffer.alloc(0) });
    expect(closed.status, closed.body.toString()).to.equal(201);
    const pulled = await exchange(host, 'GET', `/v2/team/model/blobs/${digestOf(bytes)}`);
    expect(pulled.body.equals(bytes)).to.equal(true);
  });

  it('takes bodies of any length, announced or in chunks', async () => {
    const bytes = bytesOf('large for a proxy', 24 * MiB);
    const pieces = Array.from({ length: 24 }, (_, index) => bytes.subarray(index * MiB, (index + 1) * MiB));
    for (const body of [bytes, pieces]) {
      const pushed = await exchange(host, 'POST', `${UPLOADS}?digest=${digestOf(bytes)}`, { body });
      expect(pushed.status, pushed.body.toString()).to.equal(201);
    }
  });

  it('hands over the refusal of a body that it is still sending', async () => {
    for (let round = 0; round < 4; round += 1) {
      const wire = await Wire.open(host);
      const lines = ['Authorization: Basic bm86a2V5', `Content-Length: ${1024 * MiB}`];
      wire.write(`POST ${UPLOADS} HTTP/1.1\r\nHost: ${host}\r\n${lines.join('\r\n')}\r\n\r\n`);
      wire.write(Buffer.alloc(2 * MiB));
      await wire.until(() => wire.status !== 0);
      expect(wire.status).to.equal(401);
      wire.end();
    }
  });

  it('has the folder sent by X-Accel-Redirect what the registry would send', async () => {
    const bytes = bytesOf('either way', MiB);
    const digest = await pushBlob(scene.nodes[0], 'team/model', bytes);
    const path = `/v2/team/model/blobs/${digest}`;
    const answer = await exchange(host, 'GET', path, { headers: { range: 'bytes=1000-1999' } });
    expect([answer.status, answer.body.equals(bytes.subarray(1000, 2000))]).to.deep.equal([206, true]);
    // Without nginx nobody sends the bytes, which shows that it was not the node.
    const handed = await exchange(scene.nodes[0].host, 'GET', path);
    expect(handed.headers['x-accel-redirect']).to.match(/^\/weighhouse-blobs\//);
    expect(handed.body.length).to.equal(0);
    for (const name of [
      'docker-content-digest',
      'docker-distribution-api-version',
      'content-type',
      'etag',
      'cache-control',
    ])
      expect(answer.headers[name], name).to.equal(handed.headers[name]);
  });
});
