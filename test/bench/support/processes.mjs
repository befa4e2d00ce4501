// What processes use, as Linux tells it.
import { readdirSync, readFileSync } from 'node:fs';

const TICK_MS = 10;
const SAMPLE_MS = 500;

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // It has just ended.
    return '';
  }
}

/** Pids of the processes `roots` and of all below them. */
export function familyOf(...roots) {
  const parents = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    // After the name, which may hold anything: state, parent, …
    const [, parent] = read(`/proc/${pid}/stat`)
      .replace(/^.*\) /s, '')
      .split(' ');
    parents.set(Number(pid), Number(parent));
  }
  const isBelow = (pid) => roots.includes(pid) || (parents.has(pid) && isBelow(parents.get(pid)));
  return [...parents.keys()].filter(isBelow);
}

/** Milliseconds of CPU that the processes and those below them have used, also such as ended. */
export function cpuMsOf(...roots) {
  let ticks = 0;
  for (const pid of familyOf(...roots)) {
    const fields = read(`/proc/${pid}/stat`)
      .replace(/^.*\) /s, '')
      .split(' ');
    for (const field of fields.slice(11, 15)) ticks += Number(field);
  }
  return ticks * TICK_MS;
}

/** Memory (PSS) in MiB, that which several share counted once: of all, and of PostgreSQL's processes among them. */
export function memoryOf(...roots) {
  const mib = { all: 0, postgres: 0 };
  for (const pid of familyOf(...roots)) {
    const pss = Number(/^Pss:\s+([0-9]+)/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) / 1024;
    mib.all += pss;
    if (read(`/proc/${pid}/comm`).trim() === 'postgres') mib.postgres += pss;
  }
  return mib;
}

/**
 * Runs `work` and looks at processes meanwhile.
 * @param groups pids by name
 * @param weighed the groups whose memory is looked at, which takes the kernel a while: for all of Ceph a quarter of a
 *   core
 * @returns what it gave, and of each group the CPU in seconds, the peak of its memory in MiB (0 if it was not weighed),
 *   and what PostgreSQL had of that
 */
export async function watched(groups, work, weighed = []) {
  const names = Object.keys(groups);
  const before = names.map((name) => cpuMsOf(...groups[name]));
  const peaks = names.map(() => ({ all: 0, postgres: 0 }));
  const look = () => {
    for (const [index, name] of names.entries()) {
      if (!weighed.includes(name)) continue;
      const now = memoryOf(...groups[name]);
      if (now.all > peaks[index].all) peaks[index] = now;
    }
  };
  const timer = setInterval(look, SAMPLE_MS);
  try {
    const result = await work();
    look();
    const used = names.map((name, index) => [
      name,
      {
        cpu: (cpuMsOf(...groups[name]) - before[index]) / 1000,
        peak: peaks[index].all,
        peakPostgres: peaks[index].postgres,
      },
    ]);
    return { result, used: Object.fromEntries(used) };
  } finally {
    clearInterval(timer);
  }
}
