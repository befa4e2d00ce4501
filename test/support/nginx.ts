// A real nginx, with the configuration of deploy/nginx in front of nodes that run already.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from '../faults/support/processes.js';
import { PrivateAuthority } from './certificates.js';
import { freePort, trustAt } from './server.js';

/** Where Debian's and most others' packages put it, which a user's PATH may lack. */
export const NGINX = '/usr/sbin/nginx';

const SHIPPED = fileURLToPath(new URL('../../../deploy/nginx/', import.meta.url));

export interface NginxOptions {
  /** `host:port` of each node, in the order of the round. */
  readonly nodes: readonly string[];
  /** The folder of the blobs, for X-Accel-Redirect. */
  readonly blobs?: string;
  /** Whether it serves HTTPS, with a certificate of a private CA; the default. */
  readonly tls?: boolean;
  /** Files of another certificate and its key, for HTTPS. */
  readonly certificate?: { readonly cert: string; readonly key: string } | undefined;
  /** Where it listens; 127.0.0.1. */
  readonly address?: string;
}

export interface TestNginx {
  /** `https://127.0.0.1:port` */
  readonly url: string;
  /** `127.0.0.1:port`; what `exchange` and `Wire` take. */
  readonly host: string;
  readonly authority: PrivateAuthority | undefined;
  /** What it complained of so far. */
  log(): Promise<string>;
  /** Stops it and removes its folder. */
  dispose(): Promise<void>;
}

/** Whether nginx can be started here. */
export function isNginxThere(): boolean {
  return existsSync(NGINX);
}

/** Starts nginx; resolves when it listens, whatever the nodes do. */
export async function startNginx(options: NginxOptions): Promise<TestNginx> {
  const { nodes, blobs, tls = true, address = '127.0.0.1' } = options;
  const folder = await mkdtemp(join(tmpdir(), 'weighhouse-nginx-'));
  await chmod(folder, 0o755);
  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  let child: ChildProcess | undefined;
  const log = () => readFile(join(folder, 'error.log'), 'utf8').catch(() => '');

  async function dispose(): Promise<void> {
    if (child && child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    trustAt(host, undefined);
    await rm(folder, { recursive: true, force: true });
  }

  try {
    const authority = tls && !options.certificate ? await PrivateAuthority.make(folder) : undefined;
    const certificate = options.certificate ?? (await authority?.issue());
    await mkdir(join(folder, 'weighhouse'));
    for (const name of ['nginx.conf', 'weighhouse.conf']) await copyFile(join(SHIPPED, name), join(folder, name));
    // The lines of the nodes as they are shipped, with other addresses.
    const [line = ''] = /^server .*$/m.exec(await readFile(join(SHIPPED, 'weighhouse', 'nodes.conf'), 'utf8')) ?? [];
    const lines = nodes.map((node) => line.replace(/^server \S+/, `server ${node}`));
    await writeFile(join(folder, 'weighhouse', 'nodes.conf'), `${lines.join('\n')}\n`);
    const place = [`listen ${address}:${port}${certificate ? ' ssl' : ''} backlog=1024;`];
    if (certificate) place.push(`ssl_certificate ${certificate.cert};`, `ssl_certificate_key ${certificate.key};`);
    place.push(`set $weighhouse_blobs ${blobs ?? join(folder, 'no-blobs')}/;`);
    await writeFile(join(folder, 'weighhouse', 'server.conf'), `${place.join('\n')}\n`);
    // Root may read what the registry, root as well, has written; another account is nginx's default.
    const more = `daemon off; ${process.getuid?.() === 0 ? 'user root;' : ''}`;
    const files = ['-p', `${folder}/`, '-c', join(folder, 'nginx.conf'), '-e', 'error.log'];
    child = spawn(NGINX, [...files, '-g', more], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = `${said}${text}`.slice(-10_000);
    });
    if (authority) trustAt(host, authority.pem);
    const url = `${certificate ? 'https' : 'http'}://${host}`;
    const running = child;
    await until('nginx listens', async () => {
      if (running.exitCode !== null) throw new Error(`nginx ended at its start:\n${said}${await log()}`);
      return existsSync(join(folder, 'nginx.pid'));
    });
    return { url, host, authority, log, dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}
