import { mkdir, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { MiB } from './support/bytes.js';
import { type Layout, writeLayout } from './support/image.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

const http = '--allow-http-registry';
// Without a transparency log, which is on the internet.
const lone = {
  cosign2: { sign: ['--tlog-upload=false'], verify: ['--insecure-ignore-tlog=true'] },
  cosign3: { sign: ['--use-signing-config=false', '--tlog-upload=false'], verify: ['--insecure-ignore-tlog=true'] },
};

for (const name of ['cosign2', 'cosign3'] as const) {
  describe(name, () => {
    const here = scenario(name, [name, 'crane', 'busybox']);
    const cosign = (...args: string[]) => here().run(name, args);
    const { sign, verify } = lone[name];
    let layout: Layout;
    let image: string;

    before(async () => {
      here().settings.COSIGN_PASSWORD = '';
      here().settings.COSIGN_YES = 'true';
      here().settings.COSIGN_EXPERIMENTAL = '0';
      await mkdir(here().path('other'));
      await cosign('generate-key-pair');
      await here().run(name, ['generate-key-pair'], { cwd: here().path('other') });
      layout = await writeLayout(here().path('layout'), name, 4 * MiB);
      image = `${here().at('image')}@${layout.digest}`;
    });

    const tags = async (repository: string): Promise<string[]> => {
      const answer = await ask('GET', `/v2/${here().repository}/${repository}/tags/list`);
      return ((await answer.json()) as { tags: string[] }).tags;
    };
    const referrers = async (repository: string): Promise<string[]> => {
      const answer = await ask('GET', `/v2/${here().repository}/${repository}/referrers/${layout.digest}`);
      const index = (await answer.json()) as { manifests: { artifactType: string }[] };
      return index.manifests.map((one) => one.artifactType);
    };

    it('logs in, and an image is pushed', async () => {
      const { user, key, host } = registry();
      await here().run(name, ['login', host, '-u', user, '--password-stdin'], { input: key });
      for (const repository of ['image', 'referred', 'attested']) {
        await here().run('crane', ['push', layout.folder, `${here().at(repository)}:v1`]);
      }
    });

    it('signs and verifies in tag mode', async () => {
      const old = name === 'cosign3' ? ['--new-bundle-format=false'] : [];
      await cosign('sign', http, '--key', 'cosign.key', ...old, ...sign, '-a', 'stage=test', image);
      expect(await tags('image')).to.contain(`sha256-${layout.digest.slice('sha256:'.length)}.sig`);
      const check = ['verify', http, ...old, ...verify];
      const { stdout } = await cosign(...check, '--key', 'cosign.pub', '-a', 'stage=test', `${here().at('image')}:v1`);
      expect(stdout).to.contain(layout.digest);
      await here().refused(name, [...check, '--key', 'other/cosign.pub', image]);
      await here().refused(name, [...check, '--key', 'cosign.pub', '-a', 'stage=live', image]);
    });

    it('signs and verifies in referrers mode', async () => {
      const target = `${here().at('referred')}@${layout.digest}`;
      const mode = name === 'cosign2' ? ['--registry-referrers-mode=oci-1-1'] : [];
      const env = { COSIGN_EXPERIMENTAL: '1' };
      await here().run(name, ['sign', http, '--key', 'cosign.key', ...mode, ...sign, target], { env });
      expect(await referrers('referred')).to.have.length(1);
      expect(await tags('referred')).to.deep.equal(['v1']);
      const check = ['verify', http, ...verify, ...(name === 'cosign2' ? ['--experimental-oci11'] : [])];
      await here().run(name, [...check, '--key', 'cosign.pub', target], { env });
      await here().refused(name, [...check, '--key', 'other/cosign.pub', target], { env });
    });

    it('attests and verifies what was said', async () => {
      const target = `${here().at('attested')}@${layout.digest}`;
      await writeFile(here().path('predicate.json'), '{"quantization":"fp16"}');
      const said = ['--predicate', 'predicate.json', '--type', 'https://example.org/model/v1'];
      await cosign('attest', http, '--key', 'cosign.key', ...sign, ...said, target);
      const check = ['verify-attestation', http, ...verify, '--type', 'https://example.org/model/v1'];
      await cosign(...check, '--key', 'cosign.pub', target);
      await here().refused(name, [...check, '--key', 'other/cosign.pub', target]);
    });

    it('shows the tree, and copies an image with its signatures', async () => {
      expect((await cosign('tree', http, image)).stdout).to.match(/signature/i);
      await cosign('copy', http, `${here().at('image')}:v1`, `${here().at('copy')}:c1`);
      const old = name === 'cosign3' ? ['--new-bundle-format=false'] : [];
      await cosign('verify', http, ...old, ...verify, '--key', 'cosign.pub', `${here().at('copy')}:c1`);
    });

    it('uploads a blob', async () => {
      await cosign('upload', 'blob', http, '-f', 'predicate.json', `${here().at('blob')}:v1`);
      const { layers } = JSON.parse((await here().run('crane', ['manifest', `${here().at('blob')}:v1`])).stdout);
      const { stdout } = await here().run('crane', ['blob', `${here().at('blob')}@${layers[0].digest}`]);
      expect(stdout).to.equal('{"quantization":"fp16"}');
    });

    it('cleans signatures away: verification fails, the image stays', async () => {
      await cosign('clean', http, '--force', '--type', 'all', `${here().at('image')}:v1`);
      expect(await tags('image')).to.deep.equal(['v1']);
      await here().refused(name, ['verify', http, ...verify, '--key', 'cosign.pub', image]);
      await here().run('crane', ['validate', '--remote', image]);
    });
  });
}
