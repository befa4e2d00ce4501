import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { runCommand } from '../faults/support/command.js';
import { DumpedPostgres, dumpMissing } from '../faults/support/dump.js';
import { ask } from '../faults/support/oracle.js';
import { until } from '../faults/support/processes.js';
import { Story } from '../faults/support/story.js';
import { notRun } from '../support/not-run.js';
import { startServer, type TestServer } from '../support/server.js';
import type { S3Options } from '../../src/storage/s3/client.js';
import { empty, placeIn, settingsOf } from './support/bucket.js';
import { sharedCeph } from './support/ceph.js';

describe('a database that is lost, with its store in a bucket', function () {
  this.timeout(600_000);
  let place: S3Options | undefined;
  let postgres: DumpedPostgres | undefined;
  const servers: TestServer[] = [];

  after(async () => {
    for (const server of servers) await server.dispose();
    await postgres?.clear();
    if (place) await empty(place);
  });

  it('comes back from a dump after a sweep, and into an empty one', async function () {
    const missing = await dumpMissing();
    if (missing) notRun(this, 'pg_dump', missing);
    place = placeIn(await sharedCeph(this));
    postgres = await DumpedPostgres.start();
    const settings = (url: string) => ({
      ...settingsOf(place as S3Options),
      REGISTRY_RECORD_INTERVAL: '1',
      REGISTRY_ORPHAN_INTERVAL: '1',
      REGISTRY_ORPHAN_AGE: '0',
      REGISTRY_READ_GRACE: '0',
      REGISTRY_DATABASE_URL: url,
    });
    const serve = async (url: string) => {
      const server = await startServer({ embedded: true, environment: settings(url) });
      servers.push(server);
      return server;
    };
    const url = await postgres.create('live');
    const server = await serve(url);
    const story = new Story();
    await story.before(server);
    const dump = await postgres.dump('live');
    await story.after(server);
    await story.noteReleases(server);
    await until('all is written down', async () => (await ask(url, 'select from records')).length === 0);
    await server.kill();
    await postgres.drop('live');

    const restored = await postgres.restore(dump, 'restored');
    await ask(restored, 'update uploads set expires_at = now() where body is not null');
    const early = await serve(restored);
    await sleep(6_000);
    expect(await early.log()).to.contain('the storage knows more than the database');
    await early.stop();
    for (const lost of [restored, await postgres.create('empty')]) {
      const data = { REGISTRY_DATA_DIR: server.environment.REGISTRY_DATA_DIR ?? '' };
      const migrated = await runCommand('migrate', { ...settings(lost), ...data });
      expect(migrated.code, migrated.said).to.equal(0);
      const rebuilt = await runCommand('fsck', { ...settings(lost), ...data }, ['--rebuild']);
      expect(rebuilt.code, rebuilt.said).to.equal(0);
      const again = await serve(lost);
      await story.check(again);
      await sleep(6_000);
      await story.check(again);
      await again.stop();
    }
  });
});
