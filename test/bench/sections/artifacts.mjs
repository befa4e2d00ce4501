// Small artifacts, one after the other on each of eight connections.
import { load } from '../support/load.mjs';

const CONNECTIONS = 8;
const SECONDS = 5;
/** Until every path of the code is compiled: figures are of a registry that runs for days. */
const WARM_UP_SECONDS = 15;

export default {
  name: 'artifacts',
  title: 'Small artifacts',
  about:
    `A blob of 10 KiB, the config \`{}\`, a manifest and a new tag, each pushed; ${CONNECTIONS} connections for ` +
    `${SECONDS} seconds, after ${WARM_UP_SECONDS} to warm up.`,
  places: ['disk', 'memory'],
  who: ['ours', 'keyed', 'distribution', 'dockerRegistry'],
  figures: {
    artifacts: { unit: '1/s', zot: { disk: 144 / 199, memory: 144 / 199 } },
    p99: { unit: 'ms', less: true },
    'server CPU': { unit: 'ms each', less: true },
    memory: { unit: 'MiB', less: true },
  },

  async measure({ at, watch, settle }) {
    const { port, ...argument } = at;
    const work = { port, deed: 'artifact', argument, connections: CONNECTIONS, seconds: SECONDS };
    await load({ ...work, seconds: WARM_UP_SECONDS });
    await settle();
    const { result, used } = await watch(() => load(work));
    const cpu = (used.cpu * 1000) / (result.perSecond * SECONDS);
    return { artifacts: result.perSecond, p99: result.p99, 'server CPU': cpu, memory: used.peak };
  },
};
