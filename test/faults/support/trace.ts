import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A system call as strace saw it; `begin` and `end` are its places in the order of all. */
export interface Call {
  readonly name: string;
  /** As strace writes them, with the path or the connection behind each descriptor. */
  readonly args: string;
  readonly result: number;
  readonly begin: number;
  readonly end: number;
}

const CALLS =
  'openat,read,write,writev,pwrite64,pwritev,fsync,fdatasync,sync_file_range,recvfrom,sendto,recvmsg,sendmsg';
/** Enough of each buffer for the head of a request and for a statement with its values. */
const STRING_BYTES = 3000;

/** strace on a running process and all its threads. */
export class Trace {
  private constructor(
    readonly child: ChildProcess,
    readonly folder: string,
  ) {}

  /**
   * @param inject faults to make, as `strace -e inject=…` wants them
   * @param watched the calls to write down, as `strace -e trace=…` wants them
   * @throws Error that says why it can't be had
   */
  static async attach(pid: number, inject: readonly string[] = [], watched = CALLS): Promise<Trace> {
    const folder = await mkdtemp(join(tmpdir(), 'weighhouse-trace-'));
    const options = ['-f', '-yy', '-s', String(STRING_BYTES), '-e', `trace=${watched}`, '-o', join(folder, 'trace')];
    const faults = inject.flatMap((fault) => ['-e', `inject=${fault}`]);
    const child = spawn('strace', [...options, ...faults, '-p', String(pid)], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    const attached = new Promise<void>((resolve, reject) => {
      const fail = () => reject(new Error(said.trim().split('\n').at(-1) || 'it ended'));
      child.once('error', (error: NodeJS.ErrnoException) =>
        reject(error.code === 'ENOENT' ? new Error('it is not installed (apt-get install strace)') : error),
      );
      child.once('exit', fail);
      child.stderr?.on('data', (text: Buffer) => {
        said += text.toString();
        if (/attached/.test(said)) resolve();
      });
    });
    try {
      await attached;
    } catch (error) {
      await rm(folder, { recursive: true });
      throw error;
    }
    return new Trace(child, folder);
  }

  /** Lets the process go. @returns what it did. */
  async detach(): Promise<Call[]> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exit = once(this.child, 'exit');
      this.child.kill('SIGINT');
      await exit;
    }
    const text = await readFile(join(this.folder, 'trace'), 'latin1');
    await rm(this.folder, { recursive: true });
    return parseTrace(text);
  }
}

/** Reads what `strace -f -o` wrote. */
export function parseTrace(text: string): Call[] {
  const calls: Call[] = [];
  const unfinished = new Map<string, { name: string; args: string; begin: number }>();
  for (const [at, line] of text.split('\n').entries()) {
    const begun = /^(\d+) +(\w+)\((.*)$/.exec(line);
    const resumed = /^(\d+) +<\.\.\. \w+ resumed>(.*)$/.exec(line);
    const pid = (begun ?? resumed)?.[1] ?? '';
    const half = /^(.*?) *<unfinished \.\.\.>$/.exec(begun?.[3] ?? '');
    if (begun && half) {
      unfinished.set(pid, { name: begun[2] ?? '', args: half[1] ?? '', begin: at });
      continue;
    }
    const start = resumed ? unfinished.get(pid) : begun && { name: begun[2] ?? '', args: '', begin: at };
    if (!start) continue;
    const whole = start.args + ((begun ? begun[3] : resumed?.[2]) ?? '');
    const end = /^(.*)\) += (-?\d+|\?)[^=]*$/.exec(whole);
    if (end) calls.push({ ...start, args: end[1] ?? '', result: Number(end[2]), end: at });
  }
  return calls;
}

/** The path or connection behind the descriptor that is the first argument. */
export function targetOf(call: Call): string {
  return /^\d+<(.*?)>(?:, |$|\()/.exec(call.args)?.[1] ?? '';
}

/** All buffers of a call, as far as they were written down. */
export function bytesOf(call: Call): Buffer {
  const parts = [...call.args.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map((match) => decode(match[1] ?? ''));
  return Buffer.concat(parts);
}

const LETTERS: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, v: 11, f: 12, '"': 34, '\\': 92 };

function decode(text: string): Buffer {
  const bytes: number[] = [];
  for (const [, octal, letter, plain] of text.matchAll(/\\([0-7]{1,3})|\\(.)|([^\\])/g)) {
    if (octal !== undefined) bytes.push(Number.parseInt(octal, 8));
    else if (letter !== undefined) bytes.push(LETTERS[letter] ?? letter.charCodeAt(0));
    else bytes.push(plain?.charCodeAt(0) ?? 0);
  }
  return Buffer.from(bytes);
}
