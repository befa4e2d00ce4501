import { once } from 'node:events';
import { createServer, request, type Server } from 'node:http';

export interface Passed {
  readonly method: string;
  readonly path: string;
  /** The scheme of its credentials: `Basic`, `Bearer`, or empty. */
  readonly scheme: string;
  readonly status: number;
}

/** A wire to the registry over plain HTTP that notes what passes. The registry sees the host that the client used. */
export class Recorder {
  readonly passed: Passed[] = [];
  readonly #server: Server;

  private constructor(target: URL) {
    this.#server = createServer((incoming, outgoing) => {
      const { method = '', url = '', headers } = incoming;
      const onward = request(target, { method, path: url, headers }, (answer) => {
        const { statusCode: status = 0, headers: given } = answer;
        const scheme = headers.authorization?.split(' ')[0] ?? '';
        this.passed.push({ method, path: url, scheme, status });
        outgoing.writeHead(status, given);
        answer.pipe(outgoing);
      });
      onward.on('error', () => outgoing.destroy());
      incoming.pipe(onward);
    });
  }

  static async open(url: string): Promise<Recorder> {
    const recorder = new Recorder(new URL(url));
    recorder.#server.listen(0, '127.0.0.1');
    await once(recorder.#server, 'listening');
    return recorder;
  }

  get host(): string {
    const address = this.#server.address();
    if (typeof address !== 'object' || address === null) throw new Error('the wire is closed');
    return `127.0.0.1:${address.port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
