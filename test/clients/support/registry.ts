// One registry for the whole suite; a scenario keeps to repositories of its own.
import { notRun } from '../../support/not-run.js';
import { clusteredMissing, stopClustered } from './clustered.js';
import { type RunningRegistry, startWeighhouse } from './weighhouse.js';

let running: RunningRegistry | undefined;

export function registry(): RunningRegistry {
  if (running === undefined) throw new Error('the registry runs only while tests do');
  return running;
}

/** With CLIENTS_REGISTRY=host:port (and CLIENTS_USER, CLIENTS_KEY) the scenarios try a registry that runs already. */
function peer(): RunningRegistry | undefined {
  const host = process.env.CLIENTS_REGISTRY;
  if (!host) return undefined;
  const user = process.env.CLIENTS_USER ?? 'admin';
  const key = process.env.CLIENTS_KEY ?? '';
  return { host, url: `http://${host}`, user, key, stop: () => Promise.resolve() };
}

export const mochaHooks = {
  async beforeAll(this: Mocha.Context): Promise<void> {
    this.timeout(300_000);
    const missing = clusteredMissing();
    if (missing) notRun(this, 'clients on several nodes', missing);
    running = peer() ?? (await startWeighhouse());
  },
  async afterAll(this: Mocha.Context): Promise<void> {
    this.timeout(60_000);
    await running?.stop();
    await stopClustered();
  },
};

/** Asks the registry without a client between: for what a client doesn't show, and for what has to be gone. */
export function ask(
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: Uint8Array,
): Promise<Response> {
  const { url, user, key } = registry();
  const authorization = `Basic ${Buffer.from(`${user}:${key}`).toString('base64')}`;
  return fetch(`${url}${path}`, { method, headers: { authorization, ...headers }, ...(body && { body }) });
}
