import { readFile } from 'node:fs/promises';
import { Authenticator } from '../auth/authenticator.js';
import { ACCESS_CHANNEL, LEASE_MS } from '../auth/lease.js';
import { type OidcIssuer, parseOidcSettings } from '../auth/oidc-settings.js';
import type { Config } from '../config.js';
import type { Database } from '../database/connect.js';
import type { Listener } from '../database/notify.js';
import type { RunningRequests } from '../http/running-requests.js';
import type { Log } from '../log.js';

/** How often the last use of keys is written down. */
const NOTING_MS = 60_000;

/** The authenticator of a worker, by its settings. @throws Error in words for the operator if the file of issuers is wrong. */
export async function createAuthenticator(config: Config, database: Database): Promise<Authenticator> {
  return new Authenticator({
    database,
    anonymous: config.anonymous,
    tokenLifetimeSeconds: config.tokenLifetime,
    refreshLifetimeSeconds: config.refreshTokenLifetime,
    signingKeyLifetimeSeconds: config.signingKeyLifetime,
    uploadLifetimeSeconds: config.uploadLifetime,
    sessions: { lifetimeSeconds: config.signInLifetime, idleSeconds: config.signInIdle },
    issuers: await readIssuers(config),
    // Each process counts its share, so that a node never admits more than the setting says.
    failuresPerAddress: Math.max(1, Math.floor(config.authFailuresPerAddress / config.workers)),
    failuresPerKey: Math.max(1, Math.floor(config.authFailuresPerKey / config.workers)),
  });
}

/** The issuers whose tokens are accepted. @throws Error that names the setting. */
export async function readIssuers({ oidcFile }: Config): Promise<OidcIssuer[]> {
  if (oidcFile === '') return [];
  try {
    return parseOidcSettings(await readFile(oidcFile, 'utf8'));
  } catch (error) {
    throw new Error(`the file of issuers ${oidcFile} (REGISTRY_OIDC_FILE) can not be used`, { cause: error });
  }
}

/** Keeps up with changes of keys: ends the requests of revoked ones and notes which were used. */
export async function watchAccess(
  authenticator: Authenticator,
  requests: RunningRequests,
  listener: Listener,
  log: Log,
): Promise<{ stop(): Promise<void> }> {
  const tried = (what: string, work: () => Promise<void>) => async () => {
    await work().catch((error: unknown) => log.warn({ err: error }, what));
  };
  const sweep = tried('the keys of running requests could not be checked', () => requests.sweep());
  const note = tried('the last use of keys could not be noted', () => {
    // A request that runs for hours is a use all the time.
    for (const identity of requests.identities()) authenticator.noteUse(identity);
    return authenticator.flushUses();
  });
  await listener.on(ACCESS_CHANNEL, (payload) => {
    authenticator.onChange(payload);
    void sweep();
  });
  listener.onGap(() => authenticator.onGap());
  let busy = false;
  const sweeping = setInterval(() => {
    // While the database stands still one question waits for it, and not one more each time.
    if (busy) return;
    busy = true;
    void sweep().finally(() => {
      busy = false;
    });
  }, LEASE_MS);
  const noting = setInterval(() => void note(), NOTING_MS);
  return {
    async stop() {
      clearInterval(sweeping);
      clearInterval(noting);
      await note();
    },
  };
}
