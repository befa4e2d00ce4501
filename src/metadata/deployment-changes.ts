import { isFailure } from '../errors.js';
import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { holdManifests } from '../registry/reviews.js';
import { writeAudit } from './audit.js';
import { conflict, invalidField, notFound } from './failures.js';
import { type Deployment, type DeploymentStatus, getDeployment, getWithRepository } from './deployments.js';
import { getRelease, type Release } from './releases.js';
import type { Caller } from './rights.js';

/** What a caller writes of a new deployment. */
export interface NewDeployment {
  readonly release_id: string;
  readonly environment: string;
  readonly status?: 'pending' | 'active';
  readonly endpoint?: string | null;
  readonly replicas?: number | null;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** What can be changed of one; absent: not said. */
export interface DeploymentInput {
  readonly status?: DeploymentStatus;
  readonly endpoint?: string | null;
  readonly replicas?: number | null;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** What may become of a deployment by itself; only another one that becomes active supersedes it. */
const STEPS: Readonly<Record<DeploymentStatus, readonly DeploymentStatus[]>> = {
  pending: ['active', 'failed', 'retired'],
  active: ['failed', 'retired'],
  superseded: ['active', 'retired'],
  failed: ['pending', 'active', 'retired'],
  retired: [],
};

/** Deploys what a release is now, and supersedes what is active there. @throws 'Conflict' for a draft or a withdrawn release */
export async function createDeployment(
  transaction: Queries,
  caller: Caller,
  input: NewDeployment,
): Promise<Deployment> {
  const status = input.status ?? 'active';
  const seen = await releaseOf(transaction, caller, input);
  caller.rights.require('deploy', seen.image_repository);
  // The manifest before the release, as whoever removes it; what the release has become by then is held below.
  if (seen.digest !== null) await isThere(transaction, seen.model_id, seen.digest);
  await lockModelRow(transaction, seen.model_id);
  // In share: whoever removes the release waits, and then finds this deployment.
  const release = await releaseOf(transaction, caller, input, 'for share of r');
  const { digest } = release;
  if (digest === null || release.status === 'withdrawn' || !(await isThere(transaction, release.model_id, digest)))
    throw conflict(`A release that is ${release.status} can't be deployed`, [
      { type: 'release', id: release.id, tag: release.tag, status: release.status },
    ]);
  if (status === 'active') await supersede(transaction, caller, release.model_id, input.environment);
  const [row] = await transaction.query<{ id: string }>(
    `insert into deployments (release_id, model_id, digest, environment, status, endpoint, replicas, deployed_by, deployed_at, metadata)
     values ($1, $2, $3, $4, $5, $6, $7, $8, case when $5 = 'active' then clock_timestamp() end, $9) returning id`,
    [
      release.id,
      release.model_id,
      digest,
      input.environment,
      status,
      input.endpoint ?? null,
      input.replicas ?? null,
      caller.actor.key,
      JSON.stringify(input.metadata ?? {}),
    ],
  );
  if (!row) throw new Error('the deployment was not stored');
  await note(transaction, caller, row.id, null, status);
  const deployment = await getDeployment(transaction, caller.rights, row.id);
  await audit(transaction, caller, 'deployment.create', deployment.id, release.image_repository, { after: deployment });
  return deployment;
}

async function releaseOf(
  transaction: Queries,
  caller: Caller,
  { release_id }: NewDeployment,
  lock: '' | 'for share of r' = '',
): Promise<Release> {
  return await getRelease(transaction, caller.rights, release_id, lock).catch((error: unknown) => {
    throw isFailure(error, 'NotFound') ? invalidField('release_id', 'no such release') : error;
  });
}

/** Changes a deployment. Becoming active supersedes the one that was. @throws 'Conflict' for a step that can't be made */
export async function changeDeployment(
  transaction: Queries,
  caller: Caller,
  id: string,
  input: DeploymentInput,
): Promise<Deployment> {
  const { before, repository } = await hold(transaction, caller, id);
  caller.expect(before);
  const status = input.status ?? before.status;
  if (status !== before.status) await step(transaction, caller, before, status);
  await transaction.query(
    `update deployments set endpoint = case when $2 then $3 else endpoint end, replicas = case when $4 then $5 else replicas end,
            metadata = coalesce($6::jsonb, metadata), updated_at = now() where id = $1`,
    [
      id,
      input.endpoint !== undefined,
      input.endpoint ?? null,
      input.replicas !== undefined,
      input.replicas ?? null,
      input.metadata === undefined ? null : JSON.stringify(input.metadata),
    ],
  );
  const after = await getDeployment(transaction, caller.rights, id);
  await audit(transaction, caller, 'deployment.update', id, repository, { before, after });
  return after;
}

/** Retires a deployment; what is retired stays so. */
export async function retireDeployment(transaction: Queries, caller: Caller, id: string): Promise<void> {
  const { before, repository } = await hold(transaction, caller, id);
  caller.expect(before);
  if (before.status === 'retired') return;
  await setStatus(transaction, caller, before, 'retired');
  const after = await getDeployment(transaction, caller.rights, id);
  await audit(transaction, caller, 'deployment.retire', id, repository, { before, after });
}

/**
 * Makes the environment's previous deployment current, in one step: of the superseded ones the one that was active last. What
 * is active now is superseded, so that a second rollback comes back to it.
 * @param id of any deployment of that model and environment
 * @throws 'Conflict' if there is none to go back to
 */
export async function rollBack(transaction: Queries, caller: Caller, id: string): Promise<Deployment> {
  const { before: named, repository } = await hold(transaction, caller, id);
  caller.expect(named);
  const [target] = await transaction.query<{ id: string }>(
    `select id from deployments where model_id = $1 and environment = $2 and status = 'superseded'
      order by deployed_at desc, id desc limit 1`,
    [named.model_id, named.environment],
  );
  if (!target) throw conflict(`Nothing ran in ${named.environment} before`);
  const previous = await getDeployment(transaction, caller.rights, target.id);
  await checkThere(transaction, caller, previous);
  const superseded = await supersede(transaction, caller, named.model_id, named.environment);
  await setStatus(transaction, caller, previous, 'active');
  const after = await getDeployment(transaction, caller.rights, target.id);
  await audit(transaction, caller, 'deployment.rollback', after.id, repository, {
    before: { active: superseded },
    after,
  });
  return after;
}

/** A deployment, its model's row locked: who changes which one is active, is alone. */
async function hold(
  transaction: Queries,
  caller: Caller,
  id: string,
): Promise<{ before: Deployment; repository: RepositoryName }> {
  const seen = await getWithRepository(transaction, caller.rights, id);
  caller.rights.require('deploy', seen.repository);
  await lockModelRow(transaction, seen.deployment.model_id);
  await transaction.query('select from deployments where id = $1 for update', [id]);
  return { before: await getDeployment(transaction, caller.rights, id), repository: seen.repository };
}

async function lockModelRow(transaction: Queries, model: string): Promise<void> {
  const rows = await transaction.query('select from models where id = $1 for no key update', [model]);
  if (rows.length === 0) throw notFound('Model');
}

async function step(transaction: Queries, caller: Caller, before: Deployment, status: DeploymentStatus): Promise<void> {
  if (!STEPS[before.status].includes(status))
    throw conflict(`A deployment that is ${before.status} can't become ${status}`, [
      { type: 'deployment', id: before.id, status: before.status },
    ]);
  if (status === 'active' || status === 'pending') await checkThere(transaction, caller, before);
  if (status === 'active') await supersede(transaction, caller, before.model_id, before.environment);
  await setStatus(transaction, caller, before, status);
}

/** @throws 'Conflict' if what a deployment runs was withdrawn, or can't be pulled any more */
async function checkThere(transaction: Queries, caller: Caller, deployment: Deployment): Promise<void> {
  const release = await getRelease(transaction, caller.rights, deployment.release_id, 'for share of r');
  if (release.status !== 'withdrawn' && (await isThere(transaction, deployment.model_id, deployment.digest))) return;
  throw conflict('What this deployment runs is no longer there', [
    { type: 'release', id: release.id, tag: release.tag },
  ]);
}

/** Whether a manifest can still be pulled; it stays until the transaction ends. */
async function isThere(transaction: Queries, model: string, digest: Digest): Promise<boolean> {
  const [row] = await transaction.query<{ repository_id: number }>('select repository_id from models where id = $1', [
    model,
  ]);
  return row !== undefined && (await holdManifests(transaction, row.repository_id, [digest])).length > 0;
}

/** @returns the id of the deployment that was active, if there was one. */
async function supersede(
  transaction: Queries,
  caller: Caller,
  model: string,
  environment: string,
): Promise<string | null> {
  const [row] = await transaction.query<{ id: string }>(
    `update deployments set status = 'superseded', updated_at = now()
      where model_id = $1 and environment = $2 and status = 'active' returning id`,
    [model, environment],
  );
  if (row) await note(transaction, caller, row.id, 'active', 'superseded');
  return row?.id ?? null;
}

async function setStatus(
  transaction: Queries,
  caller: Caller,
  { id, status }: Deployment,
  next: DeploymentStatus,
): Promise<void> {
  await transaction.query(
    `update deployments set status = $2, deployed_at = case when $2 = 'active' then clock_timestamp() else deployed_at end,
            updated_at = now() where id = $1`,
    [id, next],
  );
  await note(transaction, caller, id, status, next);
}

async function note(
  transaction: Queries,
  caller: Caller,
  id: string,
  previous: DeploymentStatus | null,
  status: DeploymentStatus,
): Promise<void> {
  await transaction.query(
    'insert into deployment_events (deployment_id, previous, status, actor) values ($1, $2, $3, $4)',
    [id, previous, status, caller.actor.key],
  );
}

async function audit(
  transaction: Queries,
  caller: Caller,
  action: string,
  id: string,
  repository: RepositoryName,
  details: Readonly<Record<string, unknown>>,
): Promise<void> {
  await writeAudit(transaction, caller.actor, {
    action,
    resourceType: 'deployment',
    resourceId: id,
    repository,
    details,
  });
}
