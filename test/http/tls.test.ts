import { once } from 'node:events';
import { copyFile, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { connect as connectBare } from 'node:net';
import { join } from 'node:path';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { runCommand } from '../faults/support/command.js';
import { allServe, until, untilLogged } from '../faults/support/processes.js';
import type { IssuedCertificate, PrivateAuthority } from '../support/certificates.js';
import { AUTHORIZATION, startServer, type TestServer } from '../support/server.js';
import { bytesOf, close, digestOf, expectBlob, openUpload, patch, pushBlob, untilOffset } from './content.js';
import { head, Wire } from './wire.js';

const MiB = 1024 * 1024;
const REPOSITORY = 'secure/model';

async function handshake(server: TestServer, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const [host = '', port] = server.host.split(':');
  const trusted = server.authority ? { ca: server.authority.pem } : {};
  const socket = connect({ host, port: Number(port), ...trusted, ...options });
  await once(socket, 'secureConnect');
  return socket;
}

/** The error with which a handshake ends. */
async function refusal(server: TestServer, options: ConnectionOptions): Promise<string | undefined> {
  try {
    (await handshake(server, options)).destroy();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

describe('HTTPS', function () {
  this.timeout(60_000);
  let server: TestServer;
  before(async () => {
    server = await startServer({
      tls: true,
      environment: { REGISTRY_HEADERS_TIMEOUT: '2', REGISTRY_IDLE_TIMEOUT: '2', REGISTRY_MANIFEST_MAX_BYTES: '1024' },
    });
  });
  after(() => server?.dispose());

  it('is spoken in TLS 1.2 and 1.3 to clients that trust the private CA, and in nothing older', async () => {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await handshake(server, { minVersion: version, maxVersion: version });
      expect(socket.getProtocol()).to.equal(version);
      socket.destroy();
    }
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    expect(await refusal(server, old)).to.equal('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
    const [host = '', port] = server.host.split(':');
    const stranger = connect({ host, port: Number(port) });
    const [error] = (await once(stranger, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).to.equal('UNABLE_TO_VERIFY_LEAF_SIGNATURE');
  });

  it('is announced with lines to paste that do not say --plain-http', async () => {
    await untilLogged(server, `Weighhouse serves https://${server.host} with 2 workers`);
    await untilLogged(server, `oras pull ${server.host}/team/model`);
    expect(await server.log()).not.to.include('--plain-http');
  });

  it('tells a client of plain HTTP what is wrong', async () => {
    const answer = await fetch(`http://${server.host}/v2/`);
    expect(answer.status).to.equal(400);
    expect(await answer.text()).to.include('this port speaks HTTPS');
  });

  it('asks for a body by 100 Continue, and only when it is wanted', async () => {
    const bytes = bytesOf('asked for', 1000);
    const put = async (digest: string) => {
      const location = await openUpload(server, REPOSITORY);
      const outgoing = request(new URL(`${location}?digest=${digest}`, server.url), {
        method: 'PUT',
        ca: server.authority?.pem,
        agent: false,
        headers: { authorization: AUTHORIZATION, expect: '100-continue', 'content-length': bytes.length },
      });
      let continued = false;
      outgoing.on('continue', () => {
        continued = true;
        outgoing.end(bytes);
      });
      outgoing.flushHeaders();
      const [response] = (await once(outgoing, 'response')) as [import('node:http').IncomingMessage];
      outgoing.destroy();
      return { status: response.statusCode, continued };
    };
    expect(await put(digestOf(bytes))).to.deep.equal({ status: 201, continued: true });
    expect(await put('bad')).to.deep.equal({ status: 400, continued: false });
  });

  it('carries whole blobs and ranges of them', async () => {
    const bytes = bytesOf('ranges', 5 * MiB);
    const digest = await pushBlob(server, REPOSITORY, bytes);
    await expectBlob(server, REPOSITORY, bytes);
    const range = { range: `bytes=${MiB}-${3 * MiB}` };
    const part = await server.request('GET', `/v2/${REPOSITORY}/blobs/${digest}`, { headers: range });
    expect(part.status).to.equal(206);
    expect(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(MiB, 3 * MiB + 1))).to.equal(true);
  });

  for (const [how, cut] of [
    ['ends', (socket: Wire['socket']) => socket.destroy()],
    ['falls silent', () => undefined],
  ] as const) {
    it(`keeps what came of an upload whose client ${how}`, async () => {
      const bytes = bytesOf(how, 100_000);
      const location = await openUpload(server, REPOSITORY);
      const wire = await Wire.open(server.host);
      wire.write(head('PATCH', location, `Content-Length: ${bytes.length}`));
      await new Promise<void>((resolve) => wire.socket.write(bytes.subarray(0, 40_000), () => resolve()));
      await untilOffset(server, location, 40_000);
      cut(wire.socket);
      await wire.untilClosed();
      await patch(server, location, bytes.subarray(40_000), 40_000);
      expect((await close(server, location, digestOf(bytes))).status).to.equal(201);
      await expectBlob(server, REPOSITORY, bytes);
    });
  }

  it('answers a refused body while the client is still sending', async () => {
    const wire = await Wire.open(server.host);
    wire.write(head('PUT', `/v2/${REPOSITORY}/manifests/large`, `Content-Length: ${1024 * MiB}`));
    const flood = setInterval(() => wire.socket.write(Buffer.alloc(65536)), 5);
    try {
      await wire.untilAnswers(1);
      expect(wire.status).to.equal(413);
      await wire.untilClosed();
    } finally {
      clearInterval(flood);
    }
  });

  it('answers what is no HTTP in words', async () => {
    const wrong = (await Wire.open(server.host)).write('no request\r\n\r\n');
    const large = (await Wire.open(server.host)).write(head('GET', '/v2/', `X-Large: ${'x'.repeat(200_000)}`));
    const slow = (await Wire.open(server.host)).write('GET /v2/ HTTP/1.1\r\n');
    await Promise.all([wrong, large, slow].map((wire) => wire.untilClosed()));
    expect([wrong.status, large.status, slow.status]).to.deep.equal([400, 431, 408]);
  });

  it('cuts off clients that take nothing, and those that do not finish their handshake', async () => {
    const digest = await pushBlob(server, REPOSITORY, bytesOf('stalled', 30 * MiB));
    const stalled = await Wire.open(server.host);
    stalled.socket.pause();
    stalled.write(head('GET', `/v2/${REPOSITORY}/blobs/${digest}`));
    const [host = '', port] = server.host.split(':');
    const silent = connectBare({ host, port: Number(port) });
    const half = connectBare({ host, port: Number(port) });
    // The beginning of a record that says 512 bytes will follow.
    half.write(Buffer.from([22, 3, 1, 2, 0, 1]));
    await Promise.all([silent, half].map((socket) => once(socket.resume(), 'close')));
    await new Promise((resolve) => setTimeout(resolve, 6_000));
    stalled.socket.resume();
    await stalled.untilClosed();
    expect(stalled.received.length).to.be.below(30 * MiB);
  });
});

describe('the certificate', function () {
  this.timeout(120_000);
  let server: TestServer;
  let authority: PrivateAuthority;
  /** As Kubernetes mounts secrets: the files are links through `..data`, which is exchanged. */
  let mount: string;
  let mounted = 0;

  async function exchange(cert: string, key: string): Promise<void> {
    mounted += 1;
    await mkdir(join(mount, `..${mounted}`));
    await copyFile(cert, join(mount, `..${mounted}`, 'tls.crt'));
    await copyFile(key, join(mount, `..${mounted}`, 'tls.key'));
    await symlink(`..${mounted}`, join(mount, '..new'));
    await rename(join(mount, '..new'), join(mount, '..data'));
  }

  async function servedSerials(): Promise<string[]> {
    const serials = new Set<string>();
    for (let count = 0; count < 10; count++) {
      const socket = await handshake(server, { ca: authority.pem });
      serials.add(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    }
    return [...serials];
  }

  const errors = async () => (await server.log()).split('the certificate was not exchanged').length - 1;

  let first: IssuedCertificate;
  before(async () => {
    server = await startServer({ tls: true });
    if (!server.authority) throw new Error('the server has no certificate');
    authority = server.authority;
    first = await authority.issue();
    await server.stop();
    mount = join(server.folder, 'mount');
    await mkdir(mount);
    await exchange(first.cert, first.key);
    for (const name of ['tls.crt', 'tls.key']) await symlink(`..data/${name}`, join(mount, name));
  });
  after(() => server?.dispose());

  it('is exchanged while connections go on, and a pair that does not fit is not', async () => {
    Object.assign(server.environment, {
      REGISTRY_TLS_CERT: join(mount, 'tls.crt'),
      REGISTRY_TLS_KEY: join(mount, 'tls.key'),
    });
    await server.start();
    await allServe(server);
    expect(await servedSerials()).to.deep.equal([first.serial]);
    const old = await Wire.open(server.host);
    await old.write(head('GET', '/v2/')).untilAnswers(1);

    const second = await authority.issue();
    await exchange(second.cert, first.key);
    await until('each worker complains', async () => (await errors()) === 2);
    await untilLogged(server, 'does not belong to the certificate');
    expect(await servedSerials()).to.deep.equal([first.serial]);

    await exchange(second.cert, second.key);
    // Ten connections may all have come to one of them.
    const exchanges = async () => (await server.log()).split('another certificate is served').length - 1;
    await until('each worker has exchanged it', async () => (await exchanges()) === 2, 60_000);
    expect(await servedSerials()).to.deep.equal([second.serial]);
    await old.write(head('GET', '/v2/')).untilAnswers(2);
    expect(old.status).to.equal(200);
    expect((old.socket as TLSSocket).getPeerCertificate().serialNumber).to.equal(first.serial);
    old.end();

    await rename(join(mount, '..data'), join(mount, '..away'));
    await until('each worker complains of the missing file', async () => (await errors()) === 4);
    expect(await servedSerials()).to.deep.equal([second.serial]);
  });

  it('that can not be served is told at the start, by the name of its setting', async () => {
    const other = await authority.issue();
    const text = join(server.folder, 'text');
    await writeFile(text, 'no PEM\n');
    const said = async (cert: string, key: string) => {
      const environment = {
        REGISTRY_DATA_DIR: join(server.folder, 'unused'),
        REGISTRY_TLS_CERT: cert,
        REGISTRY_TLS_KEY: key,
      };
      const refused = await runCommand('serve', environment);
      expect(refused.code).to.equal(1);
      expect(refused.said).not.to.include('    at ');
      return refused.said;
    };
    expect(await said('/nowhere/tls.crt', other.key)).to.include("can't read /nowhere/tls.crt (REGISTRY_TLS_CERT)");
    expect(await said(other.cert, '/nowhere/tls.key')).to.include("can't read /nowhere/tls.key (REGISTRY_TLS_KEY)");
    expect(await said(text, other.key)).to.include(`${text} (REGISTRY_TLS_CERT) is no certificate`);
    expect(await said(other.cert, text)).to.include(`${text} (REGISTRY_TLS_KEY) is no private key`);
    expect(await said(other.cert, first.key)).to.include('(REGISTRY_TLS_KEY) does not belong to the certificate');
    expect(await readFile(join(server.folder, 'unused', 'admin-key'), 'utf8').catch(() => 'none')).to.equal('none');
  });

  it('that is broken at a SIGHUP leaves the former workers serving', async () => {
    await server.stop();
    const good = await authority.issue();
    const [cert, key] = [join(server.folder, 'own.crt'), join(server.folder, 'own.key')];
    await copyFile(good.cert, cert);
    await copyFile(good.key, key);
    Object.assign(server.environment, { REGISTRY_TLS_CERT: cert, REGISTRY_TLS_KEY: key });
    await server.start();
    await allServe(server);
    const workers = await server.workers();
    await writeFile(key, 'nothing of use\n');
    server.process.kill('SIGHUP');
    await untilLogged(server, 'a new worker did not come up');
    expect(await servedSerials()).to.deep.equal([good.serial]);
    await until('the workers are the same', async () => (await server.workers()).join() === workers.join());
    await copyFile(good.key, key);
    server.process.kill('SIGHUP');
    await until(
      'the workers are others',
      async () => {
        const now = await server.workers();
        return now.length === 2 && !now.some((pid) => workers.includes(pid));
      },
      30_000,
    );
    expect(await servedSerials()).to.deep.equal([good.serial]);
    expect(await server.stop()).to.equal(0);
  });
});
