import type { IncomingMessage, ServerResponse } from 'node:http';
import { RegistryError } from '../errors.js';
import { trafficOf } from './traffic.js';

/**
 * Sends bytes as the body of a response whose head is set, and ends it. One chunk at a time is under way: the source, which
 * may lend them, is asked for more when the kernel has taken all of it.
 * @throws 'ClientGone' if the client goes away or takes nothing for `idleMs`; what the source throws. Either way the
 * connection is broken off, so that the client can't take a part for the whole.
 */
export async function sendBody(
  request: IncomingMessage,
  response: ServerResponse,
  source: AsyncIterable<Uint8Array>,
  idleMs: number,
): Promise<void> {
  const { socket } = request;
  const traffic = trafficOf(request);
  let wake: (() => void) | undefined;
  const stir = () => wake?.();
  const onIdle = () => {
    response.destroy();
    stir();
  };
  socket.setTimeout(idleMs, onIdle);
  response.on('close', stir);
  // A response that waits behind an earlier one on its connection hears nothing when that connection ends.
  socket.on('close', stir);
  const checkClient = () => {
    if (response.destroyed || socket.destroyed) throw new RegistryError('ClientGone', 'the client went away');
  };
  try {
    for await (const bytes of source) {
      checkClient();
      traffic?.send(bytes.length);
      await new Promise<void>((resolve) => {
        wake = resolve;
        response.write(bytes, () => resolve());
      });
      checkClient();
    }
    checkClient();
  } catch (error) {
    response.destroy();
    throw error;
  } finally {
    socket.setTimeout(0);
    socket.removeListener('timeout', onIdle).removeListener('close', stir);
    response.removeListener('close', stir);
  }
  response.end();
}

/**
 * Breaks off a response that is complete but that the client does not take for `idleMs`. Afterwards node sets the time
 * that it keeps an idle connection.
 */
export function limitFlush(request: IncomingMessage, response: ServerResponse, idleMs: number): void {
  response.once('prefinish', () => request.socket.setTimeout(idleMs));
}
