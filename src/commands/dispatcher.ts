import type { Worker } from 'node:cluster';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { Config } from '../config.js';
import { warnOfDrops } from '../http/limits.js';
import type { Log } from '../log.js';
import { addressError } from './listen-address.js';
import { send } from './place.js';
import type { Deal, FromWorker } from './worker-messages.js';

/** Who does not answer to an offer for so long gets none as long as it is silent; another is offered the connection. */
const HANGS_MS = 500;
/** How often it is looked for connections that have waited too long. */
const LOOK_MS = 1_000;
/** Connections that the kernel holds until they are accepted. */
const BACKLOG = 1024;

/** A connection that belongs to no worker yet. */
interface Waiting {
  readonly id: number;
  readonly socket: Socket;
  readonly since: number;
}

/** A worker that serves. */
interface Member {
  readonly worker: Worker;
  /** Connections that are its own. */
  open: number;
  offered: Waiting | undefined;
  /** The last connection that became its own, until it has certainly heard of that. */
  granted: number | undefined;
  timer: NodeJS.Timeout | undefined;
  hangs: boolean;
}

/**
 * Accepts the connections of the node and deals them out: each goes to the worker that has the fewest. A connection belongs
 * to one process at a time, which alone reads it: to this one, which keeps it open while it is offered, until the worker
 * has answered and is told that it is its own. So one that is on its way to a worker that dies, hangs or leaves is
 * offered to the next (decision 0026).
 */
export class Dispatcher {
  readonly #config: Pick<Config, 'listen' | 'maxConnections' | 'headersTimeout'>;
  readonly #server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => this.#accept(socket));
  /** Of those that have equally many connections the first in the order is next. */
  readonly #members = new Map<Worker, Member>();
  readonly #waiting: Waiting[] = [];
  readonly #dropped: () => void;
  #count = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(config: Pick<Config, 'listen' | 'maxConnections' | 'headersTimeout'>, log: Log) {
    this.#config = config;
    this.#dropped = warnOfDrops(log);
    // Such as that this process may open no more files: the kernel keeps the connections until it may.
    this.#server.on('error', (error) => log.error({ err: error }, 'a connection could not be accepted'));
  }

  /** @returns where it listens. @throws Error in words for the operator. */
  async listen(): Promise<AddressInfo> {
    const { host, port } = this.#config.listen;
    await new Promise<void>((resolve, reject) => {
      const onError = (error: Error) => reject(addressError(error, { host, port }));
      this.#server.once('error', onError).listen({ host, port, backlog: BACKLOG }, () => {
        this.#server.removeListener('error', onError);
        resolve();
      });
    });
    this.#timer = setInterval(() => this.#dropOverdue(), LOOK_MS).unref();
    return this.#server.address() as AddressInfo;
  }

  /** A worker that serves gets its share from now on. */
  add(worker: Worker): void {
    const member: Member = { worker, open: 0, offered: undefined, granted: undefined, timer: undefined, hangs: false };
    this.#members.set(worker, member);
    worker.on('message', (message: FromWorker) => {
      if (this.#members.get(worker) === member && typeof message === 'object') this.#hear(member, message);
    });
    worker.once('disconnect', () => this.remove(worker));
    worker.once('exit', () => this.remove(worker));
    this.#deal();
  }

  /** A worker gets no more; those that it has are its own affair. */
  remove(worker: Worker): void {
    const member = this.#members.get(worker);
    if (!member) return;
    this.#members.delete(worker);
    this.#takeBack(member);
    this.#deal();
  }

  /** Accepts no more, and closes what no worker has. Idempotent. */
  close(): void {
    clearInterval(this.#timer);
    if (this.#server.listening) this.#server.close();
    for (const member of this.#members.values()) this.#takeBack(member);
    for (const { socket } of this.#waiting.splice(0)) refuse(socket);
  }

  #accept(socket: Socket): void {
    socket.on('error', () => undefined);
    if (this.#waiting.length >= this.#config.maxConnections) {
      refuse(socket);
      this.#dropped();
      return;
    }
    this.#waiting.push({ id: this.#count++, socket, since: performance.now() });
    this.#deal();
  }

  #deal(): void {
    for (;;) {
      const [next] = this.#waiting;
      const member = next && this.#idlest();
      if (!member) return;
      if (loadOf(member) >= this.#config.maxConnections) {
        refuse(next.socket);
        this.#dropped();
      } else if (member.offered) return;
      else this.#offer(member, next);
      this.#waiting.shift();
    }
  }

  /** Who has the fewest connections, if anybody serves: one that can be offered another at once before one that can not. */
  #idlest(): Member | undefined {
    let found: Member | undefined;
    for (const member of this.#members.values()) {
      if (member.hangs) continue;
      const fewer = found === undefined ? 1 : loadOf(found) - loadOf(member);
      if (fewer > 0 || (fewer === 0 && found?.offered && !member.offered)) found = member;
    }
    return found;
  }

  #offer(member: Member, connection: Waiting): void {
    const { worker } = member;
    member.offered = connection;
    member.timer = setTimeout(() => this.#suspect(member), HANGS_MS);
    // To the end of the order.
    this.#members.delete(worker);
    this.#members.set(worker, member);
    const deal: Deal = { yours: member.granted, offer: connection.id };
    if (worker.isConnected()) worker.send(deal, connection.socket, { keepOpen: true }, () => undefined);
  }

  #suspect(member: Member): void {
    member.hangs = true;
    this.#takeBack(member);
    this.#deal();
  }

  #takeBack(member: Member): void {
    const { worker, offered } = member;
    clearTimeout(member.timer);
    if (!offered) return;
    member.offered = undefined;
    this.#waiting.unshift(offered);
    // An offer that did not arrive took with it what was told beside.
    send(worker, { yours: member.granted, revoked: offered.id });
  }

  #hear(member: Member, message: Exclude<FromWorker, string>): void {
    const { worker, offered } = member;
    if ('ended' in message) member.open -= message.ended;
    // An answer to what was taken back is too late.
    if ('have' in message && offered?.id === message.have) {
      clearTimeout(member.timer);
      member.offered = undefined;
      member.open += 1;
      member.granted = offered.id;
      // The worker has it open; the connection goes on.
      offered.socket.destroy();
    }
    if ('freed' in message) member.hangs = false;
    this.#deal();
    // Most often beside the next offer.
    if (member.granted === undefined || member.offered) return;
    send(worker, { yours: member.granted });
    member.granted = undefined;
  }

  #dropOverdue(): void {
    const overdue = performance.now() - this.#config.headersTimeout * 1000;
    for (const { socket, since } of [...this.#waiting]) {
      if (since >= overdue) break;
      this.#waiting.shift();
      refuse(socket);
    }
  }
}

/** Shuts the connection down before it is closed: a worker that hangs may have a copy, which would keep it open. */
function refuse(socket: Socket): void {
  socket.destroySoon();
}

function loadOf({ open, offered }: Member): number {
  return open + (offered ? 1 : 0);
}
