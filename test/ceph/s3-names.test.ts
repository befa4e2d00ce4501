// What hangs on the names of hosts: whom clients bring their credentials, and the bucket before the gateway's name.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import type { S3Options } from '../../src/storage/s3/client.js';
import { until } from '../faults/support/processes.js';
import { bytesOf, digestOf } from '../http/content.js';
import { notRun } from '../support/not-run.js';
import { ADMIN_KEY, startServer, type TestServer } from '../support/server.js';
import { empty, placeIn, settingsOf } from './support/bucket.js';
import { type Ceph, sharedCeph } from './support/ceph.js';
import { underNames } from './support/names.js';

const run = promisify(execFile);
const BIN = join(homedir(), '.cache/weighhouse/clients/bin');
const [ORAS, CRANE] = [join(BIN, 'oras'), join(BIN, 'crane')];
const LOGIN = ['--plain-http', '--username', 'anyone', '--password', ADMIN_KEY];
const GATEWAY = 's3.models.test';
const BYTES = bytesOf('under names', 9_000_000);

describe('a gateway with a name', () => {
  let ceph: Ceph;
  let place: S3Options;
  let folder: string;
  let server: TestServer | undefined;

  before(async function () {
    this.timeout(300_000);
    ceph = await sharedCeph(this);
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-names-'));
  });
  beforeEach(() => {
    place = placeIn(ceph);
  });
  afterEach(async () => {
    await server?.dispose();
    server = undefined;
    await empty(place);
  });
  after(async () => {
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  const NAMES = { 'registry.test': true, 'a.s3.models.test': true, [GATEWAY]: false, 'models.test': false };

  /** Pulls `<registry>/team/<name>:v1` in the folder. @returns the file in which its layer is. */
  type Pull = (
    call: (program: string, ...words: string[]) => Promise<unknown>,
    registry: string,
    name: string,
  ) => Promise<string>;
  const CLIENTS: Record<string, Pull> = {
    oras: async (call, registry, name) => {
      await call(ORAS, 'pull', ...LOGIN, `${registry}/team/${name}:v1`, '-o', `oras-${name}`);
      return join(`oras-${name}`, 'model.bin');
    },
    crane: async (call, registry, name) => {
      await call(CRANE, 'auth', 'login', registry, '-u', 'anyone', '-p', ADMIN_KEY);
      await call(CRANE, 'pull', '--insecure', '--format=oci', `${registry}/team/${name}:v1`, `crane-${name}`);
      return join(`crane-${name}`, 'blobs/sha256', digestOf(BYTES).slice('sha256:'.length));
    },
  };

  for (const [client, pull] of Object.entries(CLIENTS)) {
    it(`is where ${client} is sent, but for registries to whose names its credentials belong, too`, async function () {
      this.timeout(180_000);
      for (const path of [ORAS, join(BIN, client)])
        if (!existsSync(path)) notRun(this, client, 'npm run clients:install');
      const [program = '', ...words] = await underNames(this, folder, [...Object.keys(NAMES), GATEWAY]);
      const call = (...command: string[]) =>
        run(program, [...words, ...command], { cwd: folder, env: { ...process.env, DOCKER_CONFIG: folder } });
      const environment = {
        ...settingsOf(place),
        REGISTRY_S3_PUBLIC_ENDPOINT: `http://${GATEWAY}:${ceph.port}`,
        REGISTRY_REDIRECT: '1000000',
      };
      server = await startServer({ environment });
      const { log, url } = server;
      await writeFile(join(folder, 'model.bin'), BYTES);
      const found: Record<string, boolean> = {};
      for (const name of Object.keys(NAMES)) {
        const registry = `${name}:${new URL(url).port}`;
        await call(ORAS, 'push', ...LOGIN, `${registry}/team/${name}:v1`, 'model.bin');
        const before = (await log.call(server)).length;
        const file = await pull(call, registry, name);
        expect((await readFile(join(folder, file))).equals(BYTES), name).to.equal(true);
        const blob = `/blobs/${digestOf(BYTES)}`;
        const isLogged = async () => (await log.call(server as TestServer)).slice(before).includes(blob);
        await until('the download is logged', isLogged);
        found[name] = (await log.call(server)).slice(before).includes('"status":307');
      }
      expect(found).to.deep.equal(NAMES);
    });
  }

  it('may have the bucket before it', async function () {
    this.timeout(180_000);
    const through = await underNames(this, folder, [GATEWAY, `dev.${GATEWAY}`]);
    await ceph.callGateway(GATEWAY);
    try {
      const environment = {
        ...settingsOf(place),
        REGISTRY_S3_ENDPOINT: `http://${GATEWAY}:${ceph.port}`,
        REGISTRY_S3_FORCE_PATH_STYLE: 'false',
        REGISTRY_REDIRECT: '1000000',
      };
      server = await startServer({ environment, through });
      const begun = await server.request('POST', '/v2/hosts/blobs/uploads/');
      const path = `${begun.headers.get('location')}?digest=${digestOf(BYTES)}`;
      expect((await server.request('PUT', path, { body: BYTES })).status).to.equal(201);
      const blob = `/v2/hosts/blobs/${digestOf(BYTES)}`;
      const ranges = await server.request('GET', blob, { headers: { range: 'bytes=0-1,8000000-8000009' } });
      expect([ranges.status, (await ranges.text()).includes('bytes 8000000-8000009/9000000')]).to.deep.equal([
        206,
        true,
      ]);
      const location = new URL((await server.request('GET', blob)).headers.get('location') ?? '');
      expect(location.hostname).to.equal(`dev.${GATEWAY}`);
      expect(location.pathname).to.match(new RegExp(`^/${place.prefix}[0-9a-f]{2}/`));
      const [program = '', ...words] = through;
      const file = join(folder, 'fetched');
      await run(program, [...words, 'curl', '--fail', '--silent', '--output', file, location.href]);
      expect((await readFile(file)).equals(BYTES)).to.equal(true);
    } finally {
      await ceph.callGateway('');
    }
  });
});
