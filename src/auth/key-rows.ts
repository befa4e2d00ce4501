import type { Queries } from '../database/connect.js';
import type { Grant } from './grants.js';
import { Leases } from './lease.js';
import { fingerprintOf } from './tokens.js';

/** A key as it stands in its row; an active one that has not expired. */
export interface KeyRow {
  readonly id: string;
  readonly name: string;
  readonly hash: string;
  /** Of the hash: which secret this is. */
  readonly fingerprint: string;
  readonly grants: readonly Grant[];
  readonly readOnly: boolean;
}

/** The rows of keys, each under a lease, so that a key that is revoked or expires stops within one. */
export class KeyRows {
  readonly #queries: Queries;
  readonly #leases = new Leases((id) => this.#read(id));

  constructor(queries: Queries) {
    this.#queries = queries;
  }

  /** The row of a key that is active and not expired. */
  async find(id: string): Promise<KeyRow | undefined> {
    return await this.#leases.get(id);
  }

  /** Told that a key changed. */
  end(id: string): void {
    this.#leases.end(id);
  }

  /** Told that changes may have been missed. */
  endAll(): void {
    this.#leases.endAll();
  }

  async #read(id: string): Promise<KeyRow | undefined> {
    const [row] = await this.#queries.query<Omit<KeyRow, 'fingerprint'>>(
      `select key_prefix as id, name, key_hash as hash, grants, read_only as "readOnly" from api_keys
        where key_prefix = $1 and is_active and (expires_at is null or expires_at > now())`,
      [id],
    );
    return row && { ...row, fingerprint: fingerprintOf(row.hash) };
  }
}
