import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startServer, type TestServer } from '../../support/server.js';
import { isAlive, signal, until } from './processes.js';

/** A data folder with an embedded PostgreSQL, and whatever was started on it; `clear` ends and removes all. */
export class EmbeddedSite {
  readonly #servers: TestServer[] = [];

  private constructor(
    readonly folder: string,
    readonly dataDir: string,
  ) {}

  /** @param template a data folder to begin with, since initdb takes seconds. */
  static async make(template?: string): Promise<EmbeddedSite> {
    const folder = await realpath(await mkdtemp(join(tmpdir(), 'weighhouse-embedded-')));
    // PostgreSQL never runs as root: its account must be able to pass.
    await chmod(folder, 0o711);
    const site = new EmbeddedSite(folder, join(folder, 'data'));
    if (template !== undefined) await promisify(execFile)('cp', ['-Rp', template, site.dataDir]);
    return site;
  }

  async start(environment: Readonly<Record<string, string>> = {}): Promise<TestServer> {
    const server = await startServer({
      embedded: true,
      environment: { REGISTRY_DATA_DIR: this.dataDir, ...environment },
    });
    this.#servers.push(server);
    return server;
  }

  get blobs(): string {
    return join(this.dataDir, 'blobs');
  }

  async #pidFile(): Promise<string[]> {
    const path = join(this.dataDir, 'postgres/cluster/postmaster.pid');
    return (await readFile(path, 'utf8').catch(() => '')).split('\n');
  }

  /** The pid of the running PostgreSQL, or undefined. */
  async postmaster(): Promise<number | undefined> {
    const pid = Number((await this.#pidFile())[0]);
    return pid > 1 && (await isAlive(pid)) ? pid : undefined;
  }

  /** For a connection of the test's own. */
  async url(): Promise<string> {
    const host = (await this.#pidFile())[4] ?? '';
    return `postgres://weighhouse@localhost:5432/weighhouse?host=${encodeURIComponent(host)}&sslmode=disable`;
  }

  /** kill -9 of PostgreSQL; its backends notice and end. */
  async killPostgres(): Promise<void> {
    const pid = await this.postmaster();
    if (pid === undefined) return;
    signal(pid, 'SIGKILL');
    await until('PostgreSQL is gone', async () => !(await isAlive(pid)));
  }

  async clear(): Promise<void> {
    for (const server of this.#servers) await server.dispose();
    await this.killPostgres();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}
