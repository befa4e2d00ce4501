// Through Ceph's gateway, which has a program of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../rgw.mjs', import.meta.url));
const MOST_MIB = 1024;

export default {
  name: 'rgw',
  title: "Through Ceph's gateway",
  about:
    'One PUT and one GET through the gateway of a Ceph of one OSD on loopback, which shares the cores with client ' +
    'and registries; redirecting: the client reads from the gateway itself. Where the gateway stands by itself, it ' +
    'got one PUT.',

  /** @returns the tables that the program prints. */
  async run({ rounds, size }) {
    const args = ['--rounds', String(rounds), '--mib', String(Math.min(size, MOST_MIB))];
    const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (said) => {
      text += said;
      process.stdout.write(said);
    });
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`the program ended with ${code}`);
    // After what it says of each turn come the tables.
    return { tables: [text.slice(text.indexOf('| round')).trimEnd(), ''] };
  },
};
