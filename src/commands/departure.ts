import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.js';
import type { Connections } from '../http/connections.js';
import type { Intake } from './intake.js';
import type { ToWorker } from './worker-messages.js';

/** An idle connection that a client may be about to use: while others serve it has this long, in milliseconds. */
const RETIRING_IDLE_MS = 5_000;
/** When the node ends it has less: new connections are refused, too. */
const DRAINING_IDLE_MS = 100;
/** A process that something keeps alive is ended after this. */
const EXIT_MS = 5_000;

/**
 * How a worker comes to its end. On SIGTERM it drains: responses ask clients to leave, and after REGISTRY_DRAIN_DELAY it
 * takes no more connections; requests have REGISTRY_DRAIN_TIMEOUT. When the primary tells it to
 * retire, another has taken its place: it takes no more connections, and its requests have the time that they need,
 * unless SIGTERM comes. Then `finish` lets go of everything else.
 */
export function departOnRequest(
  intake: Pick<Intake, 'close'>,
  connections: Connections,
  config: Pick<Config, 'drainDelay' | 'drainTimeout'>,
  finish: () => Promise<void>,
): void {
  let draining = false;
  let finished: Promise<void> | undefined;
  const depart = async (idleMs: number, limitMs?: number): Promise<void> => {
    await connections.end(idleMs, limitMs);
    finished ??= finish().finally(() => setTimeout(() => process.exit(), EXIT_MS).unref());
    await finished;
  };
  process.on('SIGTERM', () => {
    if (draining) return;
    draining = true;
    connections.leave();
    void sleep(config.drainDelay * 1000)
      .then(() => intake.close())
      .then(() => depart(DRAINING_IDLE_MS, config.drainTimeout * 1000));
  });
  process.on('message', (message: ToWorker) => {
    if (message === 'retire') void depart(RETIRING_IDLE_MS);
  });
}
