import type { Agent, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

/** Takes the bytes of a connection, in the place of the parser of HTTP. */
export interface Taker {
  /** Where the next ones are to be read to, if anywhere. */
  target(): Uint8Array | undefined;
  /** Takes some, which may have arrived elsewhere; what it needs later it copies. @returns whether it takes more. */
  take(bytes: Uint8Array): boolean;
}

const SHARED_BYTES = 256 * 1024;
/** What the parser sees is read into this on all connections: many bytes at once, and none of it is garbage. */
const shared = Buffer.allocUnsafeSlow(SHARED_BYTES);

const takers = new WeakMap<Socket, Taker>();
const ours = new WeakSet<Socket>();

type Connect = (options: object, done?: (error: Error | null, socket: Socket) => void) => Socket | null | undefined;

/**
 * Has the agent's connections read into buffers of ours, so that a body can be taken past the parser, which would copy it
 * into garbage.
 */
export function readByArrivals<A extends Agent>(agent: A): A {
  const connecting = agent as unknown as { createConnection: Connect };
  const connect = connecting.createConnection.bind(agent);
  connecting.createConnection = (options, done) => {
    let taker: Taker | undefined;
    const onread = {
      buffer: () => taker?.target() ?? shared,
      callback(this: Socket, count: number, buffer: Uint8Array): boolean {
        const bytes = buffer.subarray(0, count);
        taker ??= takers.get(this);
        if (taker) return taker.take(bytes);
        // The parser is all that listens, and it copies what it passes on.
        this.emit('data', bytes);
        return true;
      },
    };
    const socket = connect({ ...options, onread }, done);
    if (socket) ours.add(socket);
    return socket;
  };
  return agent;
}

/**
 * Gives what still arrives on a message's connection to `taker`. The parser never sees the end of the message: whoever takes
 * the connection destroys it. @returns whether it is one of ours.
 */
export function takeConnection({ socket }: IncomingMessage, taker: Taker): boolean {
  if (!ours.has(socket)) return false;
  takers.set(socket, taker);
  return true;
}
