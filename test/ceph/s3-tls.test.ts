import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';
import { expect } from 'chai';
import type { S3Options } from '../../src/storage/s3/client.js';
import { bytesOf, digestOf } from '../http/content.js';
import { PrivateAuthority } from '../support/certificates.js';
import { secureFetch } from '../support/secure-fetch.js';
import { startServer } from '../support/server.js';
import { empty, placeIn, settingsOf } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';

const BYTES = bytesOf('over TLS', 20_000_000);

describe('a gateway that speaks TLS', () => {
  let ceph: Ceph;
  let place: S3Options;
  let folder: string;
  let authority: PrivateAuthority;
  let terminator: Server;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-tls-'));
    authority = await PrivateAuthority.make(folder);
    const { cert, key } = await authority.issue();
    terminator = createServer({ cert: await readFile(cert), key: await readFile(key) }, (near) => {
      const far = connect(ceph.port, '127.0.0.1');
      near.on('error', () => far.destroy()).on('close', () => far.destroy());
      far.on('error', () => near.destroy()).on('close', () => near.destroy());
      near.pipe(far).pipe(near);
    });
    terminator.on('tlsClientError', () => undefined);
    terminator.listen(0, '127.0.0.1');
    await once(terminator, 'listening');
    const { port } = terminator.address() as AddressInfo;
    place = { ...placeIn(ceph), endpoint: `https://localhost:${port}` };
  });
  after(async () => {
    terminator?.close();
    if (place) await empty({ ...place, endpoint: ceph.endpoint });
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  it('is written to, read from and sent to when its CA is told by NODE_EXTRA_CA_CERTS', async function () {
    this.timeout(120_000);
    const environment = {
      ...settingsOf(place),
      NODE_EXTRA_CA_CERTS: authority.file,
      REGISTRY_REDIRECT: 'always',
      REGISTRY_TRUSTED_PROXIES: '127.0.0.1',
      REGISTRY_REDIRECT_NETWORKS: '127.0.0.0/8',
    };
    const server = await startServer({ environment });
    try {
      const begun = await server.request('POST', '/v2/tls/blobs/uploads/');
      const path = `${begun.headers.get('location')}?digest=${digestOf(BYTES)}`;
      expect((await server.request('PUT', path, { body: BYTES })).status).to.equal(201);
      const blob = `/v2/tls/blobs/${digestOf(BYTES)}`;
      const headers = { 'x-forwarded-for': '10.1.2.3' };
      const through = await server.request('GET', blob, { headers });
      expect(through.status).to.equal(200);
      expect(Buffer.from(await through.arrayBuffer()).equals(BYTES)).to.equal(true);
      const sent = await server.request('GET', blob);
      expect(sent.status).to.equal(307);
      const location = new URL(sent.headers.get('location') ?? '');
      expect(location.origin).to.equal(place.endpoint);
      const bytes = await secureFetch(location, authority.pem);
      expect(Buffer.from(await bytes.arrayBuffer()).equals(BYTES)).to.equal(true);
    } finally {
      await server.dispose();
    }
  });

  it('is refused at the start, in words, while nobody vouches for its certificate', async function () {
    this.timeout(120_000);
    const failure = await startServer({ environment: settingsOf(place) }).then(
      async (server) => {
        await server.dispose();
        return 'it started';
      },
      (error: unknown) => String(error),
    );
    expect(failure).to.match(/bucket dev can't be used: .*(self-signed|unable to verify|certificate)/);
  });
});
