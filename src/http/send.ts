import type { IncomingMessage, ServerResponse } from 'node:http';
import { RegistryError } from '../errors.js';

/**
 * Sends bytes as the body of a response whose head is set, and ends it. One chunk at a time is under way: the source is
 * asked for more when the socket has taken it.
 * @throws 'ClientGone' if the client goes away or takes nothing for `idleMs`; what the source throws. Either way the
 * connection is broken off, so that the client can't take a part for the whole.
 */
export async function sendBody(
  request: IncomingMessage,
  response: ServerResponse,
  source: AsyncIterable<Uint8Array>,
  idleMs: number,
): Promise<void> {
  const gone = () => new RegistryError('ClientGone', 'the client went away');
  let wake: (() => void) | undefined;
  const stir = () => wake?.();
  const onIdle = () => response.destroy();
  request.socket.setTimeout(idleMs, onIdle);
  response.on('drain', stir).on('close', stir);
  try {
    for await (const bytes of source) {
      if (response.destroyed) throw gone();
      if (response.write(bytes)) continue;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      if (response.destroyed) throw gone();
    }
    response.end();
  } catch (error) {
    response.destroy();
    throw error;
  } finally {
    request.socket.setTimeout(0);
    request.socket.removeListener('timeout', onIdle);
    response.removeListener('drain', stir).removeListener('close', stir);
  }
}
