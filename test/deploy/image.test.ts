// The image that the Dockerfile makes, in a real Docker engine.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { bytesOf } from '../http/content.js';
import { ADMIN_KEY } from '../support/server.js';
import type { Engine } from './support/engine.js';
import { BARE_IMAGE, engine, POSTGRES_IMAGE, REGISTRY_IMAGE, SECRET } from './support/images.js';
import { run } from './support/run.js';

const MiB = 1024 * 1024;
const ADDRESS = '127.0.0.1:5000';
/** As README and docs/operations.md have it. */
const HARDENED = ['--read-only', '--tmpfs', '/tmp', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'];

describe('the image', () => {
  let docker: Engine;
  let files = '';

  before(async function () {
    docker = await engine(this);
    files = join(docker.folder, 'files');
    await mkdir(files, { recursive: true });
    await writeFile(join(files, 'model.safetensors'), bytesOf('pushed to a container', 5 * MiB + 3));
    await docker.docker(['network', 'create', '--subnet', '198.51.100.0/24', 'image']);
  });

  afterEach(async () => {
    const left = (await docker.docker(['ps', '--all', '--quiet'])).stdout.split('\n').filter(Boolean);
    if (left.length > 0) await docker.docker(['rm', '--force', ...left]);
  });

  /** Starts a registry on the volume of this name and waits until the engine calls it healthy. */
  async function start(name: string, volume: string, more: string[] = [], image = REGISTRY_IMAGE): Promise<void> {
    const network = ['--network', 'image', '--publish', `${ADDRESS}:5000`];
    const hurry = ['--health-interval', '2s'];
    await docker.docker([
      'run',
      '--detach',
      '--name',
      name,
      ...network,
      ...hurry,
      '--volume',
      `${volume}:/data`,
      ...HARDENED,
      ...more,
      image,
    ]);
    await until(
      'the container is healthy',
      async () => (await inspect(name, '{{.State.Health.Status}}')) === 'healthy',
      120_000,
    );
    // It lives before it serves.
    await until('the registry is ready', async () => (await ask(name, '/health')) === 0, 120_000);
  }

  const ask = async (name: string, path: string) =>
    (await docker.docker(['exec', name, 'node', 'health.mjs', path], { mayFail: true })).code;

  const inspect = async (name: string, format: string) =>
    (await docker.docker(['inspect', '--format', format, name])).stdout.trim();

  /** Stops it as `docker stop` and compose do. @returns its exit code. */
  async function stop(name: string): Promise<string> {
    await docker.docker(['stop', '--time', '60', name]);
    const code = await inspect(name, '{{.State.ExitCode}}');
    await docker.docker(['rm', name]);
    return code;
  }

  async function push(reference: string, key: string): Promise<void> {
    const login = ['--plain-http', '--registry-config', join(files, 'login.json')];
    await docker.inside('oras', ['login', ADDRESS, ...login, '-u', 'admin', '--password-stdin'], { input: key });
    await docker.inside('oras', ['push', ...login, `${ADDRESS}/${reference}`, 'model.safetensors'], { cwd: files });
  }

  async function pull(reference: string): Promise<void> {
    const login = ['--plain-http', '--registry-config', join(files, 'login.json')];
    await docker.inside('oras', ['pull', ...login, `${ADDRESS}/${reference}`, '-o', join(files, 'pulled')]);
    await run('cmp', [join(files, 'model.safetensors'), join(files, 'pulled', 'model.safetensors')]);
  }

  it('runs by itself as a user without rights on a read-only file system, and keeps its data in a volume', async () => {
    await start('alone', 'alone');
    expect(await inspect('alone', '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}')).to.equal('1000:1000 true');
    expect((await docker.docker(['exec', 'alone', 'touch', '/weighhouse/x'], { mayFail: true })).stderr).to.match(
      /Read-only/,
    );
    const key = (await docker.docker(['exec', 'alone', 'cat', '/data/admin-key'])).stdout.trim();
    await push('team/model:v1.0-fp16', key);
    await pull('team/model:v1.0-fp16');
    const made = await docker.docker(['exec', 'alone', 'weighhouse', 'key', 'create', 'serving', '--grant', '**=pull']);
    expect(made.stdout).to.match(/wh_/);
    expect(await stop('alone')).to.equal('0');
    // Another container, as after an upgrade.
    await start('again', 'alone');
    await pull('team/model:v1.0-fp16');
    expect(await stop('again')).to.equal('0');
  });

  it('runs with a PostgreSQL of its own only if no other is named', async () => {
    const postgres = ['--network', 'image', '--network-alias', 'postgres', '--name', 'database', '--detach'];
    const secrets = [
      '--env',
      'POSTGRES_USER=weighhouse',
      '--env',
      'POSTGRES_PASSWORD=secret',
      '--env',
      'POSTGRES_DB=weighhouse',
    ];
    await docker.docker(['run', ...postgres, ...secrets, POSTGRES_IMAGE]);
    const isReady = async () =>
      (
        await docker.docker(['exec', 'database', 'pg_isready', '-U', 'weighhouse', '-h', '127.0.0.1'], {
          mayFail: true,
        })
      ).code === 0;
    await until('PostgreSQL is ready', isReady, 60_000);
    const url = 'postgres://weighhouse:secret@postgres:5432/weighhouse';
    const settings = ['--env', `REGISTRY_DATABASE_URL=${url}`, '--env', `REGISTRY_ADMIN_KEY=${ADMIN_KEY}`];
    await start('beside', 'beside', settings);
    await push('team/model:v1.0-fp16', ADMIN_KEY);
    await pull('team/model:v1.0-fp16');
    expect((await docker.docker(['exec', 'beside', 'ls', '/data'])).stdout).not.to.match(/postgres/);
    expect(await stop('beside')).to.equal('0');
    // Nor is one needed.
    await start('beside', 'beside', settings, BARE_IMAGE);
    await pull('team/model:v1.0-fp16');
    // What it needs being away does not make it unhealthy, which would have it restarted for nothing.
    await docker.docker(['stop', 'database']);
    await until('it is not ready', async () => (await ask('beside', '/health')) === 1);
    expect(await ask('beside', '/health/live')).to.equal(0);
    await docker.docker(['rm', '--force', 'database']);
    expect(await stop('beside')).to.equal('0');
  });

  it('holds what it runs and nothing to build with, nor a secret of its build', async () => {
    const absent = ['npm', 'npx', 'yarn', 'corepack', 'cc', 'gcc', 'make', 'python3', 'tsc', 'mocha', 'curl', 'wget'];
    const script = `for name in ${absent.join(' ')}; do command -v $name; done; ls node_modules/.bin; ls -A`;
    const found = await docker.docker(
      ['run', '--rm', '--network', 'none', '--entrypoint', 'sh', REGISTRY_IMAGE, '-c', script],
      { mayFail: true },
    );
    const names = found.stdout.split('\n').filter(Boolean);
    for (const name of [...absent, 'biome', 'eslint', '.npmrc', 'src', 'test', 'package-lock.json'])
      expect(names).not.to.include(name);
    expect(names).to.include.members(['bin', 'dist', 'migrations', 'node_modules', 'spec', 'LICENSE']);
    // All of it: the files of its layers, and the commands that made them.
    const whole = join(docker.folder, 'image.tar');
    await docker.docker(['save', '--output', whole, REGISTRY_IMAGE]);
    const holds = async (text: string) => (await run('grep', ['-qaF', text, whole], { mayFail: true })).code === 0;
    const known = ['USER 1000:1000', 'Asks the registry in the same container how it is'];
    expect(await Promise.all(known.map(holds)), 'what is in it is found').to.deep.equal([true, true]);
    const secret = [SECRET, 'packages.invalid', '/run/secrets/ca'];
    expect(await Promise.all(secret.map(holds))).to.deep.equal([false, false, false]);
    await rm(whole);
    // Where its packages came from.
    const fetched = ['run', '--rm', '--network', 'none', '--entrypoint', 'cat', REGISTRY_IMAGE];
    const packages = (await docker.docker([...fetched, 'node_modules/.package-lock.json'])).stdout;
    expect(packages).to.contain('node_modules/koa').and.not.to.contain('"resolved"');
  });

  it('may be built without PostgreSQL, and says so where it has none to use', async () => {
    const [size = 0, bare = 0, base = 0] = await Promise.all(
      [REGISTRY_IMAGE, BARE_IMAGE, 'debian:test'].map(async (image) => Number(await inspect(image, '{{.Size}}')) / 1e6),
    );
    console.log(
      `      image: ${Math.round(size)} MB, ${Math.round(bare)} MB without PostgreSQL, of which its base ${Math.round(base)} MB`,
    );
    expect(size - bare).to.be.above(40);
    const refused = await docker.docker(['run', '--rm', '--network', 'none', ...HARDENED, BARE_IMAGE], {
      mayFail: true,
    });
    expect(refused.code).to.equal(1);
    expect(refused.stderr).to.contain('There is no embedded PostgreSQL').and.contain('set REGISTRY_DATABASE_URL');
    expect(refused.stderr).not.to.contain('    at ');
  });

  it('says what is wrong with its settings and ends', async () => {
    const wrong = ['run', '--rm', '--network', 'none', ...HARDENED, '--env', 'REGISTRY_WORKERS=many', REGISTRY_IMAGE];
    const ended = await docker.docker(wrong, { mayFail: true });
    expect(ended.code).to.equal(2);
    expect(ended.stderr).to.contain('REGISTRY_WORKERS');
  });

  it('is built on the official images, where they can be pulled', function () {
    for (const image of ['node:24-bookworm-slim', 'debian:bookworm-slim'])
      console.log(`not run: ${image}: no image can be pulled here; Debian’s packages and npm’s Node stand for it`);
    this.skip();
  });
});
