import type { Socket } from 'node:net';
import type { Identity } from '../auth/access.js';
import type { Log } from '../log.js';

/**
 * The requests under way, by who makes them: a key that is revoked, expires or gets another secret ends its own, and so
 * does a session that is signed out.
 */
export class RunningRequests {
  readonly #isAlive: (identity: Identity) => Promise<boolean>;
  readonly #log: Log;
  readonly #byIdentity = new Map<string, { identity: Identity; sockets: Map<Socket, number> }>();

  constructor(isAlive: (identity: Identity) => Promise<boolean>, log: Log) {
    this.#isAlive = isAlive;
    this.#log = log;
  }

  /** A request begins. @returns what is to be called at its end, or when it shall go on without its key. */
  add(identity: Identity, socket: Socket): () => void {
    if (identity.kind !== 'key') return () => undefined;
    const { sockets } = this.#of(identity);
    sockets.set(socket, (sockets.get(socket) ?? 0) + 1);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      const count = (sockets.get(socket) ?? 1) - 1;
      if (count > 0) sockets.set(socket, count);
      else sockets.delete(socket);
      if (sockets.size === 0 && this.#byIdentity.get(nameOf(identity))?.sockets === sockets)
        this.#byIdentity.delete(nameOf(identity));
    };
  }

  /** Whose requests are under way. */
  identities(): Identity[] {
    return [...this.#byIdentity.values()].map(({ identity }) => identity);
  }

  /** Breaks off the requests of keys and sessions that are no more. */
  async sweep(): Promise<void> {
    await Promise.all(
      [...this.#byIdentity.values()].map(async ({ identity, sockets }) => {
        if (await this.#isAlive(identity)) return;
        this.#log.info({ actor: identity.id, requests: sockets.size }, 'a key ended; its requests are broken off');
        for (const socket of sockets.keys()) socket.destroy();
      }),
    );
  }

  #of(identity: Identity) {
    const known = this.#byIdentity.get(nameOf(identity));
    if (known) return known;
    const made = { identity, sockets: new Map<Socket, number>() };
    this.#byIdentity.set(nameOf(identity), made);
    return made;
  }
}

/** A key that got another secret is another identity, and so is each of its sessions. */
function nameOf({ id, secret = '', session = '' }: Identity): string {
  return `${id} ${secret} ${session}`;
}
