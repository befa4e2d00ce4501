import { randomUUID } from 'node:crypto';
import type { Database, Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';

/** A command that was not seen for so long is taken to be gone. */
const GONE_SECONDS = 60;

/** What a pass, or a part of it, has come to. */
export interface PassCounts {
  readonly blobs: number;
  readonly bytes: number;
  readonly faults: number;
  readonly healed: number;
  /** Blobs that could not be read though the store was there. */
  readonly unread: number;
}

/** A pass that is under way. */
export interface Pass extends PassCounts {
  readonly id: number;
  /** The last blob that was looked at; empty at the beginning. */
  readonly at: Digest | '';
  readonly startedAt: Date;
}

const COLUMNS = 'id, last_digest as "at", started_at as "startedAt", blobs, bytes, faults, healed, unread';

/** Somebody else goes on with the pass: whoever hears this stops. */
export class PassLost extends Error {
  override readonly name = 'PassLost';
}

/**
 * The rows of passes, by one runner: a command of this name, or the background (null). A command takes a pass from the
 * background, and the background takes up what a command left behind; none takes from a command that is at work.
 */
export class Passes {
  readonly #database: Database;
  readonly #holder: string | null;

  constructor(database: Database, runner: 'command' | 'background') {
    this.#database = database;
    this.#holder = runner === 'command' ? randomUUID() : null;
  }

  /** Whether a pass is under way, or one is due because the last began so many days ago. */
  async isDue(days: number): Promise<boolean> {
    const rows = await this.#database.query(
      `select from installation where exists (select from scrubs where finished_at is null)
          or coalesce((select max(started_at) from scrubs), created_at) <= now() - make_interval(days => $1)`,
      [days],
    );
    return rows.length > 0;
  }

  /**
   * Takes up the pass that is under way, or begins one.
   * @param restart whether to begin at the first blob in any case
   * @returns undefined if a command is at work on it.
   */
  async take(restart = false): Promise<Pass | undefined> {
    return await this.#database.transaction(async (transaction) => {
      const anew = `, started_at = now(), last_digest = '', blobs = 0, bytes = 0, faults = 0, healed = 0, unread = 0`;
      const [taken] = await transaction.query<Pass>(
        `update scrubs set holder = $1, held_at = now()${restart ? anew : ''}
          where finished_at is null
            and (holder is null or holder = $1 or held_at < now() - interval '${GONE_SECONDS} seconds') returning ${COLUMNS}`,
        [this.#holder],
      );
      if (taken) return taken;
      const [begun] = await transaction.query<Pass>(
        `insert into scrubs (holder, held_at) values ($1, now()) on conflict do nothing returning ${COLUMNS}`,
        [this.#holder],
      );
      return begun;
    });
  }

  /** Says that its runner is at work. */
  async keep({ id }: Pass): Promise<void> {
    await this.#database.query(
      'update scrubs set held_at = clock_timestamp() where id = $1 and holder is not distinct from $2',
      [id, this.#holder],
    );
  }

  /** Writes down that everything up to `to` was looked at, and what that came to. @throws PassLost */
  async advance(pass: Pass, to: Digest, counts: PassCounts): Promise<void> {
    const { blobs, bytes, faults, healed, unread } = counts;
    const rows = await this.#database.query(
      `update scrubs set last_digest = $4, held_at = now(), blobs = blobs + $5, bytes = bytes + $6, faults = faults + $7,
              healed = healed + $8, unread = unread + $9
        where id = $1 and holder is not distinct from $2 and last_digest = $3 and finished_at is null returning id`,
      [pass.id, this.#holder, pass.at, to, blobs, bytes, faults, healed, unread],
    );
    if (rows.length === 0) throw new PassLost('another runner goes on with the pass');
  }

  /** Ends the pass, with what was found at its end. @returns the whole of it. @throws PassLost */
  async finish(pass: Pass, faults: number): Promise<Pass> {
    const [whole] = await this.#database.query<Pass>(
      `update scrubs set finished_at = now(), faults = faults + $4
        where id = $1 and holder is not distinct from $2 and last_digest = $3 and finished_at is null returning ${COLUMNS}`,
      [pass.id, this.#holder, pass.at, faults],
    );
    if (!whole) throw new PassLost('another runner goes on with the pass');
    return whole;
  }

  /** Gives the pass to whoever comes next. */
  async leave({ id }: Pass): Promise<void> {
    await this.#database.query('update scrubs set holder = null where id = $1 and holder is not distinct from $2', [
      id,
      this.#holder,
    ]);
  }
}

/** When the last whole pass ended, in seconds since 1970; undefined before the first. */
export async function lastPassAt(queries: Queries): Promise<number | undefined> {
  const [row] = await queries.query<{ at: number | null }>(
    'select extract(epoch from max(finished_at))::float as at from scrubs',
  );
  return row?.at ?? undefined;
}
