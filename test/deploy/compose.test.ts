// docker-compose.yml, up in a real Docker engine, with images that stand for the official ones.
import { appendFile, cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { settings } from '../../src/config.js';
import { bytesOf } from '../http/content.js';
import { notRun } from '../support/not-run.js';
import type { Engine } from './support/engine.js';
import { engine, POSTGRES_IMAGE, REGISTRY_IMAGE, SERVICES_IMAGE } from './support/images.js';
import { find, ROOT, type RunOptions, run } from './support/run.js';

const MiB = 1024 * 1024;
/** Where nginx listens in there; the certificate is for it, too. */
const HOST = '127.0.0.1';

describe('docker-compose.yml', () => {
  let docker: Engine;
  let project = '';
  let files = '';
  let key = '';

  const compose = (args: readonly string[], options: RunOptions = {}) =>
    docker.docker(['compose', '--project-directory', project, ...args], options);
  const up = () => compose(['up', '--detach', '--no-build', '--pull', 'never', '--wait', '--wait-timeout', '280']);

  /** What a user does: a copy of the files, deploy/env.sh, and a few settings. */
  async function prepare(name: string, more: readonly string[]): Promise<void> {
    project = join(docker.folder, name);
    await mkdir(project);
    for (const part of ['docker-compose.yml', '.env.example', 'deploy', 'Dockerfile'])
      await cp(join(ROOT, part), join(project, part), { recursive: true });
    await run('sh', [join(project, 'deploy', 'env.sh')]);
    const images = [`WEIGHHOUSE_IMAGE=${REGISTRY_IMAGE}`, `POSTGRES_IMAGE=${POSTGRES_IMAGE}`];
    images.push(`NGINX_IMAGE=${SERVICES_IMAGE}`, `CEPH_IMAGE=${SERVICES_IMAGE}`);
    // Of a block for documentation, which nobody has.
    const place = ['WEIGHHOUSE_NETWORK=203.0.113', `WEIGHHOUSE_LISTEN=${HOST}:443`, 'CEPH_SIZE=16G'];
    await appendFile(join(project, '.env'), `\n${[...images, ...place, ...more].join('\n')}\n`);
    key = /^REGISTRY_ADMIN_KEY=(.+)$/m.exec(await readFile(join(project, '.env'), 'utf8'))?.[1] ?? '';
  }

  before(async function () {
    docker = await engine(this);
    if (!find('oras')) notRun(this, 'docker-compose.yml', 'oras is not installed (npm run clients:install)');
    files = join(docker.folder, 'compose-files');
    await mkdir(files);
    await writeFile(join(files, 'model.safetensors'), bytesOf('pushed to a composition', 20 * MiB + 5));
  });

  afterEach(async () => {
    if (project !== '') await compose(['down', '--volumes', '--timeout', '10']);
    project = '';
  });

  const trusted = () => [
    '--ca-file',
    join(project, 'certificates', 'ca.pem'),
    '--registry-config',
    join(files, 'login.json'),
  ];

  async function push(reference: string): Promise<void> {
    await docker.inside('oras', ['login', HOST, ...trusted(), '-u', 'admin', '--password-stdin'], { input: key });
    await docker.inside('oras', ['push', ...trusted(), `${HOST}/${reference}`, 'model.safetensors'], { cwd: files });
  }

  async function pull(reference: string): Promise<void> {
    await docker.inside('oras', ['pull', ...trusted(), `${HOST}/${reference}`, '-o', join(files, 'pulled')]);
    await run('cmp', [join(files, 'model.safetensors'), join(files, 'pulled', 'model.safetensors')]);
  }

  /** The health of each service that runs on. */
  async function healths(): Promise<Record<string, string>> {
    const lines = (await compose(['ps', '--format', '{{.Service}} {{.Health}}'])).stdout.trim().split('\n');
    return Object.fromEntries(lines.map((line) => line.split(' ')));
  }

  it('comes up by one command with Ceph, healthy, and keeps what was pushed', async () => {
    await prepare('with-ceph', []);
    await up();
    const all = ['ceph', 'nginx', 'postgres', 'registry-1', 'registry-2'];
    expect(await healths()).to.deep.equal(Object.fromEntries(all.map((name) => [name, 'healthy'])));
    await push('team/model:v1.0-fp16');
    await pull('team/model:v1.0-fp16');
    // Clients are told from each other, and see nginx's address: the proxy is trusted, as far as it should.
    const log = (await compose(['logs', '--no-color', 'registry-1', 'registry-2'])).stdout;
    const addresses = new Set([...log.matchAll(/"address":"([^"]+)"/g)].map(([, address]) => address));
    expect([...addresses])
      .to.include('203.0.113.1')
      .and.not.to.include('203.0.113.10');
    const headers = ['--cacert', join(project, 'certificates', 'ca.pem'), '--silent', '--head', `https://${HOST}/v2/`];
    expect((await docker.inside('curl', headers)).stdout).to.contain(`realm="https://${HOST}/v2/token"`);
    // A node dies, and another container takes its place, at its address.
    await compose(['kill', 'registry-1']);
    await pull('team/model:v1.0-fp16');
    await compose(['up', '--detach', '--no-build', '--no-deps', '--force-recreate', '--wait', 'registry-1']);
    await compose(['kill', 'registry-2']);
    await pull('team/model:v1.0-fp16');
    // All of it is stopped and made anew, on the same volumes.
    await compose(['down', '--timeout', '60']);
    await up();
    await pull('team/model:v1.0-fp16');
    const ended = await compose(['ps', '--all', '--format', '{{.Service}} {{.ExitCode}}', 'bucket', 'certificates']);
    expect(ended.stdout.trim().split('\n').sort()).to.deep.equal(['bucket 0', 'certificates 0']);
  });

  it('comes up with a folder that the nodes share and nginx sends from', async () => {
    const folder = ['COMPOSE_PROFILES=', 'REGISTRY_STORAGE=filesystem', 'REGISTRY_X_ACCEL_PREFIX=/weighhouse-blobs/'];
    await prepare('with-folder', folder);
    await up();
    expect(Object.keys(await healths()).sort()).to.deep.equal(['nginx', 'postgres', 'registry-1', 'registry-2']);
    await push('team/model:v1.0-fp16');
    await pull('team/model:v1.0-fp16');
    const digest = (await run('sha256sum', [join(files, 'model.safetensors')])).stdout.split(' ')[0];
    const script = `
      const authorization = 'Basic ' + btoa('admin:' + process.env.REGISTRY_ADMIN_KEY);
      const answer = await fetch('http://registry-2:5000/v2/team/model/blobs/sha256:${digest}', { headers: { authorization } });
      console.log(answer.status, answer.headers.get('x-accel-redirect'));`;
    const asked = await compose(['exec', '-T', 'registry-1', 'node', '--input-type=module', '-e', script]);
    expect(asked.stdout).to.match(/^200 \/weighhouse-blobs\//);
  });

  it('is sound for compose itself, and refuses to start without its secrets', async () => {
    await prepare('checked', []);
    await compose(['config', '--quiet']);
    await writeFile(join(project, '.env'), '');
    const refused = await compose(['config', '--quiet'], { mayFail: true });
    expect(refused.code).not.to.equal(0);
    expect(refused.stderr).to.contain('run deploy/env.sh');
    await cp(join(ROOT, '.env.example'), join(project, '.env'));
    await run('sh', [join(project, 'deploy', 'env.sh')]);
    project = '';
  });

  it('names settings that exist alone', async () => {
    const known = new Set<string>(Object.values(settings).map(({ name }) => name));
    const text = await readFile(join(ROOT, 'docker-compose.yml'), 'utf8');
    const named = [...text.matchAll(/\bREGISTRY_[A-Z0-9_]+/g)].map(([name]) => name);
    expect(named.length).to.be.greaterThan(10);
    expect(named.filter((name) => !known.has(name))).to.deep.equal([]);
  });

  it('runs on the official images of the others, where they can be pulled', function () {
    for (const image of ['nginx:1.28-bookworm', 'postgres:18-bookworm', 'quay.io/ceph/ceph:v19.2'])
      console.log(`not run: ${image}: no image can be pulled here; one of Debian’s packages stands for it`);
    this.skip();
  });
});
