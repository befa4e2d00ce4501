// Pulling a large blob whose pages are in memory: by one stream, by eight, by sixteen ranges of it.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

const MiB = 1024 * 1024;
const STREAMS = 8;
const RANGES = 16;
/** What is over in a second is done so often. */
const TIMES = 3;

export default {
  name: 'pull',
  title: 'Pull',
  about:
    'One blob by one stream, by eight streams of all of it, and by sixteen ranges at once (one stream and the ' +
    'ranges three times); it was pushed just before, so the system has it in its cache. The client counts bytes; ' +
    'one pull more is checked by its digest.',
  places: ['disk', 'memory'],
  who: ['ours', 'keyed', 'distribution', 'dockerRegistry', 'nginx'],
  figures: {
    '1 stream': { unit: 'GB/s', zot: { disk: 2.9 / 2.5, memory: 2.9 / 2.5 } },
    '1 stream, server CPU': { unit: 's/GiB', less: true, zot: { disk: 0.35 / 0.43, memory: 0.35 / 0.43 } },
    '8 streams': { unit: 'GB/s', zot: { disk: 3 / 2.9, memory: 3 / 2.9 } },
    '8 streams, server CPU': { unit: 's/GiB', less: true, zot: { disk: 0.38 / 0.5, memory: 0.38 / 0.5 } },
    '16 ranges': { unit: 'GB/s', zot: { disk: 2.45 / 1.95, memory: 2.45 / 1.95 } },
    'memory, 8 streams': { unit: 'MiB', less: true, zot: { disk: 62 / 160, memory: 62 / 160 } },
    'memory, 8 streams, without PostgreSQL': { unit: 'MiB', less: true },
  },

  async measure({ client, at, size, watch, settle, folder, registry }) {
    const bytes = size * MiB;
    const {
      digests: [digest],
    } = await client.tell('make', { length: bytes });
    if (registry.name === 'nginx') {
      const place = join(folder, `www/v2/${at.repository}/blobs`);
      await mkdir(place, { recursive: true });
      await client.tell('save', { path: join(place, digest) });
    } else await client.tell('push', at);
    await settle();
    await client.tell('pull', { ...at, check: true });
    /** Does it `times`, each of which moves `count` times the bytes. */
    const run = async (deed, argument, { count = 1, times = TIMES }) => {
      let seconds = 0;
      const { used } = await watch(async () => {
        for (let time = 0; time < times; time++) seconds += (await client.tell(deed, { ...at, ...argument })).seconds;
      });
      const moved = bytes * count * times;
      return { ...used, cpu: (used.cpu * 1024 * MiB) / moved, speed: moved / seconds / 1e9 };
    };
    const one = await run('pull', {}, {});
    const eight = await run('pullMany', { streams: STREAMS }, { count: STREAMS, times: 1 });
    const ranges = await run('pullRanges', { ranges: RANGES }, {});
    return {
      '1 stream': one.speed,
      '1 stream, server CPU': one.cpu,
      '8 streams': eight.speed,
      '8 streams, server CPU': eight.cpu,
      '16 ranges': ranges.speed,
      'memory, 8 streams': eight.peak,
      'memory, 8 streams, without PostgreSQL': eight.peak - eight.peakPostgres,
    };
  },
};
