import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { readConfig, settings } from '../../src/config.js';

const EXAMPLE = new URL('../../../.env.example', import.meta.url);

describe('.env.example', () => {
  it('has every setting with its default and what it does, and no other (node scripts/readme.js)', async () => {
    const text = await readFile(EXAMPLE, 'utf8');
    const every = text.split(/^# ---- .*\n/m)[1] ?? '';
    const blocks = every.trim().split('\n\n');
    const said = blocks.map((block) => {
      const lines = block.split('\n').map((line) => line.replace(/^# ?/, ''));
      return `${lines.slice(0, -1).join(' ')} | ${lines.at(-1)}`;
    });
    const wanted = Object.values(settings).map(
      ({ name, fallback, unit, about }) => `${about} (${unit}) | ${name}=${fallback}`,
    );
    expect(said).to.deep.equal(wanted);
  });

  it('sets, as it is, nothing of the registry but secrets', async () => {
    const set = [...(await readFile(EXAMPLE, 'utf8')).matchAll(/^(REGISTRY_\w+)=(.*)$/gm)].map(([, name, value]) => [
      name,
      value,
    ]);
    expect(set).to.deep.equal([
      ['REGISTRY_ADMIN_KEY', ''],
      ['REGISTRY_S3_SECRET_ACCESS_KEY', ''],
    ]);
  });

  it('names defaults that the registry takes', async () => {
    const lines = [...(await readFile(EXAMPLE, 'utf8')).matchAll(/^#(REGISTRY_\w+)=(.*)$/gm)];
    const defaults = Object.fromEntries(
      lines.slice(-Object.keys(settings).length).map(([, name, value]) => [name, value]),
    );
    expect(readConfig(defaults)).to.deep.include({ storage: 'filesystem', blobMaxBytes: 5_497_558_138_880 });
  });
});
