// Pushing large blobs: by one PUT, by chunks, four at once; and how long the answer takes after the last byte.
import { median } from '../support/table.mjs';

const MiB = 1024 * 1024;
const CHUNK_BYTES = 64 * MiB;
const SMALL_BYTES = 16 * MiB;
const SMALL_PUSHES = 5;
const AT_ONCE = 4;

export default {
  name: 'push',
  title: 'Push',
  about:
    'One PUT; PATCHes of 64 MiB; four blobs of a quarter of the size at once; from the last byte to 201 for 16 ' +
    'MiB (the median of five) and for the one PUT. Memory is the highest during one push and during four.',
  places: ['disk', 'memory'],
  who: ['ours', 'keyed', 'distribution', 'dockerRegistry'],
  figures: {
    'one PUT': { unit: 'GB/s', zot: { disk: 0.44 / 0.48, memory: 0.485 / 0.58 } },
    'one PUT, server CPU': { unit: 's/GiB', less: true, zot: { disk: 2 / 1.8, memory: 2 / 1.8 } },
    'PATCHes of 64 MiB': { unit: 'GB/s', zot: { memory: 0.49 / 0.565 } },
    'four at once': { unit: 'GB/s', zot: { disk: 0.68 / 0.72, memory: 0.725 / 0.845 } },
    'to 201, 16 MiB': { unit: 'ms', less: true, zot: { disk: 23 / 14, memory: 15 / 1.5 } },
    'to 201, one PUT': { unit: 'ms', less: true, zot: { disk: 2580 / 1000, memory: 1865 / 1.3 } },
    'memory, one push': { unit: 'MiB', less: true, zot: { disk: 54 / 45, memory: 54 / 45 } },
    'memory, one push, without PostgreSQL': { unit: 'MiB', less: true },
    'memory, four': { unit: 'MiB', less: true, zot: { disk: 54 / 45, memory: 54 / 45 } },
    'memory, four, without PostgreSQL': { unit: 'MiB', less: true },
  },

  async measure({ client, at, size, watch, settle }) {
    const bytes = size * MiB;
    const small = [];
    for (let count = 0; count < SMALL_PUSHES; count++) {
      await client.tell('make', { length: SMALL_BYTES });
      small.push((await client.tell('push', at)).afterLastByte * 1000);
    }
    const run = async (deed, argument, count = 1) => {
      await client.tell('make', { length: bytes / count, count });
      await settle();
      const { result, used } = await watch(() => client.tell(deed, { ...at, ...argument }));
      return { ...result, ...used, speed: bytes / result.seconds / 1e9 };
    };
    const one = await run('push');
    await client.tell('pull', { ...at, check: true });
    const chunked = await run('pushChunked', { chunk: CHUNK_BYTES });
    const four = await run('pushAll', {}, AT_ONCE);
    return {
      'one PUT': one.speed,
      'one PUT, server CPU': (one.cpu * 1024) / size,
      'PATCHes of 64 MiB': chunked.speed,
      'four at once': four.speed,
      'to 201, 16 MiB': median(small),
      'to 201, one PUT': one.afterLastByte * 1000,
      'memory, one push': one.peak,
      'memory, one push, without PostgreSQL': one.peak - one.peakPostgres,
      'memory, four': four.peak,
      'memory, four, without PostgreSQL': four.peak - four.peakPostgres,
    };
  },
};
