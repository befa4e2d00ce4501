import { MiB, DAY, text, integer, address, optionalAddress, choice, networks, origin } from './kinds.js';

/** The process: where it listens, where things lie, how it starts and stops. */
export const processSettings = {
  listen: address('REGISTRY_LISTEN', '127.0.0.1:5000', 'Where HTTP is served; port 0 takes a free one.'),
  operationsListen: optionalAddress(
    'REGISTRY_OPERATIONS_LISTEN',
    'Where /health and /metrics are served without a key, for a closed network; empty: nowhere (then /metrics takes an admin key).',
  ),
  publicUrl: origin(
    'REGISTRY_PUBLIC_URL',
    'The address by which clients reach the registry, for the challenge; empty: taken from each request.',
  ),
  trustedProxies: networks(
    'REGISTRY_TRUSTED_PROXIES',
    'Proxies whose X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host are believed.',
  ),
  tlsCert: text(
    'REGISTRY_TLS_CERT',
    '',
    'The file of the certificate chain (PEM); with it and the key HTTPS is served. Read again when it changes.',
  ),
  tlsKey: text('REGISTRY_TLS_KEY', '', 'The file of the private key (PEM) of the certificate.'),
  dataDir: text(
    'REGISTRY_DATA_DIR',
    './data',
    'The folder of the embedded PostgreSQL, the admin key and, by default, the blobs.',
  ),
  databaseUrl: text(
    'REGISTRY_DATABASE_URL',
    '',
    'A PostgreSQL (15 or newer, with its extension pg_trgm) to use, as postgres://user:password@host:port/name; empty: an embedded one under the data folder.',
    /^$|^postgres(ql)?:\/\/\S+$/,
    'empty or postgres://user:password@host:port/name',
  ),
  databasePool: integer(
    'REGISTRY_DATABASE_POOL',
    10,
    'connections',
    1,
    1000,
    'Connections to PostgreSQL in each process, beside the one that listens.',
  ),
  databaseTimeout: integer(
    'REGISTRY_DATABASE_TIMEOUT',
    10,
    'seconds',
    1,
    600,
    'How long a request waits for a connection to PostgreSQL, or for its answer to a statement, before it is answered 503.',
  ),
  workers: integer('REGISTRY_WORKERS', 0, 'processes', 0, 256, 'Processes that serve; 0: one per core.'),
  logLevel: text(
    'REGISTRY_LOG_LEVEL',
    'info',
    'What is logged: fatal, error, warn, info, debug, trace or silent.',
    /^(fatal|error|warn|info|debug|trace|silent)$/,
    'one of fatal, error, warn, info, debug, trace, silent',
  ),
  logFormat: choice(
    'REGISTRY_LOG_FORMAT',
    ['auto', 'json', 'text'],
    'The form of the log: JSON lines, or text to read; auto: text on a terminal.',
  ),
  drainDelay: integer(
    'REGISTRY_DRAIN_DELAY',
    0,
    'seconds',
    0,
    3600,
    'How long after SIGTERM connections are still taken while /health already says 503, so that a balancer notices.',
  ),
  drainTimeout: integer(
    'REGISTRY_DRAIN_TIMEOUT',
    30,
    'seconds',
    0,
    DAY,
    'How long running requests may go on after SIGTERM.',
  ),
  healthTimeout: integer(
    'REGISTRY_HEALTH_TIMEOUT',
    2,
    'seconds',
    1,
    60,
    'How long each check of /health may take before it counts as failed.',
  ),
  healthFreeBytes: integer(
    'REGISTRY_HEALTH_FREE_BYTES',
    1024 * MiB,
    'bytes',
    0,
    Number.MAX_SAFE_INTEGER,
    'With less free room than this where the blobs are, /health says 503; with blobs in a bucket: where an embedded PostgreSQL is.',
  ),
  xAccelPrefix: text(
    'REGISTRY_X_ACCEL_PREFIX',
    '',
    'Behind nginx: the internal location that serves the folder of the blobs, such as /weighhouse-blobs/; blobs are then handed over by X-Accel-Redirect. Empty: off.',
    /^$|^\/[A-Za-z0-9._~/-]*\/$/,
    'empty or a path that begins and ends with /',
  ),
} as const;
