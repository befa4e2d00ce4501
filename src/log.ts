import { AsyncLocalStorage } from 'node:async_hooks';
import { type DestinationStream, type Logger, pino } from 'pino';

export type Log = Logger;

/** What is known of the request under way; every log line made while it runs carries it. */
export const requestContext = new AsyncLocalStorage<{ readonly requestId: string }>();

/** JSON lines, one an event. `destination` is stdout unless a test wants to read them. */
export function createLog(level: string, destination?: DestinationStream): Log {
  const options = {
    level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    mixin: () => requestContext.getStore() ?? {},
    redact: ['err.rawPacket', 'headers.authorization', 'authorization', 'key', 'secret', 'password'],
  };
  return destination ? pino(options, destination) : pino(options);
}
