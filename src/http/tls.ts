import type { Server, ServerOptions } from 'node:https';
import type { Socket } from 'node:net';

/** A certificate chain and its private key, PEM. */
export interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** The first byte of a handshake of TLS. */
const HANDSHAKE = 22;

/** How a certificate is served, at the start and when it is exchanged. */
export function secureContextOf({ cert, key }: Certificate): Pick<ServerOptions, 'cert' | 'key' | 'minVersion'> {
  return { cert, key, minVersion: 'TLSv1.2' };
}

/**
 * Lets `answer` tell clients that speak plain HTTP to an HTTPS server what is wrong; else they would see an end without
 * a word.
 * @param silenceMs how long a connection may stay without a first byte.
 */
export function refusePlainHttp(server: Server, silenceMs: number, answer: (socket: Socket) => void): void {
  const secure = server.listeners('connection') as ((this: Server, socket: Socket) => void)[];
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    const onSilence = () => socket.destroy();
    socket.on('error', onSilence);
    socket.setTimeout(silenceMs, onSilence);
    socket.once('readable', () => {
      const bytes = socket.read() as Buffer | null;
      if (bytes === null) {
        socket.destroy();
        return;
      }
      socket.setTimeout(0);
      socket.removeListener('timeout', onSilence);
      if (bytes[0] !== HANDSHAKE) {
        answer(socket);
        return;
      }
      socket.unshift(bytes);
      for (const listener of secure) listener.call(server, socket);
    });
  });
}
