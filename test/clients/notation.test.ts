import { writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { MiB, writeSeeded } from './support/bytes.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';

describe('notation', () => {
  const here = scenario('notation', ['notation', 'oras']);
  let reference: string;
  let digest: string;

  // Its login asks for the desktop's store of credentials.
  const access = (): string[] => ['--insecure-registry', '-u', registry().user, '-p', registry().key];

  before(async () => {
    await here().writeDockerLogin();
    await writeSeeded(here().path('weights.bin'), 'notation', 2 * MiB);
    await here().run('oras', ['push', '--plain-http', `${here().at('model')}:v1`, 'weights.bin']);
    digest = (await here().run('oras', ['resolve', '--plain-http', `${here().at('model')}:v1`])).stdout.trim();
    reference = `${here().at('model')}@${digest}`;
    await here().run('notation', ['cert', 'generate-test', '--default', 'weighhouse.example']);
    const policy = {
      name: 'all',
      registryScopes: ['*'],
      signatureVerification: { level: 'strict' },
      trustStores: ['ca:weighhouse.example'],
      trustedIdentities: ['*'],
    };
    await writeFile(here().path('policy.json'), JSON.stringify({ version: '1.0', trustPolicies: [policy] }));
    await here().run('notation', ['policy', 'import', 'policy.json']);
  });

  it('is refused without the key', async () => {
    const wrong = ['--insecure-registry', '-u', registry().user, '-p', 'not the key'];
    expect(await here().refused('notation', ['ls', ...wrong, reference])).to.match(/401|unauthorized/i);
  });

  it('knows of no signature, and does not verify', async () => {
    expect(await here().refused('notation', ['verify', ...access(), reference])).to.match(/no signature/i);
  });

  for (const [format, mode] of [
    ['jws', '--force-referrers-tag=false'],
    ['cose', '--force-referrers-tag=true'],
  ] as const) {
    it(`signs (${format}, ${mode}), lists, inspects and verifies`, async () => {
      await here().run('notation', [
        'sign',
        ...access(),
        '--signature-format',
        format,
        mode,
        '-m',
        `by=${format}`,
        reference,
      ]);
      const listed = (await here().run('notation', ['ls', ...access(), reference])).stdout;
      expect(listed).to.match(/application\/vnd\.cncf\.notary\.signature/);
      const inspected = await here().run('notation', ['inspect', ...access(), '-o', 'json', reference]);
      expect(inspected.stdout).to.contain(format === 'jws' ? 'application/jose+json' : 'application/cose');
      const verified = await here().run('notation', ['verify', ...access(), '-m', `by=${format}`, reference]);
      expect(verified.stdout).to.contain('Successfully verified');
      await here().run('notation', ['verify', ...access(), `${here().at('model')}:v1`]);
    });
  }

  it('finds its signatures as referrers, and copies verify with them', async () => {
    const answer = await ask('GET', `/v2/${here().repository}/model/referrers/${digest}`);
    const index = (await answer.json()) as { manifests: { artifactType: string }[] };
    expect(index.manifests.length).to.be.greaterThan(0);
    for (const one of index.manifests) expect(one.artifactType).to.equal('application/vnd.cncf.notary.signature');
    const copy = `${here().at('copy')}:c1`;
    await here().run('oras', ['cp', '-r', '--from-plain-http', '--to-plain-http', `${here().at('model')}:v1`, copy]);
    await here().run('notation', ['verify', ...access(), copy]);
  });

  it('does not verify what nobody signed', async () => {
    await writeSeeded(here().path('other.bin'), 'notation-other', 1000);
    await here().run('oras', ['push', '--plain-http', `${here().at('model')}:unsigned`, 'other.bin']);
    await here().refused('notation', ['verify', ...access(), `${here().at('model')}:unsigned`]);
  });
});
