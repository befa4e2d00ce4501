/** How long what can be revoked is believed without asking again, in milliseconds. */
export const LEASE_MS = 400;
/** After this a revocation has reached every process, whether it was notified or not, in milliseconds. */
export const REVOKED_MS = 1_000;
/** The channel on which processes are told that something of `auth` changed: `key <id>`, `session <id>`, `visibility`, `signing-keys`. */
export const ACCESS_CHANNEL = 'weighhouse_access';

/** A value from PostgreSQL that is believed for a while, by monotonic time from before it was read. */
export class Lease<T> {
  readonly #load: () => Promise<T>;
  readonly #clock: () => number;
  #held: { readonly value: T; readonly until: number } | undefined;
  #loading: { readonly value: Promise<T>; readonly since: number } | undefined;

  constructor(load: () => Promise<T>, clock: () => number = () => performance.now()) {
    this.#load = load;
    this.#clock = clock;
  }

  /** The value, not older than the lease. @throws what loading throws; nothing is kept then. */
  async get(): Promise<T> {
    const now = this.#clock();
    if (this.#held && now < this.#held.until) return this.#held.value;
    // Whoever comes while it is read waits for the same answer, unless that takes too long to be called fresh.
    if (this.#loading && now - this.#loading.since < LEASE_MS) return await this.#loading.value;
    const loading = { value: this.#load(), since: now };
    this.#loading = loading;
    try {
      const value = await loading.value;
      if (this.#loading === loading) this.#held = { value, until: now + LEASE_MS };
      return value;
    } finally {
      if (this.#loading === loading) this.#loading = undefined;
    }
  }

  /** Believes nothing that was read before now. */
  end(): void {
    this.#held = undefined;
    this.#loading = undefined;
  }
}

const MAX_LEASES = 10_000;

/** Values by their ids, each under a lease of its own. */
export class Leases<T> {
  readonly #load: (id: string) => Promise<T>;
  /** The least recently made first. */
  readonly #leases = new Map<string, Lease<T>>();

  constructor(load: (id: string) => Promise<T>) {
    this.#load = load;
  }

  /** As of `Lease`. */
  async get(id: string): Promise<T> {
    let lease = this.#leases.get(id);
    if (!lease) {
      lease = new Lease(() => this.#load(id));
      this.#leases.set(id, lease);
      const oldest = this.#leases.keys().next().value;
      if (this.#leases.size > MAX_LEASES && oldest !== undefined) this.#leases.delete(oldest);
    }
    return await lease.get();
  }

  /** As of `Lease`. */
  end(id: string): void {
    this.#leases.get(id)?.end();
  }

  /** Of all of them. */
  endAll(): void {
    for (const lease of this.#leases.values()) lease.end();
  }
}
