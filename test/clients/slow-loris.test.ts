// 200 connections that are kept busy with as little as possible, and oras beside them.
import { expect } from 'chai';
import { LorisCrowd } from '../support/loris.js';
import { expectSameFile, MiB, writeSeeded } from './support/bytes.js';
import { ask, registry } from './support/registry.js';
import { scenario } from './support/scenario.js';
import { overTls } from './support/tls.js';

describe('oras beside slow lorises', () => {
  const here = scenario('slow-loris', ['oras']);

  it('pushes and pulls while all of them are there', async () => {
    const { host, user, key } = registry();
    await writeSeeded(here().path('weights.bin'), 'beside lorises', 64 * MiB);
    await here().writeDockerLogin();
    const artifact = here().at('weights');
    const push = () => here().run('oras', ['push', '--plain-http', `${artifact}:v1`, 'weights.bin']);
    const pull = async (folder: string) => {
      const begun = performance.now();
      await here().run('oras', ['pull', '--plain-http', `${artifact}:v1`, '-o', folder]);
      await expectSameFile(here().path(folder, 'weights.bin'), here().path('weights.bin'));
      return performance.now() - begun;
    };
    await push();
    const alone = await pull('alone');

    const repository = `/v2/${here().repository}/slow`;
    const authorization = `Basic ${Buffer.from(`${user}:${key}`).toString('base64')}`;
    const manifest = (await (await ask('GET', `/v2/${here().repository}/weights/manifests/v1`)).json()) as {
      layers: { digest: string }[];
    };
    const begun = performance.now();
    const crowd = new LorisCrowd(host, authorization, 500, overTls);
    try {
      for (let count = 0; count < 60; count++) {
        const opened = await ask('POST', `${repository}/blobs/uploads/`);
        expect(opened.status).to.equal(202);
        await crowd.add('body', opened.headers.get('location') ?? '');
        await crowd.add('head');
        await crowd.add('silent');
        if (count % 3 === 0)
          await crowd.add('download', `/v2/${here().repository}/weights/blobs/${manifest.layers[0]?.digest}`);
      }
      expect(crowd.open()).to.have.lengthOf(200);
      const beside = await pull('beside');
      await writeSeeded(here().path('weights.bin'), 'pushed beside lorises', 64 * MiB);
      await push();
      await pull('again');
      // Heads and silent ones have a minute, bodies and downloads as long as they move; a busy machine may take longer.
      const isOver = performance.now() - begun > 55_000;
      expect(crowd.open(), 'those whose time is not over were there to the end').to.have.lengthOf.at.least(
        isOver ? 80 : 200,
      );
      console.log(`      oras pull of 64 MiB: ${Math.round(alone)} ms alone, ${Math.round(beside)} ms beside 200`);
    } finally {
      crowd.end();
    }
  });
});
