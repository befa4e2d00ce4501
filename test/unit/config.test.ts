import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { expect } from 'chai';
import { ConfigError, describeSettings, readConfig, settings } from '../../src/config.js';

function faultsOf(environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

describe('the settings', () => {
  it('have defaults that stand by themselves', () => {
    const config = readConfig({});
    expect(config.listen).to.deep.equal({ host: '127.0.0.1', port: 5000 });
    expect(config.dataDir).to.equal(resolve('data'));
    expect(config.filesystemRoot).to.equal(resolve('data/blobs'));
    expect(config.workers).to.equal(availableParallelism());
    expect(Object.isFrozen(config)).to.equal(true);
  });

  it('report every fault at once, each with the name of its setting', () => {
    const faults = faultsOf({
      REGISTRY_LISTEN: 'nowhere',
      REGISTRY_WORKERS: 'many',
      REGISTRY_ADMIN_KEY: 'short',
      REGISTRY_DATABASE_URL: 'mysql://x',
      REGISTRY_UNKNOWN: '1',
      OTHER: 'not ours',
      REGISTRY_AUTH_FILE: 'of podman and skopeo',
    });
    expect(faults).to.have.length(5);
    for (const name of ['LISTEN', 'WORKERS', 'ADMIN_KEY', 'DATABASE_URL', 'UNKNOWN']) {
      expect(
        faults.some((fault) => fault.startsWith(`REGISTRY_${name} `)),
        name,
      ).to.equal(true);
    }
  });

  it('never repeat the admin key in a fault', () => {
    expect(faultsOf({ REGISTRY_ADMIN_KEY: 'se cret' }).join()).not.to.include('se cret');
  });

  it('of a bucket are needed with REGISTRY_STORAGE=s3, and their secret is never repeated', () => {
    expect(faultsOf({ REGISTRY_STORAGE: 's3', REGISTRY_X_ACCEL_PREFIX: '/x/' })).to.have.length(4);
    const bucket = {
      REGISTRY_STORAGE: 's3',
      REGISTRY_S3_BUCKET: 'models',
      REGISTRY_S3_ACCESS_KEY_ID: 'id',
      REGISTRY_S3_SECRET_ACCESS_KEY: 'very secret',
    };
    expect(faultsOf(bucket)).to.deep.equal([]);
    const wrong = { REGISTRY_S3_PREFIX: 'no-slash', REGISTRY_S3_ENDPOINT: 'rgw:7480', REGISTRY_S3_TIMEOUT: '0' };
    const faults = faultsOf({ ...bucket, ...wrong });
    expect(faults).to.have.length(3);
    expect(faults.join()).not.to.include('very secret');
  });

  it('take IPv6 addresses and a port of 0, and an empty variable as not set', () => {
    expect(readConfig({ REGISTRY_LISTEN: '[::1]:0' }).listen).to.deep.equal({ host: '::1', port: 0 });
    expect(readConfig({ REGISTRY_LISTEN: '' }).listen.port).to.equal(5000);
  });

  it('each have a name, a unit and a sentence in the help', () => {
    const help = describeSettings();
    for (const setting of Object.values(settings)) {
      expect(help).to.include(`${setting.name} (${setting.unit}`);
      expect(setting.about).to.match(/\.$/);
    }
  });
});
