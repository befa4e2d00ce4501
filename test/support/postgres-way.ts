// A way to PostgreSQL through TCP, as through a balancer, that can be cut, swallow everything, and lead elsewhere.
import { once } from 'node:events';
import { connect as dial, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { join } from 'node:path';

/** Where the server of a URL listens. */
function placeOf(url: string): NetConnectOpts {
  const { hostname, port, searchParams } = new URL(url.replace(/^(\w+:\/\/[^@/]*@)\//, '$1localhost/'));
  const host = searchParams.get('host') ?? hostname;
  const number = searchParams.get('port') ?? (port || '5432');
  return host.startsWith('/') ? { path: join(host, `.s.PGSQL.${number}`) } : { host, port: Number(number) };
}

export class PostgresWay {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [near: Socket, far: Socket]>();
  #target: NetConnectOpts;
  #silent = false;
  #refusing = false;

  private constructor(
    readonly url: string,
    server: Server,
    target: NetConnectOpts,
  ) {
    this.#server = server;
    this.#target = target;
    server.on('connection', (near) => this.#join(near));
  }

  /** @param url of the PostgreSQL that it leads to */
  static async to(url: string): Promise<PostgresWay> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const [user, database] = [/^\w+:\/\/([^@:/]+)/.exec(url)?.[1], /\/([^/?]*)(\?|$)/.exec(url)?.[1]];
    return new PostgresWay(`postgres://${user}@127.0.0.1:${port}/${database}?sslmode=disable`, server, placeOf(url));
  }

  #join(near: Socket): void {
    if (this.#refusing) {
      near.destroy();
      return;
    }
    const far = dial(this.#target);
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    for (const [from, to] of [pair, [far, near] as const]) {
      from.on('error', () => undefined);
      // Nothing at all comes through a way that is silent, not even an end.
      from.on('data', (bytes) => !this.#silent && to.write(bytes));
      from.on('close', () => {
        if (this.#silent) return;
        this.#pairs.delete(pair);
        to.destroy();
      });
    }
  }

  /** Swallows what comes from now on, both ways, also of new connections. */
  hush(): void {
    this.#silent = true;
  }

  /** Carries again; what was swallowed is lost, and with it the connections of then. */
  speak(): void {
    this.#silent = false;
    this.cut();
  }

  /** Ends all connections. */
  cut(): void {
    for (const sockets of this.#pairs) for (const socket of sockets) socket.destroy();
    this.#pairs.clear();
  }

  /** Ends all connections, and refuses others until `admit`. */
  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  /** @param url where new connections lead; undefined: as before */
  admit(url?: string): void {
    if (url !== undefined) this.#target = placeOf(url);
    this.#refusing = false;
  }

  close(): void {
    this.refuse();
    this.#server.close();
  }
}
