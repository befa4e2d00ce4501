// Whom this registry is compared with: distribution, Debian's docker-registry, which is an older one, and nginx as the
// limit.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Registry } from './registries.mjs';

const VERSION = 'v3.1.2';
const CACHE = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
const NGINX = '/usr/sbin/nginx';
const DOCKER_REGISTRY = '/usr/bin/docker-registry';
const WRK = '/usr/bin/wrk';
const CLIENTS = process.env.WEIGHHOUSE_CLIENTS || join(CACHE, 'weighhouse', 'clients');
/** That of the clients, which tests drive. */
export const ORAS = join(CLIENTS, 'bin/oras');

export const DISTRIBUTION_NAME = `distribution ${VERSION}`;
export const DOCKER_REGISTRY_NAME = 'docker-registry 2.8.2';

const absent = (file) => () => (existsSync(file) ? undefined : `${file} is not there`);

/** Why one of them, or a tool, can't be run here, if so. */
export const missing = {
  nginx: absent(NGINX),
  dockerRegistry: absent(DOCKER_REGISTRY),
  wrk: absent(WRK),
  oras: absent(ORAS),
  distribution() {
    try {
      installDistribution();
    } catch (error) {
      return error.message;
    }
  },
};

/** How distribution, old or new, is told what to do; JSON is YAML. */
async function configure(folder, port, storage) {
  const path = join(folder, 'registry.yml');
  const cache = { blobdescriptor: 'inmemory' };
  const config = {
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { ...storage, delete: { enabled: true }, cache },
    http: { addr: `127.0.0.1:${port}` },
  };
  await writeFile(path, JSON.stringify(config));
  return path;
}

const environment = { env: { OTEL_TRACES_EXPORTER: 'none' }, stdio: ['ignore', 'ignore', 'inherit'] };

/** distribution, without keys; built once into the cache of the clients. */
export function distribution(folder, storage = { filesystem: { rootdirectory: join(folder, 'blobs') } }) {
  const program = installDistribution();
  return new Registry(DISTRIBUTION_NAME, async (port) =>
    spawn(program, ['serve', await configure(folder, port, storage)], environment),
  );
}

/** What distribution is told of a bucket, of which it hands out the bytes itself. */
export const bucketStorage = ({ endpoint, bucket, accessKeyId, secretAccessKey }) => ({
  s3: {
    region: 'us-east-1',
    regionendpoint: endpoint,
    bucket,
    accesskey: accessKeyId,
    secretkey: secretAccessKey,
    forcepathstyle: true,
    secure: false,
    rootdirectory: '/distribution',
  },
  redirect: { disable: true },
});

/** Debian's docker-registry, without keys. */
export function dockerRegistry(folder) {
  const storage = { filesystem: { rootdirectory: join(folder, 'blobs') } };
  return new Registry(DOCKER_REGISTRY_NAME, async (port) =>
    spawn(DOCKER_REGISTRY, ['serve', await configure(folder, port, storage)], environment),
  );
}

/** nginx over the files of `<folder>/www`. */
export function nginx(folder) {
  return new Registry('nginx', async (port) => {
    const config = join(folder, 'nginx.conf');
    await writeFile(
      config,
      `daemon off; worker_processes auto; pid ${folder}/nginx.pid; error_log stderr error;
       ${process.getuid?.() === 0 ? 'user root;' : ''}
       events { worker_connections 1024; }
       http {
         access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
          default_type application/octet-stream;
         client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/fastcgi;
         uwsgi_temp_path ${folder}/uwsgi; scgi_temp_path ${folder}/scgi;
         server { listen 127.0.0.1:${port}; root ${folder}/www; location = /v2/ { return 200; } }
       }`,
    );
    mkdirSync(join(folder, 'www'), { recursive: true });
    return spawn(NGINX, ['-p', folder, '-c', config, '-e', 'stderr'], { stdio: ['ignore', 'ignore', 'inherit'] });
  });
}

function installDistribution() {
  const cache = join(CACHE, 'weighhouse', `distribution-${VERSION}`);
  const program = join(cache, 'registry');
  if (existsSync(program)) return program;
  mkdirSync(cache, { recursive: true });
  const path = `github.com/distribution/distribution/v3/cmd/registry@${VERSION}`;
  const env = { ...process.env, CGO_ENABLED: '0', GOBIN: cache };
  const built = spawnSync('go', ['install', '-p', '2', '-trimpath', path], { env, stdio: 'inherit' });
  if (built.status !== 0) throw new Error('distribution can not be built: is go there?');
  return program;
}
