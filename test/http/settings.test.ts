import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { settings, settingsTable } from '../../src/config.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const names = Object.values(settings).map(({ name }) => name);

/** Runs the command to its end. */
function weighhouse(args: readonly string[], environment: Record<string, string> = {}) {
  return new Promise<{ code: number; out: string; err: string }>((resolve) => {
    const { PATH = '', HOME = '' } = process.env;
    const options = { cwd: ROOT, env: { PATH, HOME, ...environment } };
    execFile(process.execPath, ['bin/weighhouse.js', ...args], options, (error, out, err) => {
      resolve({ code: error ? Number(error.code) : 0, out, err });
    });
  });
}

describe('the settings', () => {
  it('are listed by --help with their default, unit and a sentence', async () => {
    const { code, out } = await weighhouse(['serve', '--help']);
    expect(code).to.equal(0);
    for (const { name, fallback, unit, about } of Object.values(settings)) {
      expect(out).to.include(`${name} (${unit}; default ${fallback === '' ? 'empty' : fallback})`);
      expect(out).to.include(about);
      expect(about, name).to.match(/\.$/);
    }
    for (const name of ['LISTEN', 'DATA_DIR', 'DATABASE_URL', 'FILESYSTEM_ROOT', 'ADMIN_KEY', 'WORKERS'])
      expect(names).to.include(`REGISTRY_${name}`);
  });

  it('stand in the README as they are', async () => {
    const readme = await readFile(`${ROOT}README.md`, 'utf8');
    const table = /<!-- settings -->\s*([\s\S]*?)\s*<!-- \/settings -->/.exec(readme)?.[1];
    expect(table).to.equal(settingsTable());
  });

  it('are refused all at once, each fault naming its setting, before anything is touched', async () => {
    const wrong = {
      REGISTRY_LISTEN: 'nonsense',
      REGISTRY_DATA_DIR: '/proc/nowhere',
      REGISTRY_DATABASE_URL: 'mysql://x',
      REGISTRY_WORKERS: '-1',
      REGISTRY_ADMIN_KEY: 'short',
      REGISTRY_BLOB_MAX_BYTES: '1e3',
      REGISTRY_LOG_LEVEL: 'loud',
      REGISTRY_NO_SUCH_SETTING: '1',
    };
    const { code, err } = await weighhouse(['serve'], wrong);
    expect(code).to.equal(2);
    const { REGISTRY_DATA_DIR: _fine, ...faults } = wrong;
    for (const name of Object.keys(faults)) expect(err.match(new RegExp(name, 'g')), name).to.have.lengthOf(1);
    expect(err).to.include(`${Object.keys(faults).length} faults`);
    expect(err, 'a chosen key is a secret').not.to.include('short\n');
  });
});
