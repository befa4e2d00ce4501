import { RegistryError } from '../errors.js';
import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';

/**
 * Whether a deployment d is live: what it pins must stay. Of the superseded ones of a model and environment, the one that
 * was active last is where a rollback leads.
 */
export const IS_LIVE = `(d.status in ('pending', 'active') or (d.status = 'superseded' and not exists (
  select from deployments o where o.model_id = d.model_id and o.environment = d.environment and o.status = 'superseded'
     and (o.deployed_at, o.id) > (d.deployed_at, d.id))))`;

/** A live deployment, as it is shown to whoever it stands in the way of. */
export type LiveDeployment = { readonly type: 'deployment' } & Row;

// An alias and not an interface, so that it is one of the open records that `conflict` takes.
type Row = {
  readonly id: string;
  readonly environment: string;
  readonly status: string;
  readonly digest: Digest;
};

/** As many as one would read. */
export const SHOWN = 20;
/** Where they go with what they run, and the record has to name each. */
export const ALL = null;

/** Live deployments of a model, of one of its releases, or of digests in it; at most `limit`. */
export async function findLive(
  transaction: Queries,
  of: { readonly model: string; readonly release?: string; readonly digests?: readonly Digest[] },
  limit: number | null = SHOWN,
): Promise<LiveDeployment[]> {
  const rows = await transaction.query<Row>(
    `select d.id, d.environment, d.status, d.digest from deployments d
      where d.model_id = $1 and ($2::uuid is null or d.release_id = $2) and ($3::text[] is null or d.digest = any($3)) and ${IS_LIVE}
      order by d.created_at limit $4`,
    [of.model, of.release ?? null, of.digests ?? null, limit],
  );
  return rows.map(({ id, environment, status, digest }) => ({ type: 'deployment', id, environment, status, digest }));
}

/** All deployments of a model, or of one of its releases, that go when it does, for the record. */
export async function findAll(
  transaction: Queries,
  of: { readonly model: string; readonly release?: string },
): Promise<Row[]> {
  return await transaction.query<Row>(
    `select id, environment, status, digest from deployments where model_id = $1 and ($2::uuid is null or release_id = $2)
      order by created_at, id`,
    [of.model, of.release ?? null],
  );
}

/** @throws 'ReleaseDeployed' if there are any. */
export function refuseLive(live: readonly LiveDeployment[], what: string): void {
  if (live.length === 0) return;
  const where = [...new Set(live.map((deployment) => deployment.environment))].join(', ');
  throw new RegistryError('ReleaseDeployed', `${what} is deployed (${where}); retire the deployment first`, {
    detail: { conflicts: live },
  });
}
