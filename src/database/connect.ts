import pg from 'pg';
import { Sequelize } from 'sequelize';
import { isFailure, RegistryError } from '../errors.js';

/** Statements run here: either each for itself, or inside a transaction. Functions that touch rows take one as an argument. */
export interface Queries {
  /**
   * Runs one statement, prepared once a connection unless its text is made for the occasion (`prepare: false`). Sizes
   * (bigint) come back as checked numbers.
   * @throws RegistryError 'Unavailable' when PostgreSQL is away; a pg.DatabaseError for what the statement did.
   */
  query<Row extends object>(text: string, values?: readonly unknown[], options?: QueryOptions): Promise<Row[]>;
}

export interface QueryOptions {
  /** False for texts of which there are too many to keep each of them prepared. */
  readonly prepare?: boolean;
}

/** A pool of connections to one database. */
export interface Database extends Queries {
  /**
   * Runs `work` in a transaction; repeats it from the start after a deadlock or a serialization failure, so it must have
   * no effects but its statements.
   * @throws what `work` throws, after a rollback. 'Unavailable' may come after a COMMIT that was sent: then nobody knows
   * whether it holds, and only the rows, read again, tell.
   */
  transaction<T>(work: (transaction: Queries) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** A database that tells how much of its pool is in use now. */
export interface Pool extends Database {
  use(): PoolUse;
}

/** Connections of a pool: how many there may be, are, and run something, and who waits for one. */
export interface PoolUse {
  readonly max: number;
  readonly size: number;
  readonly used: number;
  readonly waiting: number;
}

export interface DatabaseOptions {
  url: string;
  /** The largest number of connections. */
  pool: number;
  /** Seconds to wait for a free or a new connection, and for the answer to a statement. */
  timeout: number;
}

const MAX_ATTEMPTS = 5;
const IDLE_TRANSACTION_MS = 60_000;
const UNAVAILABLE_RETRY_SECONDS = 2;

// https://www.postgresql.org/docs/current/errcodes-appendix.html
const RETRYABLE = new Set(['40001', '40P01']);
const AWAY = /^(08...|57P0[1-5]|57014|53[0-9A-Z]{3}|25P03|25006)$/;
/** PostgreSQL takes no writes: it is the standby of another, or told so for a while. */
const READ_ONLY = '25006';
/** Connections are all made anew no more often than this, in milliseconds. */
const RENEW_MS = 1_000;

const BIGINT = 20;
const types = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    if (oid === BIGINT) return parseSize;
    return pg.types.getTypeParser(oid, format === 'binary' ? 'text' : format);
  },
};

function parseSize(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`a bigint beyond 2^53 in the database: ${text}`);
  return value;
}

/** The name under which a connection keeps a statement prepared; the text is what tells statements apart. */
const names = new Map<string, string>();
function nameOf(text: string): string {
  const known = names.get(text);
  if (known) return known;
  const name = `s${names.size}`;
  names.set(text, name);
  return name;
}

/** Connections that failed: what state they are in is not known, so they are not used again. */
const broken = new WeakSet<pg.Client>();

async function run<Row extends object>(
  client: pg.Client,
  text: string,
  values: readonly unknown[],
  { prepare = true }: QueryOptions = {},
): Promise<pg.QueryResult<Row>> {
  try {
    const name = prepare ? { name: nameOf(text) } : {};
    const config = { ...name, text, values: [...values], types } as pg.QueryConfig;
    return await client.query<Row>(config);
  } catch (error) {
    const translated = translate(error);
    if (isFailure(translated, 'Unavailable')) broken.add(client);
    throw translated;
  }
}

/** Whether an error says that PostgreSQL is away or overloaded, not that a statement was wrong. */
function translate(error: unknown): unknown {
  if (error instanceof RegistryError || error instanceof TypeError || error instanceof RangeError) return error;
  // What is no answer of the server is a failure of the connection: refused, reset, ended, timed out.
  if (error instanceof pg.DatabaseError && !AWAY.test(error.code ?? '')) return error;
  return new RegistryError('Unavailable', 'the database is not available', {
    cause: error,
    retryAfter: UNAVAILABLE_RETRY_SECONDS,
  });
}

function isReadOnly(error: unknown): boolean {
  const cause = isFailure(error, 'Unavailable') ? error.cause : undefined;
  return cause instanceof pg.DatabaseError && cause.code === READ_ONLY;
}

/** Whether a transaction was undone for the sake of others, by a deadlock or a serialization failure, and may be tried again. */
export function isRetryable(error: unknown): boolean {
  return error instanceof pg.DatabaseError && RETRYABLE.has(error.code ?? '');
}

/** The name of the constraint that a statement broke, if that is why it failed. */
export function brokenConstraint(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError && error.code?.startsWith('23') ? error.constraint : undefined;
}

/**
 * Sequelize listens for errors a moment after a connection is there: one that PostgreSQL ends in that moment would end the
 * process. What is asked of it next fails.
 */
class HeardClient extends pg.Client {
  constructor(config: pg.ClientConfig) {
    // What is asked before an earlier answer is there goes out at once: see `inTransaction`.
    super({ ...config, pipeline: true } as pg.ClientConfig);
    this.on('error', () => undefined);
  }
}

const driver = Object.create(pg, { Client: { value: HeardClient } }) as typeof pg;

class PooledDatabase implements Pool {
  readonly #sequelize: Sequelize;
  readonly #source: ConnectionSource;
  /** When each connection was first used, by monotonic time. */
  readonly #usedSince = new WeakMap<pg.Client, number>();
  /** Connections that were used before this are used no more. */
  #renewedAt = Number.NEGATIVE_INFINITY;

  constructor(options: DatabaseOptions) {
    this.#sequelize = new Sequelize(options.url, {
      dialect: 'postgres',
      dialectModule: driver,
      logging: false,
      pool: { max: options.pool, min: 0, idle: 60_000, acquire: options.timeout * 1000 },
      dialectOptions: {
        application_name: 'weighhouse',
        keepAlive: true,
        connectionTimeoutMillis: options.timeout * 1000,
        // The server's own limit comes first: a statement that is given up here could still run.
        statement_timeout: options.timeout * 1000,
        query_timeout: options.timeout * 1000 + 1_000,
        idle_in_transaction_session_timeout: IDLE_TRANSACTION_MS,
      },
    });
    this.#source = this.#sequelize.connectionManager as unknown as ConnectionSource;
  }

  async query<Row extends object>(
    text: string,
    values: readonly unknown[] = [],
    options?: QueryOptions,
  ): Promise<Row[]> {
    return await this.#withConnection(async (client) => (await run<Row>(client, text, values, options)).rows);
  }

  async transaction<T>(work: (transaction: Queries) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        const { result, wanted } = await this.#withConnection((client) => inTransaction(client, work));
        await Promise.all([...wanted].map((afterwards) => afterwards()));
        return result;
      } catch (error) {
        if (!isRetryable(error) || attempt >= MAX_ATTEMPTS) throw error;
      }
    }
  }

  async #withConnection<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = await this.#connection();
    try {
      return await work(client);
    } catch (error) {
      if (isReadOnly(error)) this.#renew();
      throw error;
    } finally {
      if (broken.has(client)) this.#discard(client);
      else this.#source.releaseConnection(client);
    }
  }

  async #connection(): Promise<pg.Client> {
    for (;;) {
      const client = await this.#source.getConnection({ type: 'write' }).catch((error: unknown) => {
        throw translate(error);
      });
      const since = this.#usedSince.get(client) ?? performance.now();
      this.#usedSince.set(client, since);
      if (since >= this.#renewedAt) return client;
      this.#discard(client);
    }
  }

  /**
   * One connection has found that its PostgreSQL takes no writes. Others, which only read, would not notice, and go on
   * with what a former primary knew: each is made anew before it is used again, and leads to whoever is primary now.
   */
  #renew(): void {
    const now = performance.now();
    if (now - this.#renewedAt >= RENEW_MS) this.#renewedAt = now;
  }

  /** Ends a connection for good; not waited for, since the other side may be silent. */
  #discard(client: pg.Client): void {
    void Promise.resolve(this.#source.pool.destroy(client)).catch(() => undefined);
  }

  use(): PoolUse {
    const { maxSize, size, using, waiting } = this.#source.pool;
    return { max: maxSize, size, used: using, waiting };
  }

  async close(): Promise<void> {
    await this.#sequelize.close();
  }
}

type Afterwards = () => Promise<void>;

/** What is to be done once each open transaction has committed. */
const afterwards = new WeakMap<Queries, Set<Afterwards>>();

/**
 * Has `work` done once the transaction has committed, before whoever runs it hears of that; not if it is undone, or nobody
 * knows. It holds no connection meanwhile. The same function is done once, however often it is asked for.
 */
export function afterCommit(transaction: Queries, work: Afterwards): void {
  const wanted = afterwards.get(transaction);
  if (!wanted) throw new TypeError('not a transaction that is open');
  wanted.add(work);
}

/** @returns the result, and what is to be done after it. */
async function inTransaction<T>(client: pg.Client, work: (transaction: Queries) => Promise<T>) {
  // The first statement goes out with it, and the second when both are answered.
  const begun = run(client, 'begin', []);
  begun.catch(() => undefined);
  let isFirst = true;
  const transaction: Queries = {
    async query<Row extends object>(text: string, values: readonly unknown[] = [], options?: QueryOptions) {
      if (!isFirst) await begun;
      isFirst = false;
      const [{ rows }] = await Promise.all([run<Row>(client, text, values, options), begun]);
      return rows;
    },
  };
  const wanted = new Set<Afterwards>();
  afterwards.set(transaction, wanted);
  let result: T;
  try {
    result = await work(transaction);
    await begun;
  } catch (error) {
    // A broken connection takes its transaction with it; a failed rollback must not hide why it came to that.
    if (!broken.has(client)) await run(client, 'rollback', []).catch(() => undefined);
    throw error;
  }
  const { command } = await run(client, 'commit', []);
  // PostgreSQL answers so, and with no error, when a statement had failed and `work` went on regardless.
  if (command !== 'COMMIT')
    throw new Error('the transaction was rolled back: a failed statement in it was passed over');
  afterwards.delete(transaction);
  return { result, wanted };
}

/** The part of Sequelize's connection manager through which its pooled connections are used for prepared statements. */
interface ConnectionSource {
  readonly pool: {
    readonly maxSize: number;
    readonly size: number;
    readonly using: number;
    readonly waiting: number;
    destroy(client: pg.Client): Promise<void>;
  };
  getConnection(options: { type: 'write' }): Promise<pg.Client>;
  releaseConnection(client: pg.Client): void;
}

/** Opens a pool; connects when the first statement runs. */
export function connect(options: DatabaseOptions): Pool {
  return new PooledDatabase(options);
}
