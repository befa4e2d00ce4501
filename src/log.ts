import { isatty } from 'node:tty';
import { type DestinationStream, type Logger, pino } from 'pino';

export type Log = Logger;

/** Lines that the log's reader does not take; beyond this they are dropped, in bytes. */
const MAX_WAITING = 16 * 1024 * 1024;

/** JSON lines, one an event. `destination` is stdout unless a test wants to read them. */
export function createLog(level: string, destination?: DestinationStream): Log {
  const options = {
    level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: [
      'err.rawPacket',
      'headers.authorization',
      'authorization',
      'headers.cookie',
      'cookie',
      'key',
      'secret',
      'password',
    ],
    // What is not a field of its own: a key in a path, or in the message of an error.
    hooks: { streamWrite: withoutSecrets },
  };
  return destination ? pino(options, destination) : pino(options);
}

/**
 * The log of a process, to a file descriptor: JSON lines, or text for a person; `auto` is text on a terminal. What was
 * logged is written out also when the process ends.
 */
export async function openLog(level: string, format: 'auto' | 'json' | 'text', descriptor: number): Promise<Log> {
  const output = pino.destination({ fd: descriptor, sync: false, maxLength: MAX_WAITING });
  // A log that nobody takes any more (a closed terminal, a full disk) ends nothing, and keeps nothing from ending: the
  // flush at the exit would try for ever.
  output.on('error', () => {
    output.flushSync = () => undefined;
  });
  if (format === 'json' || (format === 'auto' && !isatty(descriptor))) return createLog(level, output);
  // Loaded only for a person who looks on.
  const { prettyFactory } = await import('pino-pretty');
  const common = { colorize: isatty(descriptor), translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid', singleLine: true };
  const plain = prettyFactory(common);
  const told = 'method,path,status,ms,received,sent,actor,address,broken';
  const request = prettyFactory({ ...common, ignore: `pid,${told}`, messageFormat: describeRequest });
  const write = (line: string) => {
    const event = JSON.parse(line) as Record<string, unknown>;
    output.write((event.msg === 'request' ? request : plain)(event));
  };
  return createLog(level, { write, output } as DestinationStream);
}

/** What openLog writes to. */
interface Output {
  sync: boolean;
  flushSync(): void;
}

/**
 * Logs an error and has it written when it returns: for who ends the process by force. What was logged before is written
 * out by threads, which may hang; it is not waited for, but for what has not yet been handed to one.
 */
export function logLast(log: Log, message: string): void {
  const stream = (log as unknown as Record<symbol, Output & { readonly output?: Output }>)[pino.symbols.streamSym];
  const output = stream?.output ?? stream;
  if (output) output.sync = true;
  log.error(message);
  output?.flushSync();
}

/** A request in the order in which an eye wants it. */
function describeRequest(event: Record<string, unknown>): string {
  const { method, path, status, ms, received, sent, actor = '-', address = '-', broken } = event;
  const end = broken ? `broken off${status ? ` after ${String(status)}` : ''}` : status;
  return [method, path, end, `${ms} ms`, `${received} in`, `${sent} out`, actor, address].map(String).join('  ');
}

/** Keys (wh_<id>_<secret>, also with the underscores encoded), what cookies hold (whs_<secret>), and tokens (JWT). */
const SECRETS = /\b(wh(?:_|%5f)[a-z0-9]{1,32}|whs)(?:_|%5f)[^\s"\\]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]+/gi;

/** The text with what looks like a secret left out of it. */
export function withoutSecrets(text: string): string {
  return text.replace(SECRETS, (_secret, key?: string) => `${key ?? 'eyJ'}_[redacted]`);
}
