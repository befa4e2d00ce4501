import { join } from 'node:path';
import type { Context } from 'mocha';
import { checkStore } from '../faults/support/oracle.js';
import { empty, placeIn, settingsOf } from '../ceph/support/bucket.js';
import { sharedCeph } from '../ceph/support/ceph.js';
import { compare } from '../ceph/support/compare.js';
import type { Counts } from './support/client.js';
import { soak } from './support/soak.js';

function tell(counts: Counts): void {
  const lines = [...counts].sort(([one], [other]) => (one < other ? -1 : 1));
  process.stdout.write(lines.map(([what, count]) => `      ${String(count).padStart(8)}  ${what}\n`).join(''));
}

describe('the collector under load, while processes are killed', () => {
  it('on the file system: nothing is missing, and nothing is left', async () => {
    const counts = await soak({
      environment: {},
      compare: async (server) => {
        const root = join(server.environment.REGISTRY_DATA_DIR ?? '', 'blobs');
        await checkStore(server.environment.REGISTRY_DATABASE_URL ?? '', root);
      },
    });
    tell(counts);
  });

  it('on an S3 gateway: nothing is missing, and nothing is left', async function (this: Context) {
    const place = placeIn(await sharedCeph(this));
    try {
      const counts = await soak({
        environment: settingsOf(place),
        compare: async (server) => {
          const { unnamed, lost } = await compare(server.environment.REGISTRY_DATABASE_URL ?? '', place);
          if (unnamed.length > 0 || lost.length > 0)
            throw new Error(`unnamed: ${unnamed.join()}; lost: ${lost.map(({ key }) => key).join()}`);
        },
      });
      tell(counts);
    } finally {
      await empty(place);
    }
  });
});
