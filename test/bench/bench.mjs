// This registry beside others, in the same work, in turn. Nothing is asserted; RESULTS.md keeps the tables of the last
// run.
//
//   npm run bench -- [--only push,…] [--rounds 3] [--size 2048] [--on disk,memory] [--who ours,…] [--dry]
//
// `--size` in MiB. A section is a file of `sections/`; a run of some replaces those in RESULTS.md and leaves the
// others, and with --dry none. Each who is measured runs alone, in a folder of its own, after some work to warm up; who
// begins changes from round to round. `npm run bench:install` brings what the others need; what is not there is not
// run, which is said.
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from '../../bin/build.js';
import { sections } from './sections/all.mjs';
import { startClient } from './support/client.mjs';
import { FullMemory } from './support/full-memory.mjs';
import { distribution, dockerRegistry, missing, nginx } from './support/peers.mjs';
import { watched } from './support/processes.mjs';
import { makeFolder, ours } from './support/registries.mjs';
import { keepSection, renderSection } from './support/results.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MiB = 1024 * 1024;
const REPOSITORY = 'bench/model';
const PLACES = { disk: tmpdir(), memory: '/dev/shm' };
const WARM_UPS = 4;
const WARM_UP_BYTES = 16 * MiB;

const makers = {
  ours: (folder) => ours('weighhouse', ROOT, { REGISTRY_DATA_DIR: join(folder, 'data') }),
  keyed: (folder) => ours('weighhouse, with a key', ROOT, { REGISTRY_DATA_DIR: join(folder, 'data') }, true),
  distribution,
  dockerRegistry,
  nginx,
};

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: sections.map(({ name }) => name).join(',') },
    rounds: { type: 'string', default: '3' },
    size: { type: 'string', default: '2048' },
    on: { type: 'string', default: Object.keys(PLACES).join(',') },
    who: { type: 'string', default: Object.keys(makers).join(',') },
    dry: { type: 'boolean', default: false },
  },
});
const list = (option, known) => {
  const names = values[option].split(',');
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new Error(`--${option} ${unknown}: there are ${known}`);
  return names;
};
const only = list(
  'only',
  sections.map(({ name }) => name),
);
const on = list('on', Object.keys(PLACES));
const who = list('who', Object.keys(makers));
const rounds = Number(values.rounds);
const size = Number(values.size);

await build('src');
const pages = await makeFolder();
const fullMemory = new FullMemory(pages.path);

/** What runs now, and all whose folders are kept meanwhile, to be ended when this is broken off. */
let running;
let turns = [];
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, async () => {
    await running?.registry.stop();
    for (const turn of turns) await turn.end();
    await pages.remove();
    process.exit(1);
  });

/** Of one who is measured: a registry, and a folder that is kept from round to round if the section wants that. */
class Turn {
  constructor(section, place, key) {
    Object.assign(this, { section, place, key });
  }

  async measure(client, round) {
    const { section, place, key } = this;
    const isNew = !this.folder;
    this.folder ??= await makeFolder(PLACES[place]);
    const registry = makers[key](this.folder.path);
    this.registry = registry;
    running = this;
    const context = {
      registry,
      client,
      place,
      round,
      size,
      folder: this.folder.path,
      repository: REPOSITORY,
      watch: (work) =>
        watched({ server: [registry.pid] }, work, ['server']).then(({ result, used }) => ({
          result,
          used: used.server,
        })),
      settle: async () => {
        // Nobody's pages are written while another is measured.
        spawnSync('sync');
        fullMemory.fill();
      },
    };
    try {
      if (section.startsItself) return { name: registry.name, figures: await section.measure(context) };
      await registry.start();
      if (isNew && section.prepare) this.prepared = await section.prepare(context);
      const at = { port: registry.port, repository: REPOSITORY, headers: await registry.token(REPOSITORY) };
      if (key !== 'nginx') await warmUp(client, at);
      const figures = await section.measure({ ...context, at, prepared: this.prepared });
      return { name: registry.name, figures };
    } finally {
      await registry.stop();
      if (!section.keeps) await this.end();
    }
  }

  async end() {
    await this.folder?.remove();
    this.folder = undefined;
  }
}

/** Registries run for weeks, compilers and caches for seconds: first some small blobs, so that each worker gets one. */
async function warmUp(client, at) {
  for (let count = 0; count < WARM_UPS; count++) {
    await client.tell('make', { length: WARM_UP_BYTES });
    await client.tell('push', at);
    await client.tell('pull', at);
  }
}

async function inTurn(section, client, measured) {
  const needed = [...section.who, ...(section.needs ?? [])];
  const lacking = Object.fromEntries(needed.map((key) => [key, missing[key]?.()]));
  const keys = section.who.filter((key) => who.includes(key) && !lacking[key]);
  if (section.needs?.some((key) => lacking[key])) keys.length = 0;
  for (const place of section.places.filter((one) => on.includes(one))) {
    turns = keys.map((key) => new Turn(section, place, key));
    try {
      for (let round = 1; round <= rounds; round++) {
        const first = (round - 1) % turns.length;
        for (const turn of [...turns.slice(first), ...turns.slice(0, first)]) {
          const one = { place, round, key: turn.key, ...(await turn.measure(client, round)) };
          measured.push(one);
          const figures = Object.entries(one.figures).map(([name, value]) => `${name} ${value?.toPrecision(3)}`);
          console.log(`${section.name}, ${place}, round ${round}, ${one.name}: ${figures.join('; ')}`);
        }
      }
    } finally {
      for (const turn of turns) await turn.end();
    }
  }
  measured.sort((one, other) => keys.indexOf(one.key) - keys.indexOf(other.key));
  return { lacking: Object.entries(lacking).flatMap(([key, why]) => (why ? [`${key}: ${why}`] : [])) };
}

try {
  for (const section of sections.filter(({ name }) => only.includes(name))) {
    const begun = performance.now();
    const client = startClient();
    const measured = [];
    try {
      const where = section.places ? ` --on ${on} --who ${who}` : '';
      const options = `npm run bench -- --only ${section.name} --rounds ${rounds} --size ${size}${where}`;
      const outcome = section.run
        ? await section.run({ client, rounds, size, measured })
        : await inTurn(section, client, measured);
      const text = renderSection(section, options, { measured, ...outcome });
      console.log(`\n${text}`);
      if (!values.dry)
        keepSection(
          sections.map(({ name }) => name),
          section.name,
          text,
        );
    } finally {
      client.stop();
    }
    console.log(`${section.name}: ${Math.round((performance.now() - begun) / 1000)} s`);
  }
} finally {
  fullMemory.close();
  await pages.remove();
}
