// A real nginx before several nodes, on a folder and a port of its own: each request goes to the next node.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { until } from '../../faults/support/processes.js';

const PROGRAM = '/usr/sbin/nginx';

export interface NginxOptions {
  /** `address:port` */
  readonly listen: string;
  /** `address:port` of each node. */
  readonly nodes: readonly string[];
  /** Files of a certificate and its key: HTTPS is served. */
  readonly certificate?: { readonly cert: string; readonly key: string } | undefined;
}

function configuration({ listen, nodes, certificate }: NginxOptions): string {
  return `
daemon off;
${userInfo().uid === 0 ? 'user root;' : ''}
worker_processes 1;
pid nginx.pid;
error_log error.log;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream nodes {
${nodes.map((node) => `    server ${node} max_fails=1 fail_timeout=1s;`).join('\n')}
  }
  server {
    listen ${listen}${certificate ? ' ssl' : ''};
    ${certificate ? `ssl_certificate ${certificate.cert}; ssl_certificate_key ${certificate.key};` : ''}
    client_max_body_size 0;
    location / {
      proxy_pass http://nodes;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_connect_timeout 5s;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }
  }
}
`;
}

/** Why there can be none here, if so. */
export function nginxMissing(): string | undefined {
  try {
    accessSync(PROGRAM, constants.X_OK);
    return undefined;
  } catch {
    return `${PROGRAM} is not there`;
  }
}

export class Nginx {
  private constructor(
    readonly folder: string,
    readonly child: ChildProcess,
  ) {}

  /** Resolves when a request comes through. */
  static async start(options: NginxOptions): Promise<Nginx> {
    const folder = await mkdtemp(join(tmpdir(), 'weighhouse-nginx-'));
    await chmod(folder, 0o755);
    const file = join(folder, 'nginx.conf');
    await writeFile(file, configuration(options));
    const child = spawn(PROGRAM, ['-p', folder, '-c', file, '-e', join(folder, 'error.log')], { stdio: 'ignore' });
    const nginx = new Nginx(folder, child);
    const port = options.listen.split(':').at(-1);
    try {
      await until('nginx serves', async () => {
        if (child.exitCode !== null) throw new Error(`nginx ended:\n${await nginx.log()}`);
        return await answers(`${options.certificate ? 'https' : 'http'}://127.0.0.1:${port}/v2/`);
      });
    } catch (error) {
      await nginx.stop();
      throw error;
    }
    return nginx;
  }

  async log(): Promise<string> {
    return await readFile(join(this.folder, 'error.log'), 'utf8').catch(() => '');
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exit = once(this.child, 'exit');
      this.child.kill('SIGTERM');
      await exit;
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Whether something speaks HTTP there; a certificate for another name is as good. */
async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url)).status < 500;
  } catch (error) {
    return String((error as Error).cause).includes('ERR_TLS_CERT_ALTNAME_INVALID');
  }
}
