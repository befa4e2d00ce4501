import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { accessSettings } from './settings/access.js';
import { backgroundSettings } from './settings/background.js';
import { Fault, type Setting } from './settings/kinds.js';
import { limitsSettings } from './settings/limits.js';
import { processSettings } from './settings/process.js';
import { secondStoreSettings } from './settings/second-store.js';
import { storageSettings } from './settings/storage.js';

/** Every setting of Weighhouse, in the order in which `--help` and the README print them. */
export const settings = {
  ...processSettings,
  ...storageSettings,
  ...secondStoreSettings,
  ...accessSettings,
  ...limitsSettings,
  ...backgroundSettings,
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
  const config = values as Values;
  if (Boolean(config.tlsCert) !== Boolean(config.tlsKey))
    faults.push(`${config.tlsCert ? 'REGISTRY_TLS_KEY' : 'REGISTRY_TLS_CERT'} is missing: HTTPS needs both files`);
  if (config.collectGrace < config.uploadLifetime)
    faults.push(
      'REGISTRY_COLLECT_GRACE must not be less than REGISTRY_UPLOAD_LIFETIME: a blob has to outlive the push that brought it',
    );
  if (config.storage === 's3') faults.push(...faultsOfS3(config));
  else if (Number.isFinite(config.redirect)) faults.push('REGISTRY_REDIRECT needs REGISTRY_STORAGE=s3');
  faults.push(...faultsOfSecondStore(config));
  if (faults.length > 0) throw new ConfigError(faults);
  const dataDir = resolve(config.dataDir);
  return Object.freeze({
    ...config,
    dataDir,
    filesystemRoot: resolve(config.filesystemRoot || join(dataDir, 'blobs')),
    workers: config.workers || availableParallelism(),
  });
}

/** What the store in a bucket needs beside its settings' own rules. */
function faultsOfS3(config: Values): string[] {
  const needed = ['s3Bucket', 's3AccessKeyId', 's3SecretAccessKey'] as const;
  const faults = needed
    .filter((key) => config[key] === '')
    .map((key) => `${settings[key].name} is missing: REGISTRY_STORAGE=s3 needs it`);
  if (config.xAccelPrefix) faults.push('REGISTRY_X_ACCEL_PREFIX needs files, REGISTRY_STORAGE=s3 has none');
  if (Number.isFinite(config.redirect) && config.redirectLifetime > config.readGrace)
    faults.push('REGISTRY_REDIRECT_LIFETIME must not exceed REGISTRY_READ_GRACE, for which bytes outlive their blob');
  return faults;
}

/** What the second store needs, of either kind, if there is one. */
function faultsOfSecondStore(config: Values): string[] {
  const needed = {
    none: [],
    filesystem: ['secondStoreRoot'],
    s3: ['secondStoreS3Bucket', 'secondStoreS3AccessKeyId', 'secondStoreS3SecretAccessKey'],
  } as const;
  return needed[config.secondStore]
    .filter((key) => config[key] === '')
    .map((key) => `${settings[key].name} is missing: REGISTRY_SECOND_STORE=${config.secondStore} needs it`);
}

/** The settings of this process. The only place that reads the environment. */
export function readProcessConfig(): Config {
  // The SDK of S3 announces on every start which Node its later versions will need; ours is pinned.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true';
  // Workers inherit it. The store leaves four of them to others when it hangs.
  process.env.UV_THREADPOOL_SIZE ??= '16';
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
