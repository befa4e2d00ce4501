// wrk, a client for many requests that costs little.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const MS = { us: 0.001, ms: 1, s: 1000, m: 60_000 };

/**
 * @param {{ port: number, path: string, headers: object, connections: number, seconds: number }} work
 * @returns perSecond, p99 in milliseconds
 * @throws when an answer was not one of success, or a connection failed
 */
export async function wrk({ port, path, headers, connections, seconds }) {
  const fields = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const args = ['-t', '1', '-c', String(connections), '-d', `${seconds}s`, '--latency', ...fields];
  const { stdout } = await run('wrk', [...args, `http://127.0.0.1:${port}${path}`]);
  if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(`wrk of ${path}:\n${stdout}`);
  const [, number, unit] = /99%\s+([\d.]+)(us|ms|s|m)/.exec(stdout);
  return { perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)[1]), p99: Number(number) * MS[unit] };
}
