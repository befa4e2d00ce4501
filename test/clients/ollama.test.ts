import { cp, readdir, rm, writeFile } from 'node:fs/promises';
import { expect } from 'chai';
import { until } from '../faults/support/processes.js';
import { freePort } from '../support/server.js';
import { expectSameTree } from './support/bytes.js';
import { fixture } from './support/models.js';
import { registry } from './support/registry.js';
import { scenario } from './support/scenario.js';
import { scheme } from './support/tls.js';
import { type RunningRegistry, startWeighhouse } from './support/weighhouse.js';

// ollama knows no password: it needs a registry that is open to everybody.
describe('ollama', () => {
  const here = scenario('ollama', ['ollama', 'oras-py']);
  const ollama = (...args: string[]) => here().run('ollama', args);
  let open: RunningRegistry;
  let said: () => string;

  /** Names are `host/namespace/model:tag`, no deeper. */
  const name = (model: string, host = open.host): string => `${host}/${here().repository}-${model}:v1`;
  const push = (model: string) => ollama('push', '--insecure', `${scheme}://${name(model)}`);
  const pull = (model: string) => ollama('pull', '--insecure', `${scheme}://${name(model)}`);

  async function create(model: string, ...lines: string[]): Promise<void> {
    await writeFile(here().path('Modelfile'), `${lines.join('\n')}\n`);
    await ollama('create', name(model), '-f', here().path('Modelfile'));
  }

  const blobs = (): string => here().path('models', 'blobs');

  /** How ollama divided the first blob of this size that it was `uploading` or `downloading`. */
  async function parts(verb: string, size: string): Promise<number> {
    const pattern = new RegExp(`${verb} \\w+ in (\\d+) ${size} part`);
    await until('ollama says how', () => pattern.test(said()));
    return Number(pattern.exec(said())?.[1]);
  }

  before(async () => {
    open = await startWeighhouse({ environment: { REGISTRY_ANONYMOUS: 'push' } });
    here().onEnd(() => open.stop());
    const address = `127.0.0.1:${await freePort()}`;
    Object.assign(here().settings, { OLLAMA_HOST: address, OLLAMA_MODELS: here().path('models') });
    const isReady = () =>
      fetch(`http://${address}/`).then(
        (answer) => answer.ok,
        () => false,
      );
    said = await here().daemon('ollama', ['serve'], isReady);
    await here().run('oras-py', ['-B', fixture('ollama_models.py'), here().path('gguf')]);
  });

  /** Pushes all that is in the store under this name, forgets it, and pulls it again. */
  async function expectRoundTrip(model: string): Promise<void> {
    const kept = here().path(`kept-${model}`);
    await cp(blobs(), kept, { recursive: true });
    await push(model);
    await ollama('rm', name(model));
    expect(await readdir(blobs())).to.deep.equal([]);
    await pull(model);
    await expectSameTree(blobs(), kept);
    await rm(kept, { recursive: true });
  }

  it('pushes a model and pulls it byte for byte', async () => {
    await create('small', `FROM ${here().path('gguf', 'small.gguf')}`, 'SYSTEM Weigh your words.');
    await expectRoundTrip('small');
    expect((await ollama('show', '--modelfile', name('small'))).stdout).to.contain('Weigh your words.');
  });

  it('mounts the layers of a model that it was made from, without sending them', async () => {
    const layers = await readdir(blobs());
    await create('derived', `FROM ${name('small')}`, 'PARAMETER temperature 0.5');
    const before = said().length;
    await push('derived');
    // What the daemon says comes a moment after its client has ended.
    await until('ollama says what it sent', () => /uploading \w+ in 1/.test(said().slice(before)));
    const sent = said().slice(before);
    const manifest = (await (await fetch(`${open.url}/v2/${here().repository}-derived/manifests/v1`)).json()) as {
      layers: { digest: string }[];
    };
    const shared = manifest.layers
      .map(({ digest }) => digest.replace(':', '-'))
      .filter((file) => layers.includes(file));
    expect(shared).to.have.length(2);
    for (const file of shared) expect(sent).to.not.contain(`uploading ${file.slice('sha256-'.length).slice(0, 12)}`);
    for (const model of ['small', 'derived']) await ollama('rm', name(model));
  });

  it('pushes a large model in parts and pulls it by parallel ranges, byte for byte', async () => {
    await create('large', `FROM ${here().path('gguf', 'large.gguf')}`);
    await expectRoundTrip('large');
    expect(await parts('uploading', '100 MB')).to.equal(3);
    expect(await parts('downloading', '100 MB')).to.equal(3);
  });

  it('cannot pull what is not there, and can neither push nor pull where a key is asked for', async () => {
    expect(await here().refused('ollama', ['pull', '--insecure', `${scheme}://${name('none')}`])).to.match(/not exist/);
    const closed = name('large', registry().host);
    await ollama('cp', name('large'), closed);
    for (const verb of ['push', 'pull']) await here().refused('ollama', [verb, '--insecure', `${scheme}://${closed}`]);
  });
});
