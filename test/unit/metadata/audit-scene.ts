// Rows of the record as writers make them, held open where a test wants them late.
import { connect, type Database, type Queries } from '../../../src/database/connect.js';
import { writeAudit } from '../../../src/metadata/audit.js';
import { createDatabase, type TestDatabase } from '../../support/postgres.js';
import { ACTOR } from '../../support/rooms.js';

export interface Writer {
  /** The row's number is taken by now. */
  readonly written: Promise<void>;
  commit(): Promise<void>;
  rollback(): Promise<void>;
}

/** A database with a pool that is large enough for writers that wait. */
export class AuditScene {
  readonly #pools: Database[] = [];
  readonly #writers: Writer[] = [];

  private constructor(
    readonly place: TestDatabase,
    readonly database: Database,
  ) {
    this.#pools.push(database);
  }

  /** `timeout`: seconds that a statement may take. */
  static async make(options: { copyOf?: TestDatabase; timeout?: number } = {}): Promise<AuditScene> {
    const place = await createDatabase(options);
    return new AuditScene(place, connect({ url: place.url, pool: 10, timeout: options.timeout ?? 10 }));
  }

  /** Another process, with settings of the session such as `TimeZone=Asia/Kolkata`. */
  connect(...settings: readonly string[]): Database {
    const options = settings.map((setting) => `-c ${setting}`).join(' ');
    const join = this.place.url.includes('?') ? '&' : '?';
    const url = options === '' ? this.place.url : `${this.place.url}${join}options=${encodeURIComponent(options)}`;
    const database = connect({ url, pool: 2, timeout: 10 });
    this.#pools.push(database);
    return database;
  }

  async write(resourceId: string, queries: Queries = this.database): Promise<void> {
    const details = { digest: resourceId, size: 12, tags: ['zwölf', '"', '\n'], nothing: null };
    const entry = { action: 'test.write', resourceType: 'test', resourceId, repository: 'team/model', details };
    await writeAudit(queries, ACTOR, entry);
  }

  /** Writes a row in a transaction that stays open. */
  open(resourceId: string): Writer {
    let end = (_error?: Error): void => {};
    let arrive = (): void => {};
    const written = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    const ended = new Promise<void>((resolve, reject) => {
      end = (error) => (error ? reject(error) : resolve());
    });
    const rolledBack = new Error('rolled back');
    const done = this.database
      .transaction(async (transaction) => {
        await this.write(resourceId, transaction);
        arrive();
        await ended;
      })
      .catch((error: unknown) => {
        if (error !== rolledBack) throw error;
      });
    const writer: Writer = {
      written,
      commit: async () => {
        end();
        await done;
      },
      rollback: async () => {
        end(rolledBack);
        await done;
      },
    };
    this.#writers.push(writer);
    return writer;
  }

  /** Waits until a sealer has seen which writers there are, and waits for them. */
  async untilSealerWaits(): Promise<void> {
    for (const deadline = performance.now() + 10_000; performance.now() < deadline; ) {
      const waiting = await this.database.query(
        `select from pg_stat_activity where datname = current_database() and state = 'idle in transaction'
          and query like '%pg_locks%' and pid <> pg_backend_pid()`,
      );
      if (waiting.length > 0) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error('no sealer waits');
  }

  async seals(): Promise<{ first: number; last: number; rows: number }[]> {
    return await this.database.query(
      'select first_id as first, last_id as last, rows from audit_seals order by first_id',
    );
  }

  /** Does what only a superuser can, with the guards out of the way. */
  async tamper(table: 'audit_logs' | 'audit_seals', statement: string): Promise<void> {
    await this.database.transaction(async (transaction) => {
      await transaction.query(`alter table ${table} disable trigger ${table}_append_only`);
      await transaction.query(statement);
      await transaction.query(`alter table ${table} enable trigger ${table}_append_only`);
    });
  }

  async dispose(): Promise<void> {
    // Also those that a failed test has left open.
    await Promise.all(this.#writers.map((writer) => writer.rollback()));
    await Promise.all(this.#pools.map((pool) => pool.close()));
    await this.place.drop();
  }
}
