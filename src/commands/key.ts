import { setTimeout as sleep } from 'node:timers/promises';
import { ACTIONS, type Grant, parseGrants } from '../auth/grants.js';
import { createKey, type Key, listKeys, revokeKey } from '../auth/keys.js';
import { REVOKED_MS } from '../auth/lease.js';
import type { Config } from '../config.js';
import type { Database } from '../database/connect.js';
import { isFailure, RegistryError } from '../errors.js';
import type { Log } from '../log.js';
import { locally } from './audit-access.js';
import { readArguments, UsageError } from './usage.js';
import { withDatabase } from './with-database.js';

const USAGE = `weighhouse key create NAME [--grant PATTERN=ACTIONS]… [--admin] [--read-only] [--expires 90d|12h|DATE]
    makes a key and prints it, this once
    PATTERN  a repository; * stands for characters of a part, ** for parts: team-a/*, team-a/**, **
    ACTIONS  ${ACTIONS.join(',')}
weighhouse key list [--json]
    lists all keys, without their secrets
weighhouse key revoke ID…
    ends keys, their tokens, their running requests and their uploads, and returns when that holds everywhere`;

const HOUR_MS = 3_600_000;

/** `weighhouse key …` */
export async function keyCommand(config: Config, log: Log, args: readonly string[]): Promise<void> {
  const options = {
    grant: { type: 'string', multiple: true },
    admin: { type: 'boolean' },
    'read-only': { type: 'boolean' },
    expires: { type: 'string' },
    json: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  } as const;
  const { values, positionals } = readArguments(args, options, USAGE);
  const [verb, ...rest] = positionals;
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  const run = verbs[verb ?? ''];
  if (!run) throw new UsageError(USAGE);
  const work = run(config, rest, values);
  process.stdout.write(await withDatabase(config, log, work));
}

interface Values {
  readonly grant?: string[] | undefined;
  readonly admin?: boolean | undefined;
  readonly 'read-only'?: boolean | undefined;
  readonly expires?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Each checks what was typed before the database is opened; what comes back is printed. */
type Verb = (config: Config, names: readonly string[], values: Values) => (database: Database) => Promise<string>;

const create: Verb = (config, [name, ...others], values) => {
  if (name === undefined || others.length > 0) throw new UsageError(`one name is needed\n\n${USAGE}`);
  const grants = grantsOf(values);
  const expiresAt = values.expires === undefined ? undefined : parseExpiry(values.expires, Date.now());
  return async (database) => {
    const key = { name, grants, readOnly: values['read-only'] ?? false, expiresAt };
    return `${(await createKey(database, key, config.bcryptCost, locally())).text}\n`;
  };
};

const list: Verb = (_config, names, values) => {
  if (names.length > 0) throw new UsageError(USAGE);
  return async (database) => {
    const keys = await listKeys(database);
    return values.json ? `${JSON.stringify(keys, undefined, 2)}\n` : table(keys);
  };
};

const revoke: Verb = (_config, ids) => {
  if (ids.length === 0) throw new UsageError(`an id is needed; weighhouse key list shows them\n\n${USAGE}`);
  return async (database) => {
    let said = '';
    const unknown: string[] = [];
    for (const id of ids) {
      try {
        const revoked = await revokeKey(database, id, locally());
        said += revoked ? `revoked ${id}\n` : `${id} was revoked before\n`;
      } catch (error) {
        if (!isFailure(error, 'KeyUnknown')) throw error;
        unknown.push(id);
      }
    }
    // By then no process believes in them any more.
    await sleep(REVOKED_MS);
    if (unknown.length > 0) throw new Error(`${said}${unknown.join(', ')}: there is no key of this id`);
    return said;
  };
};

const verbs: Readonly<Record<string, Verb>> = { create, list, revoke };

function grantsOf(values: Values): Grant[] {
  const written = (values.grant ?? []).map((text) => {
    const [repository = '', actions = '', ...more] = text.split('=');
    if (actions === '' || more.length > 0) throw new UsageError(`--grant ${text} is not PATTERN=ACTIONS\n\n${USAGE}`);
    return { repository, actions: actions.split(',') };
  });
  if (values.admin) written.push({ repository: '**', actions: ['admin'] });
  if (written.length === 0) throw new UsageError(`a key without --grant or --admin could do nothing\n\n${USAGE}`);
  try {
    return parseGrants(written);
  } catch (error) {
    if (error instanceof RegistryError) throw new UsageError(error.message, { cause: error });
    throw error;
  }
}

/** `90d`, `12h`, or a date as ISO 8601 writes it. @throws UsageError */
export function parseExpiry(text: string, now: number): Date {
  const [, count, unit] = /^([0-9]{1,5})([dh])$/.exec(text) ?? [];
  const date = new Date(count === undefined ? text : now + Number(count) * (unit === 'd' ? 24 : 1) * HOUR_MS);
  if (Number.isNaN(date.getTime()) || date.getTime() <= now)
    throw new UsageError(`--expires ${text} is not a time to come, such as 90d, 12h or 2030-01-31`);
  return date;
}

function table(keys: readonly Key[]): string {
  const rows = keys.map((key) => [
    key.id,
    !key.active ? 'revoked' : key.expiresAt && key.expiresAt.getTime() <= Date.now() ? 'expired' : 'active',
    key.expiresAt?.toISOString().slice(0, 16) ?? '-',
    key.lastUsedAt?.toISOString().slice(0, 16) ?? '-',
    `${key.grants.map((grant) => `${grant.repository}=${grant.actions.join(',')}`).join(' ') || '-'}${key.readOnly ? ' (read only)' : ''}`,
    key.name,
  ]);
  const head = ['ID', 'STATE', 'EXPIRES', 'LAST USED', 'GRANTS', 'NAME'];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  return [head, ...rows]
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
