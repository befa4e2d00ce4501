import { randomBytes, randomUUID } from 'node:crypto';
import type { Database, Queries } from '../database/connect.js';
import { type Announced, announceAccess } from './changes.js';
import { ACCESS_CHANNEL, Lease, LEASE_MS } from './lease.js';

/** A key that signs tokens; `id` is the `kid` of the token. */
export interface SigningKey {
  readonly id: string;
  readonly secret: Uint8Array;
}

export interface SigningKeysOptions {
  readonly database: Database;
  /** After this a new key signs. */
  readonly lifetimeSeconds: number;
  /** How long a key stays after that, so that what it signed last can be checked. */
  readonly keepSeconds: number;
}

interface Row {
  readonly id: string;
  readonly secret: Buffer;
  readonly age: number;
}

/** The keys, and how far PostgreSQL's clock (seconds since 1970) is ahead of this process's monotonic one. */
interface Known {
  readonly rows: readonly Row[];
  readonly aheadSeconds: number;
}

const SECRET_BYTES = 32;
const READ =
  'select id, secret, extract(epoch from now() - created_at)::float8 as age from signing_keys order by created_at desc, id';
const READ_WITH_CLOCK = `select c.now, k.* from (select extract(epoch from clock_timestamp())::float8 as now) c
  left join (${READ}) k on true order by k.age, k.id`;

/** The keys that sign, shared by all nodes and changed in turn. */
export class SigningKeys {
  readonly #options: SigningKeysOptions;
  readonly #known: Lease<Known>;
  /** Until when the lease is not given up again for an id that is not there, by monotonic time. */
  #soughtUntil = 0;

  constructor(options: SigningKeysOptions) {
    this.#options = options;
    this.#known = new Lease(async () => {
      const askedAt = performance.now();
      const rows = await options.database.query<Row & { readonly now: number }>(READ_WITH_CLOCK);
      const now = rows[0]?.now ?? Number.NaN;
      return { rows: rows.filter(({ id }) => id !== null), aheadSeconds: now - askedAt / 1000 };
    });
  }

  /**
   * The time by which tokens begin and end, in seconds since 1970: PostgreSQL's, which all nodes share, however far their
   * own clocks are apart.
   */
  async now(): Promise<number> {
    const { aheadSeconds } = await this.#known.get();
    return aheadSeconds + performance.now() / 1000;
  }

  /** The key that signs now; makes one when the newest is too old. */
  async current(): Promise<SigningKey> {
    const usable = this.#usable((await this.#known.get()).rows);
    if (usable) return usable;
    await this.#options.database.transaction((transaction) => this.#make(transaction));
    this.#known.end();
    const made = this.#usable((await this.#known.get()).rows);
    if (!made) throw new Error('the key that was just made to sign is not there');
    return made;
  }

  /** A key by its id; also one that another node has just made. */
  async find(id: string): Promise<SigningKey | undefined> {
    const known = ({ rows }: Known) => rows.find((row) => row.id === id);
    const found = known(await this.#known.get());
    if (found) return found;
    // Once a lease: anybody can make up ids.
    const now = performance.now();
    if (now >= this.#soughtUntil) {
      this.#soughtUntil = now + LEASE_MS;
      this.#known.end();
    }
    return known(await this.#known.get());
  }

  /** Told that they changed. */
  end(): void {
    this.#known.end();
    this.#soughtUntil = 0;
  }

  #usable(rows: readonly Row[]): Row | undefined {
    const [newest] = rows;
    return newest && newest.age < this.#options.lifetimeSeconds ? newest : undefined;
  }

  async #make(transaction: Queries): Promise<void> {
    // One node makes it; the others find it when it is their turn.
    await transaction.query(`select pg_advisory_xact_lock(hashtextextended('weighhouse signing keys', 0))`);
    const rows = await transaction.query<Row>(READ);
    if (this.#usable(rows)) return;
    await transaction.query('insert into signing_keys (id, secret) values ($1, $2)', [
      randomUUID(),
      randomBytes(SECRET_BYTES),
    ]);
    const { lifetimeSeconds, keepSeconds } = this.#options;
    await transaction.query('delete from signing_keys where created_at < now() - make_interval(secs => $1)', [
      lifetimeSeconds + keepSeconds,
    ]);
    await notify(transaction);
  }
}

/** Makes every token that was ever given worthless, and every session, everywhere within REVOKED_MS; their holders log in anew. */
export async function revokeAllTokens(database: Database, announced: Announced): Promise<void> {
  await database.transaction(async (transaction) => {
    await transaction.query('delete from signing_keys');
    await transaction.query('delete from sessions');
    await announceAccess({ kind: 'tokens-revoked' }, announced, transaction);
    await notify(transaction);
  });
}

async function notify(transaction: Queries): Promise<void> {
  await transaction.query('select pg_notify($1, $2)', [ACCESS_CHANNEL, 'signing-keys']);
}
