// The scenarios show that clients get in; here is seen how: by a token, and that the key goes to the token endpoint alone.
import { expect } from 'chai';
import { MiB } from './support/bytes.js';
import { writeLayout } from './support/image.js';
import { fixture } from './support/models.js';
import { Recorder } from './support/recorder.js';
import { registry } from './support/registry.js';
import { type Scenario, scenario } from './support/scenario.js';
import { overTls } from './support/tls.js';

/** One command that reads `repository`:1.0.0. It may want something else than an image; then it fails afterwards. */
const read: Record<string, (here: Scenario, host: string, repository: string) => Promise<unknown>> = {
  oras: (here, host, name) => run(here, 'oras', ['manifest', 'fetch', '--plain-http', `${host}/${name}:1.0.0`]),
  crane: (here, host, name) => run(here, 'crane', ['manifest', `${host}/${name}:1.0.0`]),
  regctl: async (here, host, name) => {
    await here.run('regctl', ['registry', 'set', '--tls=disabled', '--skip-check', host]);
    return run(here, 'regctl', ['manifest', 'get', `${host}/${name}:1.0.0`]);
  },
  skopeo: (here, host, name) =>
    run(here, 'skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${host}/${name}:1.0.0`]),
  docker: (here, host, name) => run(here, 'docker', ['manifest', 'inspect', '--insecure', `${host}/${name}:1.0.0`]),
  helm: async (here, host, name) => {
    const { user, key } = registry();
    const login = ['registry', 'login', host, '--plain-http', '-u', user, '--password-stdin'];
    await here.run('helm', login, { input: key });
    return run(here, 'helm', ['show', 'chart', '--plain-http', `oci://${host}/${name}`, '--version', '1.0.0']);
  },
  cosign2: (here, host, name) => run(here, 'cosign2', ['tree', '--allow-http-registry', `${host}/${name}:1.0.0`]),
  cosign3: (here, host, name) => run(here, 'cosign3', ['tree', '--allow-http-registry', `${host}/${name}:1.0.0`]),
  notation: (here, host, name) => {
    const { user, key } = registry();
    return run(here, 'notation', ['list', '--insecure-registry', '-u', user, '-p', key, `${host}/${name}:1.0.0`]);
  },
  modctl: (here, host, name) => run(here, 'modctl', ['inspect', '--remote', '--plain-http', `${host}/${name}:1.0.0`]),
  'oras-py': (here, host, name) => {
    const { user, key } = registry();
    return run(here, 'oras-py', ['-B', fixture('oras_client.py'), 'manifest', host, user, `${name}:1.0.0`], key);
  },
};

function run(here: Scenario, client: string, args: string[], input?: string): Promise<unknown> {
  return here.run(client, args, { codes: [0, 1], ...(input !== undefined && { input }) });
}

// Over TLS nobody sees what passes.
(overTls ? describe.skip : describe)('a token', () => {
  for (const [client, command] of Object.entries(read)) {
    describe(`of ${client}`, () => {
      const here = scenario(`token-${client}`, [client, 'crane', 'busybox']);

      it(`is fetched with the key, and lets ${client} in`, async () => {
        const repository = `${here().repository}/image`;
        const layout = await writeLayout(here().path('layout'), client, MiB);
        await here().writeDockerLogin();
        await here().run('crane', ['push', layout.folder, `${registry().host}/${repository}:1.0.0`]);
        const recorder = await Recorder.open(registry().url);
        try {
          await here().writeDockerLogin(recorder.host);
          await command(here(), recorder.host, repository);
        } finally {
          await recorder.close();
        }
        const given = recorder.passed.filter(({ path }) => path.startsWith('/v2/token'));
        const others = recorder.passed.filter(({ path }) => !path.startsWith('/v2/token'));
        expect(given.filter(({ status }) => status === 200)).to.not.deep.equal([]);
        const wanted = others.filter(({ path, status }) => path.startsWith(`/v2/${repository}/`) && status === 200);
        expect(wanted.map(({ scheme }) => scheme)).to.not.deep.equal([]);
        for (const { scheme } of wanted) expect(scheme).to.equal('Bearer');
        const withKey = others.filter(({ scheme }) => scheme === 'Basic');
        expect(withKey, 'the key went elsewhere').to.deep.equal([]);
      });
    });
  }
});
