import type { Database, Queries } from '../database/connect.js';
import { type Announced, announceAccess } from './changes.js';
import { matches } from './grants.js';
import { ACCESS_CHANNEL, Lease } from './lease.js';

/** What is said of the repositories that a pattern matches. */
export interface VisibilityRule {
  readonly pattern: string;
  /** True: everybody may pull; false: only grants count. */
  readonly isPublic: boolean;
}

/** The rules of visibility as of one moment. */
export class Visibility {
  readonly #exact = new Map<string, boolean>();
  /** The longest pattern first. */
  readonly #patterns: readonly VisibilityRule[];
  /** Whether anything is public. */
  readonly somePublic: boolean;

  constructor(rules: readonly VisibilityRule[]) {
    for (const rule of rules) if (!rule.pattern.includes('*')) this.#exact.set(rule.pattern, rule.isPublic);
    this.#patterns = rules
      .filter((rule) => rule.pattern.includes('*'))
      .sort((one, other) => other.pattern.length - one.pattern.length || (one.pattern < other.pattern ? -1 : 1));
    this.somePublic = rules.some((rule) => rule.isPublic);
  }

  /** What the most specific rule says, if any does: an exact name, else the longest pattern. */
  of(repository: string): 'public' | 'private' | undefined {
    const isPublic =
      this.#exact.get(repository) ?? this.#patterns.find(({ pattern }) => matches(pattern, repository))?.isPublic;
    return isPublic === undefined ? undefined : isPublic ? 'public' : 'private';
  }
}

/** All rules, by their patterns. */
export async function listVisibility(queries: Queries): Promise<VisibilityRule[]> {
  return await queries.query<VisibilityRule>(
    'select pattern, is_public as "isPublic" from visibility order by pattern',
  );
}

/** Sets a rule, or takes it away (undefined); it holds everywhere within REVOKED_MS. @returns whether anything changed. */
export async function setVisibility(
  database: Database,
  pattern: string,
  isPublic: boolean | undefined,
  announced: Announced,
): Promise<boolean> {
  return await database.transaction(async (transaction) => {
    // One at a time: a rule that is not there yet has no row to lock.
    await transaction.query(`select pg_advisory_xact_lock(hashtextextended('weighhouse visibility', 0))`);
    const [rule] = await transaction.query<{ isPublic: boolean }>(
      'select is_public as "isPublic" from visibility where pattern = $1',
      [pattern],
    );
    const [before, after] = [rule?.isPublic ?? null, isPublic ?? null];
    if (before === after) return false;
    if (after === null) await transaction.query('delete from visibility where pattern = $1', [pattern]);
    else
      await transaction.query(
        `insert into visibility (pattern, is_public) values ($1, $2)
         on conflict (pattern) do update set is_public = excluded.is_public`,
        [pattern, after],
      );
    await announceAccess({ kind: 'visibility-set', pattern, before, after }, announced, transaction);
    await transaction.query('select pg_notify($1, $2)', [ACCESS_CHANNEL, 'visibility']);
    return true;
  });
}

/** The rules under a lease. */
export function leaseVisibility(queries: Queries): Lease<Visibility> {
  return new Lease(async () => new Visibility(await listVisibility(queries)));
}
