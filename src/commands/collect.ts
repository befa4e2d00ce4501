import type { Config } from '../config.js';
import { previewCollection, type Preview } from '../gc/collect-preview.js';
import { type CollectorObserver, collectorJob } from '../gc/collector.js';
import { collectorWalkJob } from '../gc/collector-walk.js';
import type { Log } from '../log.js';
import { collectorOptions } from './jobs.js';
import { readArguments, UsageError } from './usage.js';
import { withDatabase } from './with-database.js';

const USAGE = `weighhouse collect --dry-run [--all] [--json]
    tells what nothing names any more and would go in time, why, when, and how many bytes of each repository and model that is
weighhouse collect
    looks everything through now and decides what is due, as a registry that serves does by itself`;

/** Manifests that are told one by one, unless all are asked for. */
const SHOWN = 20;
/** Looking at all rows at once may take longer than a request. */
const TIMEOUT_SECONDS = 3600;

/** `weighhouse collect …` */
export async function collectCommand(config: Config, log: Log, args: readonly string[]): Promise<void> {
  const { values, positionals } = readArguments(
    args,
    {
      'dry-run': { type: 'boolean' },
      all: { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
    USAGE,
  );
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const isDry = values['dry-run'] === true;
  if (positionals.length > 0 || (!isDry && (values.all || values.json))) throw new UsageError(USAGE);
  const patient = { ...config, databaseTimeout: Math.max(config.databaseTimeout, TIMEOUT_SECONDS) };
  if (!isDry) {
    await collect(patient, log);
    return;
  }
  const preview = await withDatabase(patient, log, (database) =>
    previewCollection(database, collectorOptions(config, database, log, SILENT), values.all ? null : SHOWN),
  );
  process.stdout.write(values.json ? `${JSON.stringify(preview)}\n` : describe(preview));
}

const SILENT: CollectorObserver = {
  reviewed: () => undefined,
  condemned: () => undefined,
  removed: () => undefined,
  freed: () => undefined,
};

async function collect(config: Config, log: Log): Promise<void> {
  const done = { reviews: 0, condemned: 0, manifests: 0, blobs: 0, bytes: 0 };
  await withDatabase(config, log, async (database) => {
    const options = collectorOptions(config, database, log, {
      reviewed: (count) => {
        done.reviews += count;
      },
      condemned: (_kind, count) => {
        done.condemned += count;
      },
      removed: (kind, count) => {
        if (kind !== 'link') done[`${kind}s`] += count;
      },
      freed: (bytes) => {
        done.bytes += bytes;
      },
    });
    const walk = collectorWalkJob({ ...options, everyMs: 0 });
    const job = collectorJob(options);
    while (await walk.run());
    while (await job.run());
  });
  process.stdout.write(
    `decided    ${done.reviews}\ncondemned  ${done.condemned}\nremoved    ${done.manifests} manifests, ${done.blobs} blobs of ${sizeOf(done.bytes)}\n`,
  );
}

function describe({ manifests, repositories }: Preview): string {
  const sum = (what: 'manifests' | 'blobs' | 'bytes') => repositories.reduce((total, of) => total + of[what], 0);
  const lines: string[] = [];
  for (const { repository, digest, why, since, goes } of manifests) {
    const when = goes === null ? 'not looked at yet' : `since ${day(since)}, goes ${day(goes)}`;
    lines.push(`${repository}@${digest}  ${why}; ${when}`);
  }
  const more = sum('manifests') - manifests.length;
  if (more > 0) lines.push(`… and ${more} more (--all)`);
  if (lines.length > 0) lines.push('');
  for (const of of repositories) {
    const model = of.model === null || of.model === of.repository ? '' : ` (model ${of.model})`;
    lines.push(
      `${of.repository}${model}: ${of.manifests} manifests, ${of.links} blobs; ${of.blobs} of them are nowhere else, ${sizeOf(of.bytes)}`,
    );
  }
  lines.push(`altogether ${sum('manifests')} manifests and ${sum('blobs')} blobs, ${sizeOf(sum('bytes'))}`);
  return `${lines.join('\n')}\n`;
}

const day = (time: Date | null) => (time === null ? '?' : time.toISOString().slice(0, 16));

function sizeOf(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1);
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(1)} ${units[power]}`;
}
