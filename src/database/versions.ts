import type { Queries } from './connect.js';
import { LISTENER } from './notify.js';

/** A process of the registry that listens, in the words of an operator. */
export interface OlderProcess {
  readonly address: string;
}

/** Those that serve and know less than a migration: every process listens, and says up to which one it knows. */
export async function olderProcesses(
  query: (text: string, values: unknown[]) => Promise<{ name: string; address: string | null }[]>,
  needs: string,
): Promise<OlderProcess[]> {
  const rows = await query(
    `select application_name as name, host(client_addr) as address from pg_stat_activity
      where datname = current_database() and application_name like $1`,
    [`${LISTENER}%`],
  );
  const older = rows.filter(({ name }) => name.slice(LISTENER.length).trim() < needs);
  return older.map(({ address }) => ({ address: address ?? 'this machine' }));
}

/** How often it is asked whether an upgrade is over, in milliseconds. */
const ASK_MS = 5_000;

/**
 * Whether all who serve know a migration, so that rows may say what versions before it don't understand. Once they do it is not
 * asked again: an older version must not be started then.
 */
export class KnownByAll {
  readonly #queries: Queries;
  readonly #needs: string;
  #known = false;
  #askAt = Number.NEGATIVE_INFINITY;

  constructor(queries: Queries, needs: string) {
    this.#queries = queries;
    this.#needs = needs;
  }

  /** Asks PostgreSQL once in five seconds, as long as it is not so; who comes meanwhile is told that it is not. */
  async isSo(): Promise<boolean> {
    const now = performance.now();
    if (this.#known || now < this.#askAt) return this.#known;
    this.#askAt = now + ASK_MS;
    const older = await olderProcesses((text, values) => this.#queries.query(text, values), this.#needs);
    this.#known = older.length === 0;
    return this.#known;
  }
}
