// How soon it serves, and what it needs while nobody asks.
import { setTimeout as sleep } from 'node:timers/promises';
import { memoryOf } from '../support/processes.mjs';

const IDLE_MS = 5000;

export default {
  name: 'life',
  title: 'Start and idle memory',
  about:
    'From the start of the process to the first answer of `/v2/`: for the first time, when PostgreSQL makes its ' +
    `cluster, and when all is there. Memory (PSS of all processes) ${IDLE_MS / 1000} seconds later. What it is at ` +
    'its highest stands with each work.',
  places: ['disk', 'memory'],
  who: ['ours', 'distribution', 'dockerRegistry'],
  startsItself: true,
  figures: {
    'first start': { unit: 's', less: true },
    start: { unit: 's', less: true, zot: { disk: 0.03 / 0.02, memory: 0.03 / 0.02 } },
    'idle memory': { unit: 'MiB', less: true, zot: { disk: 53 / 44, memory: 53 / 44 } },
    'idle memory, without PostgreSQL': { unit: 'MiB', less: true },
  },

  async measure({ registry, settle }) {
    const first = await registry.start();
    await registry.stop();
    await settle();
    const start = await registry.start();
    await sleep(IDLE_MS);
    const { all, postgres } = memoryOf(registry.pid);
    return { 'first start': first, start, 'idle memory': all, 'idle memory, without PostgreSQL': all - postgres };
  },
};
