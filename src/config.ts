import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';

const KiB = 1024;
const MiB = 1024 * KiB;
const TiB = 1024 * 1024 * MiB;
const DAY = 24 * 60 * 60;

/** One setting: its environment variable, default, unit, what it is for, and how its text becomes a value. */
interface Setting<T> {
  readonly name: string;
  readonly fallback: string;
  readonly unit: string;
  readonly about: string;
  parse(text: string): T;
}

class Fault extends Error {}

function text(name: string, fallback: string, about: string, pattern?: RegExp, wanted = ''): Setting<string> {
  const parse = (value: string) => {
    if (pattern && !pattern.test(value)) throw new Fault(`must be ${wanted}`);
    return value;
  };
  return { name, fallback, unit: 'text', about, parse };
}

function integer(name: string, fallback: number, unit: string, min: number, max: number, about: string) {
  const parse = (value: string) => {
    const number = Number(value);
    if (!/^[0-9]+$/.test(value) || !Number.isSafeInteger(number) || number < min || number > max) {
      throw new Fault(`must be a whole number (${unit}) from ${min} to ${max}, not ${JSON.stringify(value)}`);
    }
    return number;
  };
  return { name, fallback: String(fallback), unit, about, parse } satisfies Setting<number>;
}

function address(name: string, fallback: string, about: string): Setting<{ host: string; port: number }> {
  const parse = (value: string) => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):([0-9]{1,5})$/.exec(value);
    const port = Number(match?.[3]);
    if (!match || port > 65535) throw new Fault(`must be host:port, not ${JSON.stringify(value)}`);
    return { host: match[1] ?? match[2] ?? '', port };
  };
  return { name, fallback, unit: 'host:port', about, parse };
}

/** Every setting of Weighhouse, in the order in which `--help` and the README print them. */
export const settings = {
  listen: address('REGISTRY_LISTEN', '127.0.0.1:5000', 'Where HTTP is served; port 0 takes a free one.'),
  dataDir: text(
    'REGISTRY_DATA_DIR',
    './data',
    'The folder of the embedded PostgreSQL, the admin key and, by default, the blobs.',
  ),
  databaseUrl: text(
    'REGISTRY_DATABASE_URL',
    '',
    'A PostgreSQL (15 or newer) to use, as postgres://user:password@host:port/name; empty: an embedded one under the data folder.',
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
  filesystemRoot: text('REGISTRY_FILESYSTEM_ROOT', '', 'The folder of the blobs; empty: <data>/blobs.'),
  adminKey: text(
    'REGISTRY_ADMIN_KEY',
    '',
    'The admin key, for an operator who wants to choose it (12 to 72 bytes); empty: one is made at the first start and kept in <data>/admin-key.',
    /^$|^[\x21-\x7e]{12,72}$/,
    'empty or 12 to 72 printable ASCII characters without spaces',
  ),
  bcryptCost: integer(
    'REGISTRY_BCRYPT_COST',
    10,
    'rounds as a power of two',
    4,
    15,
    'What checking a key for the first time costs; what has passed is remembered for a minute.',
  ),
  workers: integer('REGISTRY_WORKERS', 0, 'processes', 0, 256, 'Processes that serve; 0: one per core.'),
  logLevel: text(
    'REGISTRY_LOG_LEVEL',
    'info',
    'What is logged: fatal, error, warn, info, debug, trace or silent.',
    /^(fatal|error|warn|info|debug|trace|silent)$/,
    'one of fatal, error, warn, info, debug, trace, silent',
  ),
  manifestMaxBytes: integer(
    'REGISTRY_MANIFEST_MAX_BYTES',
    4 * MiB,
    'bytes',
    1 * KiB,
    64 * MiB,
    'The largest manifest that is accepted.',
  ),
  manifestMaxDepth: integer(
    'REGISTRY_MANIFEST_MAX_DEPTH',
    64,
    'levels',
    4,
    1000,
    'How deep the JSON of a manifest may nest.',
  ),
  manifestMaxDescriptors: integer(
    'REGISTRY_MANIFEST_MAX_DESCRIPTORS',
    20_000,
    'descriptors',
    1,
    1_000_000,
    'How many descriptors a manifest may hold.',
  ),
  manifestMaxTags: integer(
    'REGISTRY_MANIFEST_MAX_TAGS',
    100,
    'tags',
    1,
    10_000,
    'How many tags one PUT of a manifest may set (?tag=).',
  ),
  blobMaxBytes: integer(
    'REGISTRY_BLOB_MAX_BYTES',
    5 * TiB,
    'bytes',
    1,
    Number.MAX_SAFE_INTEGER,
    'The largest blob that is accepted.',
  ),
  chunkMinBytes: integer(
    'REGISTRY_CHUNK_MIN_BYTES',
    8 * MiB,
    'bytes',
    0,
    1024 * MiB,
    'What clients are asked for as the smallest chunk (OCI-Chunk-Min-Length); smaller ones work too. 0: not asked.',
  ),
  uploadLifetime: integer(
    'REGISTRY_UPLOAD_LIFETIME',
    7 * DAY,
    'seconds',
    1,
    365 * DAY,
    'How long after its last byte an upload session can be resumed.',
  ),
  uploadMemory: integer(
    'REGISTRY_UPLOAD_MEMORY',
    64 * MiB,
    'bytes',
    1 * MiB,
    1024 * 1024 * MiB,
    'Bytes of all uploads of a process that may wait in memory to be written; beyond that clients are slowed.',
  ),
  downloadMemory: integer(
    'REGISTRY_DOWNLOAD_MEMORY',
    64 * MiB,
    'bytes',
    1 * MiB,
    1024 * 1024 * MiB,
    'Bytes of all downloads of a process that may be read ahead; it is shared out among them.',
  ),
  listMax: integer(
    'REGISTRY_LIST_MAX',
    10_000,
    'entries',
    1,
    1_000_000,
    'The longest page of tags or repositories; longer lists continue by Link.',
  ),
  referrersMaxBytes: integer(
    'REGISTRY_REFERRERS_MAX_BYTES',
    4 * MiB,
    'bytes',
    1 * KiB,
    64 * MiB,
    'The largest page of referrers; longer lists continue by Link.',
  ),
  rangesMax: integer(
    'REGISTRY_RANGES_MAX',
    100,
    'ranges',
    1,
    10_000,
    'How many ranges one GET may ask for; with more the whole blob is sent.',
  ),
  storageTimeout: integer(
    'REGISTRY_STORAGE_TIMEOUT',
    30,
    'seconds',
    1,
    3600,
    'How long a download waits for its first bytes from the storage before it is answered 503.',
  ),
  idleTimeout: integer(
    'REGISTRY_IDLE_TIMEOUT',
    300,
    'seconds',
    1,
    DAY,
    'A request or response of which no byte moves for this long is broken off; what arrived is kept.',
  ),
  headersTimeout: integer(
    'REGISTRY_HEADERS_TIMEOUT',
    60,
    'seconds',
    1,
    3600,
    'How long a client may take to send the head of a request.',
  ),
  keepAliveTimeout: integer(
    'REGISTRY_KEEP_ALIVE_TIMEOUT',
    75,
    'seconds',
    1,
    3600,
    'How long an idle connection is kept for its next request.',
  ),
  drainTimeout: integer(
    'REGISTRY_DRAIN_TIMEOUT',
    30,
    'seconds',
    0,
    DAY,
    'How long running requests may go on after SIGTERM.',
  ),
  xAccelPrefix: text(
    'REGISTRY_X_ACCEL_PREFIX',
    '',
    'Behind nginx: the internal location that serves the folder of the blobs, such as /weighhouse-blobs/; blobs are then handed over by X-Accel-Redirect. Empty: off.',
    /^$|^\/[A-Za-z0-9._~/-]*\/$/,
    'empty or a path that begins and ends with /',
  ),
  jobInterval: integer(
    'REGISTRY_JOB_INTERVAL',
    60,
    'seconds',
    1,
    DAY,
    'How often expired sessions and removals are looked after.',
  ),
  removalDelay: integer(
    'REGISTRY_REMOVAL_DELAY',
    3600,
    'seconds',
    0,
    30 * DAY,
    'How long after a first removal the store is looked at again; must exceed the longest stall of a writer.',
  ),
  readGrace: integer(
    'REGISTRY_READ_GRACE',
    DAY,
    'seconds',
    0,
    365 * DAY,
    'How long the bytes of a replaced or collected blob stay for downloads that are reading them.',
  ),
  recordInterval: integer(
    'REGISTRY_RECORD_INTERVAL',
    5,
    'seconds',
    1,
    3600,
    'How often what changed is written down beside the blobs, so that a lost database can be rebuilt.',
  ),
  orphanInterval: integer(
    'REGISTRY_ORPHAN_INTERVAL',
    DAY,
    'seconds',
    1,
    365 * DAY,
    'How often the store is searched for objects that nothing names.',
  ),
  orphanAge: integer(
    'REGISTRY_ORPHAN_AGE',
    7 * DAY,
    'seconds',
    0,
    365 * DAY,
    'How long an object in the store that nothing names stays after it was first seen.',
  ),
} as const;

/** Variables that begin like ours, but are those of clients (podman, skopeo). */
const FOREIGN = ['REGISTRY_AUTH_FILE'];

type Values = { readonly [K in keyof typeof settings]: ReturnType<(typeof settings)[K]['parse']> };

/** What the process runs with: every setting, with the derived ones filled in. Frozen. */
export type Config = Values;

/** All faults of the environment at once; `faults` are sentences that name their setting. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  constructor(readonly faults: readonly string[]) {
    super(
      `the settings have ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n  ${faults.join('\n  ')}`,
    );
  }
}

/**
 * Reads the settings out of an environment. An empty variable counts as not set.
 * @throws ConfigError that names every fault, also REGISTRY_ variables that do not exist.
 */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const faults: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries<Setting<unknown>>(settings)) {
    try {
      values[key] = setting.parse(environment[setting.name] || setting.fallback);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      faults.push(`${setting.name} ${error.message}`);
    }
  }
  const known = new Set<string>([...Object.values(settings).map((setting) => setting.name), ...FOREIGN]);
  for (const name of Object.keys(environment)) {
    if (name.startsWith('REGISTRY_') && !known.has(name)) faults.push(`${name} is no setting of Weighhouse`);
  }
  if (faults.length > 0) throw new ConfigError(faults);
  const config = values as Values;
  const dataDir = resolve(config.dataDir);
  return Object.freeze({
    ...config,
    dataDir,
    filesystemRoot: resolve(config.filesystemRoot || join(dataDir, 'blobs')),
    workers: config.workers || availableParallelism(),
  });
}

/** The settings of this process. The only place that reads the environment. */
export function readProcessConfig(): Config {
  return readConfig(process.env);
}

/** The settings as lines for `--help`. */
export function describeSettings(): string {
  return Object.values<Setting<unknown>>(settings)
    .map((s) => `  ${s.name} (${s.unit}; default ${s.fallback === '' ? 'empty' : s.fallback})\n      ${s.about}`)
    .join('\n');
}

/** The settings as a Markdown table, for the README; a test compares them. */
export function settingsTable(): string {
  const rows = Object.values<Setting<unknown>>(settings).map(
    (s) =>
      `| \`${s.name}\` | ${s.fallback === '' ? '' : `\`${s.fallback}\``} | ${s.unit} | ${s.about.replaceAll('<', '&lt;')} |`,
  );
  return ['| setting | default | unit | what it does |', '|---|---|---|---|', ...rows].join('\n');
}
