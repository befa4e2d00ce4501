import cluster from 'node:cluster';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Server as SecureServer } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.js';
import { recordChanges } from '../gc/records.js';
import { connect } from '../database/connect.js';
import { listen } from '../database/notify.js';
import { tuneCollector } from '../garbage.js';
import { createApp } from '../http/app.js';
import { Connections } from '../http/connections.js';
import { RunningRequests } from '../http/running-requests.js';
import { createHttpServer } from '../http/server.js';
import { secureContextOf } from '../http/tls.js';
import type { Log } from '../log.js';
import { auditChanges } from '../metadata/audit.js';
import { AuditedReads } from '../metadata/audit-reads.js';
import { recordBy } from '../registry/changes.js';
import { followChanges, inspectPushes } from '../metadata/follow.js';
import { Metadata } from '../metadata/metadata.js';
import { leasePolicies } from '../policies/policies.js';
import { quotaGuard } from '../policies/quotas.js';
import { Pulls } from '../registry/pulls.js';
import { createRegistry } from '../registry/registry.js';
import { TAKEN_CHANNEL } from '../registry/upload-sessions.js';
import { MemoryBudget } from '../storage/memory-budget.js';
import type { PausePoint } from '../storage/segment-store.js';
import { askPrimary } from './ask-primary.js';
import { auditAccess, endSessions } from './audit-access.js';
import { auditPolicies } from './audit-policies.js';
import { auditedReads } from './audited-reads.js';
import { createAuthenticator, watchAccess } from './authenticator.js';
import { readCertificate, watchCertificate } from './certificate.js';
import { loadContract, loadDocs } from './contract-files.js';
import { departOnRequest } from './departure.js';
import { DealtConnections, type Intake, tell } from './intake.js';
import { workerMetrics } from './metrics-worker.js';
import { judgeOptions } from './retention.js';
import { openStore } from './storage.js';
import { guardTags } from './tag-guard.js';
import type { ToServe, ToWorker } from './worker-messages.js';

const RECORDING_MS = 5_000;

/**
 * A worker is forked early, so that it loads while PostgreSQL starts; the primary sends the database's address when it
 * is there, and hears when the worker serves.
 */
export async function runAsWorker(config: Config, log: Log): Promise<void> {
  // Ctrl-C and the end of a terminal reach the whole process group; the primary decides what becomes of workers.
  process.on('SIGINT', () => undefined).on('SIGHUP', () => undefined);
  tuneCollector();
  const told = new Promise<ToServe>((resolve) => {
    process.on('message', (message: ToWorker) => {
      if (typeof message === 'object' && 'databaseUrl' in message) resolve(message);
    });
  });
  tell('loaded');
  const { databaseUrl, madeKey } = await told;
  await runWorker({ ...config, databaseUrl }, madeKey, log, new DealtConnections());
  tell('serving');
}

/**
 * One process that serves; any number of them are equals. Ends when the primary says so or is gone.
 * @param madeKey id of the key that a start makes where there is none
 * @throws Error in words for the operator, if it has no certificate to serve.
 */
export async function runWorker(
  config: Config,
  madeKey: string,
  log: Log,
  intake: Intake,
  pause: PausePoint = () => undefined,
): Promise<void> {
  const database = connect({ url: config.databaseUrl, pool: config.databasePool, timeout: config.databaseTimeout });
  const listener = listen(config.databaseUrl, log);
  const budget = new MemoryBudget(config.uploadMemory);
  const store = await openStore(config, budget, pause);
  const registry = createRegistry({
    database,
    store,
    log,
    pause,
    // The guard last: only the COMMIT comes after it.
    observers: [followChanges, recordBy(recordChanges, auditChanges), guardTags],
    admit: quotaGuard(leasePolicies(database)),
    inspectPushes,
    blobMaxBytes: config.blobMaxBytes,
    inlineMaxBytes: config.inlineMaxBytes,
    uploadLifetimeSeconds: config.uploadLifetime,
    sessionsPerKey: config.sessionsPerKey,
    readGraceSeconds: config.readGrace,
    storageTimeoutSeconds: config.storageTimeout,
  });
  await listener.on(TAKEN_CHANNEL, (payload) => {
    const [id, epoch] = payload.split(' ');
    if (id) registry.uploads.oust(id, Number(epoch));
  });
  const authenticator = await createAuthenticator(config, database);
  const reads = new AuditedReads({ queries: database, covers: auditedReads(config), log });
  const pulls = new Pulls({
    queries: database,
    log,
    capacity: config.pullsMax,
    everyMs: config.pullsInterval * 1000,
  });
  const requests = new RunningRequests((identity) => authenticator.isAlive(identity), log);
  const watching = await watchAccess(authenticator, requests, listener, log);
  const metrics = workerMetrics({
    pool: () => database.use(),
    keys: () => authenticator.statistics(),
    uploads: () => ({ total: budget.total, used: budget.total - budget.free, waiting: budget.waiting }),
    downloads: () => ({ total: config.downloadMemory, used: store.readAheadBytes }),
    pulls: () => pulls.statistics(),
  });
  const primary = askPrimary(metrics, config.healthTimeout * 1000);
  const app = createApp({
    ...registry,
    registry,
    metadata: new Metadata(database, async (change, actor, transaction) => {
      await guardTags(change, actor, transaction);
      await recordBy(recordChanges)(change, actor, transaction);
    }),
    policies: { observers: [auditPolicies], max: config.policiesMax },
    retention: judgeOptions(config),
    keys: {
      hashSecret: (secret) => authenticator.hashSecret(secret, config.bcryptCost),
      observers: [auditAccess, endSessions],
      made: madeKey,
    },
    ...primary,
    authenticator,
    reads,
    pulls,
    running: requests,
    client: { trustedProxies: config.trustedProxies, publicUrl: config.publicUrl },
    log,
    requests: metrics.requests,
    idleMs: config.idleTimeout * 1000,
    rangesMax: config.rangesMax,
    xAccelPrefix: config.xAccelPrefix,
    redirect: {
      minBytes: config.redirect,
      networks: config.redirectNetworks.rules.length > 0 ? config.redirectNetworks : undefined,
      lifetimeSeconds: config.redirectLifetime,
    },
    chunkMinBytes: config.chunkMinBytes,
    limits: {
      maxBytes: config.manifestMaxBytes,
      maxDepth: config.manifestMaxDepth,
      maxDescriptors: config.manifestMaxDescriptors,
    },
    maxTags: config.manifestMaxTags,
    listMax: config.listMax,
    referrersMaxBytes: config.referrersMaxBytes,
    requestLimits: config,
    loadContract,
    loadDocs,
    bodyMaxBytes: config.apiBodyMaxBytes,
    corsOrigins: config.corsOrigins,
  });
  const handle = app.callback();
  const running = new Set<Promise<void>>();
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const work = handle(request, response);
    running.add(work);
    void work.finally(() => running.delete(work));
  };
  const certificate = await readCertificate(config);
  const server = createHttpServer(
    onRequest,
    {
      headersMs: config.headersTimeout * 1000,
      keepAliveMs: config.keepAliveTimeout * 1000,
      headerMaxBytes: config.headerMaxBytes,
      urlMaxBytes: config.urlMaxBytes,
      maxConnections: config.maxConnections,
    },
    certificate,
  );
  if (certificate && server instanceof SecureServer)
    watchCertificate(config, certificate, log, (newer) => server.setSecureContext(secureContextOf(newer)));

  departOnRequest(intake, new Connections(server), config, async () => {
    // Requests whose connections were broken off still record what they have.
    await Promise.race([Promise.allSettled(running), sleep(RECORDING_MS, undefined, { ref: false })]);
    await registry.uploads.stop();
    await watching.stop();
    await Promise.all([reads.stop(), pulls.stop()]);
    await listener.close();
    await database.close();
    await primary.sayLast();
    cluster.worker?.disconnect();
  });

  await intake.open(server);
}
