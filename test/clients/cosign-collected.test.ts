// What cosign names by a tag goes with the image that it speaks of.
import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { MiB } from './support/bytes.js';
import { writeLayout } from './support/image.js';
import { scenario } from './support/scenario.js';
import { type RunningRegistry, startWeighhouse } from './support/weighhouse.js';

/** Times as short as they can be. */
const HASTE = {
  REGISTRY_UPLOAD_LIFETIME: '10',
  REGISTRY_COLLECT_GRACE: '10',
  REGISTRY_COLLECT_INTERVAL: '1',
};
const PATIENCE_MS = 180_000;

const http = '--allow-http-registry';
const modes = {
  cosign2: ['--tlog-upload=false'],
  cosign3: ['--use-signing-config=false', '--tlog-upload=false', '--new-bundle-format=false'],
};

for (const name of ['cosign2', 'cosign3'] as const) {
  describe(`what ${name} signed and somebody deleted`, function () {
    this.timeout(300_000);
    const here = scenario(`${name}-collected`, [name, 'crane', 'busybox']);
    let hasty: RunningRegistry;

    before(async () => {
      hasty = await startWeighhouse({ environment: HASTE });
      here().onEnd(() => hasty.stop());
      Object.assign(here().settings, { COSIGN_PASSWORD: '', COSIGN_YES: 'true', COSIGN_EXPERIMENTAL: '0' });
      await here().run(name, ['generate-key-pair']);
      await here().run(name, ['login', hasty.host, '-u', hasty.user, '--password-stdin'], { input: hasty.key });
    });

    it('goes with it, from this repository; one that is kept elsewhere stays', async () => {
      const layout = await writeLayout(here().path('layout'), name, MiB);
      const at = (repository: string) => `${hasty.host}/${here().repository}/${repository}`;
      const tags = async (repository: string) =>
        (await here().run('crane', ['ls', at(repository)])).stdout.split('\n').filter((tag) => tag !== '');
      const image = `${at('image')}@${layout.digest}`;
      await here().run('crane', ['push', layout.folder, `${at('image')}:v1`]);
      const sign = ['sign', http, '--key', 'cosign.key', ...modes[name], image];
      await here().run(name, sign);
      await here().run(name, sign, { env: { COSIGN_REPOSITORY: at('signatures') } });
      const signature = `${layout.digest.replace(':', '-')}.sig`;
      expect(await tags('image')).to.have.members(['v1', signature]);
      expect(await tags('signatures')).to.deep.equal([signature]);
      await here().run('crane', ['delete', image]);
      await until('the signature is gone', async () => (await tags('image')).length === 0, PATIENCE_MS);
      expect(await tags('signatures')).to.deep.equal([signature]);
    });
  });
}
