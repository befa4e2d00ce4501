import { mkdir, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { expectSameFile, MiB, writeSeeded } from './support/bytes.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('helm', () => {
  const here = scenario('helm', ['helm', 'oras']);
  const helm = (...args: string[]) => here().run('helm', args);
  const plain = '--plain-http';

  before(async () => {
    await mkdir(here().path('chart', 'templates'), { recursive: true });
    await writeFile(
      here().path('chart', 'templates', 'a.yaml'),
      'kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n',
    );
    await writeSeeded(here().path('chart', 'files', 'big.bin'), 'helm', MiB);
    for (const version of ['0.1.0', '0.2.0', '0.3.0+build.7']) {
      await writeFile(here().path('chart', 'Chart.yaml'), `apiVersion: v2\nname: server\nversion: ${version}\n`);
      await helm('package', 'chart', '-d', here().path('packages'));
    }
  });

  it('logs in with the key, and is refused with another', async () => {
    const { user, key, host } = registry();
    const login = ['registry', 'login', host, plain, '-u', user, '--password-stdin'];
    expect(await here().refused('helm', login, { input: 'not the key' })).to.match(/401|unauthorized/i);
    await here().run('helm', login, { input: key });
  });

  it('pushes charts and pulls one byte for byte', async () => {
    for (const version of ['0.1.0', '0.2.0', '0.3.0+build.7']) {
      await helm('push', plain, here().path('packages', `server-${version}.tgz`), `oci://${here().at('charts')}`);
    }
    await mkdir(here().path('pulled'));
    await helm('pull', plain, `oci://${here().at('charts')}/server`, '--version', '0.1.0', '-d', here().path('pulled'));
    await expectSameFile(here().path('pulled', 'server-0.1.0.tgz'), here().path('packages', 'server-0.1.0.tgz'));
  });

  it('finds the newest version by the list of tags, and one whose `+` became `_`', async () => {
    const chart = `oci://${here().at('charts')}/server`;
    expect((await helm('show', 'chart', plain, chart)).stdout).to.contain('version: 0.3.0+build.7');
    expect((await helm('show', 'chart', plain, chart, '--version', '~0.2')).stdout).to.contain('version: 0.2.0');
    expect((await helm('show', 'chart', plain, chart, '--version', '0.3.0+build.7')).stdout).to.contain('build.7');
    const listed = (await ask('GET', `/v2/${here().repository}/charts/server/tags/list`)).json() as Promise<{
      tags: string[];
    }>;
    expect((await listed).tags).to.deep.equal(['0.1.0', '0.2.0', '0.3.0_build.7']);
  });

  it('renders a chart from the registry, and one that depends on another there', async () => {
    const chart = `oci://${here().at('charts')}/server`;
    expect((await helm('template', 'x', plain, chart, '--version', '0.2.0')).stdout).to.contain('kind: ConfigMap');
    await mkdir(here().path('parent'));
    const dependency = `dependencies: [{name: server, version: 0.2.0, repository: "oci://${here().at('charts')}"}]`;
    await writeFile(
      here().path('parent', 'Chart.yaml'),
      `apiVersion: v2\nname: parent\nversion: 1.0.0\n${dependency}\n`,
    );
    await helm('dependency', 'update', plain, here().path('parent'));
    await expectSameFile(
      here().path('parent', 'charts', 'server-0.2.0.tgz'),
      here().path('packages', 'server-0.2.0.tgz'),
    );
  });

  it('copies a chart to another repository and deletes the first', async () => {
    const chart = `${here().at('charts')}/server`;
    const copy = ['cp', '--from-plain-http', '--to-plain-http', `${chart}:0.1.0`, `${here().at('copy')}/server:0.1.0`];
    // helm login keeps its own file; oras reads Docker's.
    await here().writeDockerLogin();
    await here().run('oras', copy);
    await here().run('oras', ['manifest', 'delete', '--plain-http', '--force', `${chart}:0.1.0`]);
    await here().refused('helm', ['pull', plain, `oci://${chart}`, '--version', '0.1.0']);
    await mkdir(here().path('copied'));
    await helm('pull', plain, `oci://${here().at('copy')}/server`, '--version', '0.1.0', '-d', here().path('copied'));
    await expectSameFile(here().path('copied', 'server-0.1.0.tgz'), here().path('packages', 'server-0.1.0.tgz'));
  });

  it('logs out', async () => {
    await helm('registry', 'logout', registry().host);
    await writeFile(here().env.REGISTRY_AUTH_FILE ?? '', '{}');
    await here().refused('helm', ['show', 'chart', plain, `oci://${here().at('charts')}/server`]);
  });
});
