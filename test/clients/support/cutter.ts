import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { hostName, listenAddress } from './tls.js';

/** A wire to the registry that can be cut: the first connection that carries more than `after` bytes upwards breaks. */
export class Cutter {
  /** Bytes that went up, over all connections. */
  sent = 0;
  /** Bytes that had gone up when the wire was cut; undefined as long as it was not. */
  cutAt: number | undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(
    readonly target: { host: string; port: number },
    readonly after: number,
  ) {
    this.#server = createServer((client) => this.#carry(client));
  }

  static async open(host: string, after: number): Promise<Cutter> {
    const [address = '', port] = host.split(':');
    const cutter = new Cutter({ host: address, port: Number(port) }, after);
    cutter.#server.listen(0, listenAddress);
    await once(cutter.#server, 'listening');
    return cutter;
  }

  get host(): string {
    const address = this.#server.address();
    if (typeof address !== 'object' || address === null) throw new Error('the wire is closed');
    return `${hostName}:${address.port}`;
  }

  #carry(client: Socket): void {
    const registry = createConnection(this.target);
    let carried = 0;
    for (const socket of [client, registry]) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        registry.destroy();
      });
    }
    registry.pipe(client);
    client.on('data', (bytes) => {
      carried += bytes.length;
      this.sent += bytes.length;
      if (this.cutAt === undefined && carried > this.after) {
        this.cutAt = this.sent;
        client.resetAndDestroy();
        registry.destroy();
        return;
      }
      if (!registry.write(bytes)) {
        client.pause();
        registry.once('drain', () => client.resume());
      }
    });
    client.on('end', () => registry.end());
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
