import pg from 'pg';
import type { Log } from '../log.js';

const RECONNECT_MS = 1_000;

/**
 * One connection beside the pool: it listens for notifications and holds the advisory locks by which one process of the
 * cluster runs a job. Both are conveniences: a notification may be lost and a lock may be held twice for a moment.
 */
export interface Listener {
  /** Calls `handle` with the payload of each notification on `channel`. */
  on(channel: string, handle: (payload: string) => void): Promise<void>;
  /** Whether this process holds the lock called `name`, taking it if it is free. False while PostgreSQL is away. */
  tryLock(name: string): Promise<boolean>;
  close(): Promise<void>;
}

/** Connects in the background and again after each loss. */
export function listen(url: string, log: Log): Listener {
  const handlers = new Map<string, (payload: string) => void>();
  let client: pg.Client | undefined;
  let locks = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  async function open(): Promise<void> {
    const next = new pg.Client({ connectionString: url, application_name: 'weighhouse listener', keepAlive: true });
    const lost = (error?: Error) => {
      if (client === next) client = undefined;
      locks = new Set();
      if (closed || timer) return;
      if (error) log.debug({ err: error }, 'the listening connection was lost');
      timer = setTimeout(() => {
        timer = undefined;
        void open();
      }, RECONNECT_MS);
    };
    next.on('error', lost);
    next.on('end', () => lost());
    next.on('notification', ({ channel, payload }) => handlers.get(channel)?.(payload ?? ''));
    try {
      await next.connect();
      for (const channel of handlers.keys()) await next.query(`listen ${next.escapeIdentifier(channel)}`);
      client = next;
      if (closed) await next.end();
    } catch (error) {
      await next.end().catch(() => undefined);
      lost(error instanceof Error ? error : undefined);
    }
  }

  // One statement at a time is all that a connection runs.
  let turn: Promise<unknown> = open();
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work);
    turn = mine.catch(() => undefined);
    return mine;
  }

  return {
    on: (channel, handle) =>
      inTurn(async () => {
        handlers.set(channel, handle);
        if (client) await client.query(`listen ${client.escapeIdentifier(channel)}`);
      }),
    tryLock: (name) =>
      inTurn(async () => {
        if (!client) return false;
        if (locks.has(name)) return true;
        const statement = 'select pg_try_advisory_lock(hashtextextended($1, 0)) as held';
        const { rows } = await client.query<{ held: boolean }>(statement, [name]);
        if (rows[0]?.held) locks.add(name);
        return rows[0]?.held ?? false;
      }),
    close: () =>
      inTurn(async () => {
        closed = true;
        clearTimeout(timer);
        await client?.end().catch(() => undefined);
      }),
  };
}
