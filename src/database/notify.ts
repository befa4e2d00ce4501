import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Log } from '../log.js';
import { newestMigration } from './migrations.js';

/** What PostgreSQL lists such a connection as, followed by the newest migration that its process knows. */
export const LISTENER = 'weighhouse listener';

const RECONNECT_MS = 1_000;
const CLOSE_MS = 1_000;

/** How the connection is kept under watch, in milliseconds. */
export interface Watch {
  /** From one answer to the next question. */
  readonly askMs: number;
  /** What PostgreSQL may take to connect and to answer; then the connection counts as lost. */
  readonly answerMs: number;
  /** PostgreSQL ends a connection that asked nothing for so long: of a process that was stopped, or of a network that is cut. */
  readonly silentMs: number;
}

const WATCH: Watch = { askMs: 2_000, answerMs: 5_000, silentMs: 10_000 };

/**
 * One connection beside the pool: it listens for notifications and holds the advisory locks by which one process of the
 * cluster runs a job. Both are conveniences: a notification may be lost and a lock may be held twice for a moment. Both
 * sides notice within seconds when the other is gone, however silently.
 */
export interface Listener {
  /** Calls `handle` with the payload of each notification on `channel`. */
  on(channel: string, handle: (payload: string) => void): Promise<void>;
  /** Calls `handle` whenever notifications may have been missed: when the connection is lost, and when there is a new one. */
  onGap(handle: () => void): void;
  /** Whether this process holds the lock called `name`, taking it if it is free. False while PostgreSQL is away. */
  tryLock(name: string): Promise<boolean>;
  close(): Promise<void>;
}

/** A connection with what is known of it. */
interface Held {
  readonly client: pg.Client;
  readonly locks: Set<string>;
  /** When the last question was put that was answered, by monotonic time. */
  askedAt: number;
}

/** Connects in the background and again after each loss. */
export function listen(url: string, log: Log, watch: Watch = WATCH): Listener {
  // Now: a newer version may be put in the place of this one while it runs.
  const knows = newestMigration().catch(() => '');
  const handlers = new Map<string, (payload: string) => void>();
  const gaps: (() => void)[] = [];
  let held: Held | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  const tellGap = () => {
    for (const handle of gaps) handle();
  };

  /** The connection that is held, or is being made. */
  let newest: pg.Client | undefined;

  /** Runs `work` after a while, in turn. */
  function later(ms: number, work: () => Promise<unknown>): void {
    if (closed) return;
    clearTimeout(timer);
    timer = setTimeout(() => void inTurn(work).catch(() => undefined), ms);
  }

  /** Gives a connection up without a word, as the other side may be silent for ever, and connects anew in a while. */
  function lose(client: pg.Client, error?: unknown): void {
    cut(client);
    if (held && held.client !== client) return;
    if (held) {
      held = undefined;
      if (!closed) log.debug({ err: error }, 'the listening connection was lost');
      tellGap();
    }
    later(RECONNECT_MS, open);
  }

  async function open(): Promise<void> {
    if (closed || held) return;
    const client = new pg.Client({
      connectionString: url,
      application_name: `${LISTENER} ${await knows}`,
      keepAlive: true,
      connectionTimeoutMillis: watch.answerMs,
      query_timeout: watch.answerMs,
    });
    client.on('error', (error) => lose(client, error));
    client.on('end', () => lose(client));
    client.on('notification', ({ channel, payload }) => handlers.get(channel)?.(payload ?? ''));
    newest = client;
    const askedAt = performance.now();
    try {
      await client.connect();
      // Of a process that stands still, PostgreSQL alone can end the connection and give the locks to another.
      await client.query(`set idle_session_timeout = ${watch.silentMs}`);
      for (const channel of handlers.keys()) await client.query(`listen ${client.escapeIdentifier(channel)}`);
    } catch (error) {
      lose(client, error);
      return;
    }
    held = { client, locks: new Set(), askedAt };
    tellGap();
    later(watch.askMs, ask);
  }

  /** Asks whether the other side is still there, and still takes writes: a standby notifies nobody. */
  async function ask(): Promise<void> {
    const asking = held;
    if (!asking) return;
    const askedAt = performance.now();
    try {
      const { rows } = await asking.client.query<{ standby: boolean }>('select pg_is_in_recovery() as standby');
      if (rows[0]?.standby) throw new Error('it has become a standby');
      asking.askedAt = askedAt;
      later(watch.askMs, ask);
    } catch (error) {
      lose(asking.client, error);
    }
  }

  // One statement at a time is all that a connection runs.
  let turn: Promise<unknown> = Promise.resolve();
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work);
    turn = mine.catch(() => undefined);
    return mine;
  }
  void inTurn(open);

  return {
    on: (channel, handle) =>
      inTurn(async () => {
        handlers.set(channel, handle);
        if (held) await listenTo(held.client, channel);
      }),
    onGap: (handle) => {
      gaps.push(handle);
    },
    tryLock: (name) =>
      inTurn(async () => {
        if (!held) return false;
        // This process may have stood still: whether PostgreSQL has ended the connection meanwhile is asked first.
        if (performance.now() - held.askedAt >= watch.silentMs) await ask();
        if (!held) return false;
        const { client, locks } = held;
        if (locks.has(name)) return true;
        const askedAt = performance.now();
        try {
          const statement = 'select pg_try_advisory_lock(hashtextextended($1, 0)) as held';
          const { rows } = await client.query<{ held: boolean }>(statement, [name]);
          if (rows[0]?.held) locks.add(name);
          held.askedAt = askedAt;
          return rows[0]?.held ?? false;
        } catch (error) {
          lose(client, error);
          return false;
        }
      }),
    close: async () => {
      closed = true;
      clearTimeout(timer);
      const over = new AbortController();
      const late = sleep(CLOSE_MS, undefined, { signal: over.signal }).catch(() => undefined);
      // What is asked just then may never be answered, and the turn never come.
      const ended = inTurn(async () => await held?.client.end().catch(() => undefined));
      await Promise.race([ended, late]).finally(() => over.abort());
      if (newest) cut(newest);
    },
  };

  async function listenTo(client: pg.Client, channel: string): Promise<void> {
    // When it fails, the next connection listens to all channels.
    await client.query(`listen ${client.escapeIdentifier(channel)}`).catch((error: unknown) => lose(client, error));
  }
}

function cut(client: pg.Client): void {
  (client as unknown as { connection: { stream: Socket } }).connection.stream.destroy();
}
