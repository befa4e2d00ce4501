import Router, { type RouterMiddleware } from '@koa/router';
import type { Middleware } from 'koa';
import { RegistryError } from '../../errors.js';
import type { Metadata } from '../../metadata/metadata.js';
import { type Context, pathOf, type RequestState } from '../context.js';
import { healthHandlers, type HealthReport } from '../ops/health.js';
import { aliasHandlers } from './aliases.js';
import { type ArtifactRoutesOptions, artifactHandlers } from './artifacts.js';
import { auditLogHandlers } from './audit-logs.js';
import { deploymentHandlers } from './deployments.js';
import { refuseMethod } from '../oci/routes.js';
import { type DocsOptions, docsHandlers } from './docs.js';
import type { FrameOperation } from './frame.js';
import { keyHandlers } from './keys.js';
import { modelHandlers } from './models.js';
import { type PolicyRoutesOptions, policyHandlers } from './policies.js';
import { releaseHandlers } from './releases.js';
import { sessionHandlers, type SessionRoutesOptions } from './session.js';
import { type RetentionRoutesOptions, retentionHandlers } from './retention.js';
import { usageHandlers } from './usage.js';

export interface ApiRoutesOptions
  extends DocsOptions,
    ArtifactRoutesOptions,
    SessionRoutesOptions,
    PolicyRoutesOptions,
    RetentionRoutesOptions {
  readonly operation: FrameOperation;
  readonly metadata: Metadata;
  readonly health: () => Promise<HealthReport>;
}

/** What is read without a key: the contract itself, in three forms, and the node's health. */
export function openApiRoutes(options: ApiRoutesOptions): Middleware<RequestState> {
  const router = new Router<RequestState>({ sensitive: true, strict: true });
  const docs = docsHandlers(options);
  const health = healthHandlers(options.health);
  const { operation } = options;

  router.get('/api/docs', docs.page);
  router.get('/api/docs/:file', docs.part);
  router.get('/api/openapi.json', docs.json);
  router.get('/api/openapi.yaml', docs.yaml);
  router.get('/api/v1/health', operation('getHealth', health.get));

  const routes = router.routes();
  return async (ctx, next) => {
    if (!pathOf(ctx.req).startsWith('/api/')) return await next();
    await routes(ctx as Context, async () => {
      refuseMethod(ctx as Context);
      await next();
    });
  };
}

/** Where browsers sign in and out: for everybody. */
export function sessionRoutes(options: ApiRoutesOptions): Router<RequestState> {
  const router = new Router<RequestState>({ sensitive: true, strict: true });
  const session = sessionHandlers(options);
  const { operation } = options;

  router.get('/api/v1/session', operation('getSession', session.get));
  router.post('/api/v1/session', operation('createSession', session.create));
  router.delete('/api/v1/session', operation('deleteSession', session.remove));

  return router;
}

/** The endpoints of spec/openapi.yaml, line by line; what each takes is decided by its verb, on what the path names. */
export function apiRoutes(options: ApiRoutesOptions): Router<RequestState> {
  const router = new Router<RequestState>({ sensitive: true, strict: true });
  const { operation, metadata, registry } = options;
  const models = modelHandlers(metadata);
  const aliases = aliasHandlers(metadata);
  const releases = releaseHandlers(metadata, registry);
  const deployments = deploymentHandlers(metadata);
  const artifacts = artifactHandlers(metadata, options);
  const keys = keyHandlers(metadata, options);
  const policies = policyHandlers(metadata, options);
  const retention = retentionHandlers(metadata, options);
  const usage = usageHandlers(metadata);
  const auditLogs = auditLogHandlers(metadata, options);

  router.get('/api/v1/models', operation('listModels', models.list));
  router.post('/api/v1/models', operation('createModel', models.create));
  router.get('/api/v1/models/:model', operation('getModel', models.get));
  router.put('/api/v1/models/:model', operation('replaceModel', models.replace));
  router.patch('/api/v1/models/:model', operation('updateModel', models.update));
  router.delete('/api/v1/models/:model', operation('deleteModel', models.remove));
  router.get('/api/v1/models/:model/releases', operation('listModelReleases', models.releases));
  router.get('/api/v1/models/:model/matrix', operation('getModelMatrix', models.matrix));
  router.get('/api/v1/models/:model/events', operation('listModelEvents', models.events));
  router.get('/api/v1/models/:model/aliases', operation('listAliases', aliases.list));
  router.get('/api/v1/models/:model/aliases/:alias', operation('getAlias', aliases.get));
  router.put('/api/v1/models/:model/aliases/:alias', operation('setAlias', aliases.put));
  router.delete('/api/v1/models/:model/aliases/:alias', operation('deleteAlias', aliases.remove));
  router.get('/api/v1/models/:model/aliases/:alias/history', operation('listAliasHistory', aliases.history));

  router.get('/api/v1/releases', operation('listReleases', releases.list));
  router.post('/api/v1/releases', operation('createRelease', releases.create));
  router.get('/api/v1/releases/latest', operation('getLatestRelease', releases.latest));
  router.get('/api/v1/releases/compare', operation('compareReleases', releases.compare));
  router.all(['/api/v1/releases/latest', '/api/v1/releases/compare'], only('GET', 'HEAD'));
  router.get('/api/v1/releases/:id', operation('getRelease', releases.get));
  router.put('/api/v1/releases/:id', operation('replaceRelease', releases.replace));
  router.patch('/api/v1/releases/:id', operation('updateRelease', releases.update));
  router.delete('/api/v1/releases/:id', operation('deleteRelease', releases.remove));
  router.get('/api/v1/releases/:id/deployments', operation('listReleaseDeployments', releases.deployments));
  router.get('/api/v1/releases/:id/artifacts', operation('listReleaseArtifacts', releases.artifacts));
  router.get('/api/v1/releases/:id/manifest', operation('getReleaseManifest', releases.manifest));
  router.get('/api/v1/releases/:id/usage', operation('getReleaseUsage', usage.release));
  router.post('/api/v1/releases/:id/publish', operation('publishRelease', releases.publish));

  router.get('/api/v1/deployments', operation('listDeployments', deployments.list));
  router.post('/api/v1/deployments', operation('createDeployment', deployments.create));
  router.get('/api/v1/deployments/:id', operation('getDeployment', deployments.get));
  router.patch('/api/v1/deployments/:id', operation('updateDeployment', deployments.update));
  router.delete('/api/v1/deployments/:id', operation('retireDeployment', deployments.retire));
  router.post('/api/v1/deployments/:id/rollback', operation('rollBackDeployment', deployments.rollback));
  router.get('/api/v1/deployments/:id/history', operation('listDeploymentHistory', deployments.history));
  router.get(
    '/api/v1/deployments/environments/:environment/current',
    operation('listCurrentDeploymentsThere', deployments.current),
  );
  router.get('/api/v1/environments', operation('listEnvironments', deployments.environments));
  router.get('/api/v1/environments/:environment/current', operation('listCurrentDeployments', deployments.current));

  router.get('/api/v1/artifacts', operation('listArtifacts', artifacts.list));
  router.post('/api/v1/artifacts', operation('createArtifact', artifacts.create));
  router.post('/api/v1/artifacts/upload', operation('uploadArtifact', artifacts.upload));
  router.all('/api/v1/artifacts/upload', only('POST'));
  router.get('/api/v1/artifacts/:id', operation('getArtifact', artifacts.get));
  router.put('/api/v1/artifacts/:id', operation('replaceArtifact', artifacts.replace));
  router.patch('/api/v1/artifacts/:id', operation('updateArtifact', artifacts.update));
  router.delete('/api/v1/artifacts/:id', operation('deleteArtifact', artifacts.remove));
  router.get('/api/v1/artifacts/:id/download', operation('downloadArtifact', artifacts.download));

  router.get('/api/v1/api-keys', operation('listApiKeys', keys.list));
  router.post('/api/v1/api-keys', operation('createApiKey', keys.create));
  router.patch('/api/v1/api-keys/:id', operation('updateApiKey', keys.update));
  router.delete('/api/v1/api-keys/:id', operation('deleteApiKey', keys.remove));

  router.get('/api/v1/policies', operation('listPolicies', policies.list));
  router.post('/api/v1/policies', operation('createPolicy', policies.create));
  router.get('/api/v1/policies/:id', operation('getPolicy', policies.get));
  router.patch('/api/v1/policies/:id', operation('updatePolicy', policies.update));
  router.delete('/api/v1/policies/:id', operation('deletePolicy', policies.remove));
  router.post('/api/v1/retention/preview', operation('previewRetention', retention.preview));

  router.get('/api/v1/usage', operation('getUsage', usage.get));
  router.get('/api/v1/usage/repositories', operation('listRepositoryUsage', usage.repositories));
  router.get('/api/v1/usage/models', operation('listModelUsage', usage.models));
  router.get('/api/v1/usage/days', operation('listUsageDays', usage.days));

  router.get('/api/v1/audit-logs', operation('listAuditLogs', auditLogs.list));

  return router;
}

/** Refuses the other methods of a path that would else be taken for the id of something. @throws 'MethodUnsupported' */
function only(...allowed: string[]): RouterMiddleware<RequestState> {
  return () => {
    throw new RegistryError('MethodUnsupported', 'this endpoint does not support this method', { detail: { allowed } });
  };
}
