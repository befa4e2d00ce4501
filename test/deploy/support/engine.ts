// A Docker engine of the run's own: dockerd with folders of its own, in namespaces of its own once the image is built.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../../faults/support/processes.js';
import { find, type Outcome, run, type RunOptions } from './run.js';

const PATIENCE_MS = 120_000;

/** What keeps an engine from running here; undefined: nothing. */
export function engineMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'it needs root';
  const missing = [
    'docker',
    'dockerd',
    'containerd',
    'runc',
    'buildx',
    'compose',
    'unshare',
    'ip',
    'debootstrap',
  ].filter((program) => !find(program));
  return missing.length > 0 ? `${missing.join(', ')}: not installed (npm run clients:install)` : undefined;
}

export class Engine {
  #daemon: ChildProcess | undefined;
  #log = '';

  private constructor(readonly folder: string) {}

  /** One without images or a daemon. */
  static async make(): Promise<Engine> {
    // Short, because the path of a socket may have no more than 107 characters.
    const engine = new Engine(await mkdtemp(join(tmpdir(), 'wh-docker-')));
    const plugins = join(engine.folder, 'home', '.docker', 'cli-plugins');
    await mkdir(plugins, { recursive: true });
    for (const name of ['buildx', 'compose']) await symlink(find(name) ?? '', join(plugins, `docker-${name}`));
    await writeFile(join(engine.folder, 'daemon.json'), '{}');
    return engine;
  }

  /**
   * Starts the daemon. With `apart` containers see a network that nothing else of the machine is on, and so does what
   * `inside` runs; without, that of the machine, which a build needs for its packages.
   */
  async start({ apart }: { apart: boolean }): Promise<void> {
    const at = (name: string) => join(this.folder, name);
    const places = ['--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid')];
    // Its rules for the firewall are not needed: ports are forwarded by docker-proxy.
    const quiet = ['--iptables=false', '--ip6tables=false', '--bridge=none', '--storage-driver=overlay2'];
    const daemon = [
      find('dockerd') ?? '',
      '--config-file',
      at('daemon.json'),
      '--host',
      this.#socket,
      ...places,
      ...quiet,
    ];
    const command = apart
      ? ['unshare', '--net', '--mount', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...daemon]
      : daemon;
    const [program = '', ...args] = command;
    const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
    const child = spawn(program, args, { env: { ...process.env, PATH }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#daemon = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#log = `${this.#log}${text}`.slice(-100_000);
      });
    }
    const isReady = async () => {
      if (child.exitCode !== null) throw new Error(`dockerd ended with ${child.exitCode}:\n${this.#log.slice(-3000)}`);
      return (await this.docker(['version'], { mayFail: true })).code === 0;
    };
    await until('dockerd is ready', isReady, PATIENCE_MS);
  }

  /** Stops the daemon, and with it all containers. */
  async stop(): Promise<void> {
    const child = this.#daemon;
    this.#daemon = undefined;
    if (!child || child.exitCode !== null) return;
    const running = (await this.docker(['ps', '--quiet'], { mayFail: true })).stdout.split('\n').filter(Boolean);
    if (running.length > 0) await this.docker(['rm', '--force', ...running], { mayFail: true });
    child.kill('SIGTERM');
    await once(child, 'exit');
  }

  async dispose(): Promise<void> {
    await this.stop();
    for (const mount of await this.#mounts()) await run('umount', [mount]);
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
    if (existsSync('/etc/docker/key.json') && !this.#hadKey) await rm('/etc/docker', { recursive: true, force: true });
  }

  /** The command line of docker, with buildx and compose. */
  async docker(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const env = { HOME: join(this.folder, 'home'), DOCKER_HOST: this.#socket, DOCKER_BUILDKIT: '1', ...options.env };
    return await run('docker', args, { ...options, env });
  }

  /** Runs a program on the network of the containers, where published ports are. */
  async inside(program: string, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const network = `--net=/proc/${this.#daemon?.pid}/ns/net`;
    return await run('nsenter', [network, '--', find(program) ?? program, ...args], options);
  }

  get #socket(): string {
    return `unix://${join(this.folder, 'd.sock')}`;
  }

  // dockerd 20 writes a key there, whatever its folders are.
  readonly #hadKey = existsSync('/etc/docker/key.json');

  /** What a daemon left mounted in our folder, the innermost first. */
  async #mounts(): Promise<string[]> {
    const table = await readFile('/proc/self/mountinfo', 'utf8');
    const places = table.split('\n').map((line) => line.split(' ')[4] ?? '');
    return places.filter((place) => place.startsWith(`${this.folder}/`)).reverse();
  }
}
