import type { Server } from 'node:http';
import { Socket } from 'node:net';
import type { Deal, FromWorker, ToWorker } from './worker-messages.js';

/** How long an ended connection may stay untold, in milliseconds. */
const REPORT_MS = 2;

/** How connections come to a server. */
export interface Intake {
  /** Begins to give connections to the server. @throws Error in words for the operator. */
  open(server: Server): Promise<void>;
  /** Resolves when no more come. */
  close(): Promise<void>;
}

/** A connection's handle, which Node begins to read when it arrives. */
interface Handle {
  readStart(): unknown;
  readStop(): unknown;
}

/** The connections that the primary deals out to this worker; see its `Dispatcher`. */
export class DealtConnections implements Intake {
  /** What may not be read yet; undefined: one that is closed already. */
  readonly #offered = new Map<number, Socket | undefined>();
  /** Connections that have ended, of which the primary has not heard. */
  #ended = 0;
  #reporting = false;
  #left: () => void = () => undefined;

  async open(server: Server): Promise<void> {
    process.on('message', (message: ToWorker, socket: unknown) => {
      if (message === 'left') this.#left();
      else if (typeof message !== 'object') return;
      else if (!('databaseUrl' in message)) this.#hear(message, socket, server);
    });
    // From here on Node looks for heads that are overdue.
    server.emit('listening');
  }

  async close(): Promise<void> {
    const left = new Promise<void>((resolve) => {
      this.#left = resolve;
    });
    tell('leaving');
    await left;
  }

  #hear({ yours, revoked, offer }: Deal, socket: unknown, server: Server): void {
    if (yours !== undefined) this.#take(yours, server);
    if (revoked !== undefined) this.#free(revoked);
    if (offer !== undefined) this.#consider(offer, socket);
  }

  #consider(id: number, socket: unknown): void {
    const given = socket instanceof Socket ? socket : undefined;
    handleOf(given)?.readStop();
    this.#offered.set(id, given);
    tell({ have: id, ended: this.#takeEnded() });
  }

  #take(id: number, server: Server): void {
    // It may be told twice.
    if (!this.#offered.has(id)) return;
    const socket = this.#offered.get(id);
    this.#offered.delete(id);
    const handle = handleOf(socket);
    if (!socket || !handle) {
      this.#end();
      return;
    }
    socket.once('close', () => this.#end());
    // As Node has it for connections that the server accepts itself.
    socket.allowHalfOpen = Reflect.get(server, 'allowHalfOpen') === true;
    handle.readStart();
    server.emit('connection', socket);
  }

  /** The primary has it open: the connection goes on. */
  #free(id: number): void {
    this.#offered.get(id)?.destroy();
    this.#offered.delete(id);
    tell({ freed: id, ended: this.#takeEnded() });
  }

  #end(): void {
    this.#ended += 1;
    if (this.#reporting) return;
    this.#reporting = true;
    // An answer to an offer may take it along.
    setTimeout(() => {
      this.#reporting = false;
      const ended = this.#takeEnded();
      if (ended > 0) tell({ ended });
    }, REPORT_MS);
  }

  #takeEnded(): number {
    const ended = this.#ended;
    this.#ended = 0;
    return ended;
  }
}

/** Tells the primary something; one that is gone need not hear it. */
export function tell(message: FromWorker): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

function handleOf(socket: Socket | undefined): Handle | undefined {
  const handle: unknown = socket && Reflect.get(socket, '_handle');
  return typeof handle === 'object' && handle !== null ? (handle as Handle) : undefined;
}
