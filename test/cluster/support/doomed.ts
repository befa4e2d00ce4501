import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../support/server.js';

const PROGRAM = fileURLToPath(new URL('./doomed-node.js', import.meta.url));

/** One more node of a cluster, which ends by kill -9 where a test wants it. */
export class Doomed {
  /** Resolves when it stands at its place. */
  readonly there: Promise<void>;

  private constructor(
    readonly host: string,
    readonly child: ChildProcess,
  ) {
    this.there = heard(child, 'there');
    this.there.catch(() => undefined);
  }

  /**
   * @param settings those of the other nodes
   * @param place the name of a pause point of the rooms or the store; empty: none
   */
  static async start(settings: Readonly<Record<string, string>>, place = ''): Promise<Doomed> {
    const host = `127.0.0.1:${await freePort()}`;
    const child = fork(PROGRAM, [place], {
      env: { PATH: process.env.PATH ?? '', ...settings, REGISTRY_LISTEN: host },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const doomed = new Doomed(host, child);
    await heard(child, 'serving');
    return doomed;
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exit = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exit;
  }
}

async function heard(child: ChildProcess, word: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    child.on('message', (message) => message === word && resolve());
    child.once('exit', (code, signal) => reject(new Error(`the node ended with ${code ?? signal} before '${word}'`)));
  });
}
