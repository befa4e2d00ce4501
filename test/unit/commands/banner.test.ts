import { expect } from 'chai';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { banner } from '../../../src/commands/banner.js';
import { readConfig } from '../../../src/config.js';

describe('what an operator reads when the registry is up', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'weighhouse-banner-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const shown = (data: string, adminKey = '') =>
    banner(
      readConfig({ REGISTRY_DATA_DIR: join(folder, data), REGISTRY_ADMIN_KEY: adminKey, REGISTRY_WORKERS: '1' }),
      { address: '127.0.0.1', port: 5000 },
      undefined,
      undefined,
    );

  it('names the file of the admin key where there is one, and nothing that is not there', async () => {
    await mkdir(join(folder, 'kept'));
    await writeFile(join(folder, 'kept', 'admin-key'), 'wh_admin_of-the-test\n');
    expect(shown('kept'))
      .to.match(/admin key +in .*kept\/admin-key\n/)
      .and.match(/--password-stdin < .*admin-key\n/);
    // Another node made it, or it was once a setting.
    expect(shown('absent')).to.include('not on this machine').and.not.include('admin-key');
    expect(shown('absent', 'wh_admin_of-the-test'))
      .to.include('<<< "$REGISTRY_ADMIN_KEY"')
      .and.not.include('of-the-test');
  });
});
