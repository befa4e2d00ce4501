import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * Tries whether we may listen there, before anything is started.
 * @throws Error in words for the operator.
 */
export async function checkAddress({ host, port }: { host: string; port: number }): Promise<void> {
  const server = createServer();
  try {
    server.listen({ host, port });
    await once(server, 'listening');
  } catch (error) {
    throw addressError(error, { host, port });
  }
  server.close();
  await once(server, 'close');
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens there',
  EADDRNOTAVAIL: 'this machine has no such address',
  EACCES: 'this account may not use that port',
  ENOTFOUND: 'there is no such host',
  EAI_AGAIN: 'the host can not be looked up',
};

/** Why listening failed, with the name of the setting that asked for it. */
export function addressError(
  cause: unknown,
  { host, port }: { host: string; port: number },
  setting = 'REGISTRY_LISTEN',
): Error {
  const reason = REASONS[(cause as NodeJS.ErrnoException).code ?? ''] ?? 'it failed';
  return new Error(`can't listen on ${host}:${port} (${setting}): ${reason}`, { cause });
}
