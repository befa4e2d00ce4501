import {
  changeDeployment,
  createDeployment,
  type DeploymentInput,
  type NewDeployment,
  retireDeployment,
  rollBack,
} from '../../metadata/deployment-changes.js';
import {
  type DeploymentFilters,
  getDeployment,
  listDeploymentEvents,
  listDeployments,
  listEnvironments,
} from '../../metadata/deployments.js';
import type { Metadata } from '../../metadata/metadata.js';
import type { Context } from '../context.js';
import { answerOf, sendAnswer, sendPage, sendResource } from './answer.js';
import { callerOf, partBody, rightsOf } from './caller.js';
import type { CheckedRequest } from './contract.js';
import { filtersOf, pageOf, repeatable } from './requests.js';

const FIXED = [
  'id',
  'release_id',
  'model_id',
  'model_name',
  'version',
  'quantization',
  'tag',
  'digest',
  'environment',
  'deployed_by',
  'deployed_at',
  'created_at',
  'updated_at',
];

/** The handlers of deployments and of the environments that they are in. */
export function deploymentHandlers(metadata: Metadata) {
  async function list(ctx: Context, request: CheckedRequest): Promise<void> {
    const filters = filtersOf<DeploymentFilters>(request);
    sendPage(ctx, await metadata.read((queries) => listDeployments(queries, rightsOf(ctx), filters, pageOf(request))));
  }

  async function get(ctx: Context, { path }: CheckedRequest): Promise<void> {
    sendResource(ctx, await metadata.read((queries) => getDeployment(queries, rightsOf(ctx), path.id ?? '')));
  }

  async function create(ctx: Context, request: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const answer = await metadata.change(repeatable(ctx, 'createDeployment', request), async (transaction) => {
      const deployment = await createDeployment(transaction, caller, request.body as unknown as NewDeployment);
      return answerOf(deployment, 201, `/api/v1/deployments/${deployment.id}`);
    });
    sendAnswer(ctx, answer);
  }

  async function update(ctx: Context, request: CheckedRequest): Promise<void> {
    const { said, fixed } = partBody<DeploymentInput>(request.body, FIXED);
    const caller = callerOf(ctx, metadata.record, fixed);
    const answer = await metadata.change(undefined, async (transaction) =>
      answerOf(await changeDeployment(transaction, caller, request.path.id ?? '', said), 200),
    );
    sendAnswer(ctx, answer);
  }

  async function retire(ctx: Context, { path }: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const answer = await metadata.change(undefined, async (transaction) => {
      await retireDeployment(transaction, caller, path.id ?? '');
      return { status: 204, body: null };
    });
    sendAnswer(ctx, answer);
  }

  async function rollback(ctx: Context, request: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const answer = await metadata.change(repeatable(ctx, 'rollBackDeployment', request), async (transaction) =>
      answerOf(await rollBack(transaction, caller, request.path.id ?? ''), 200),
    );
    sendAnswer(ctx, answer);
  }

  async function history(ctx: Context, request: CheckedRequest): Promise<void> {
    const page = await metadata.read(async (queries) => {
      const { id } = await getDeployment(queries, rightsOf(ctx), request.path.id ?? '');
      return await listDeploymentEvents(queries, id, pageOf(request));
    });
    sendPage(ctx, page);
  }

  async function environments(ctx: Context, request: CheckedRequest): Promise<void> {
    sendPage(ctx, await metadata.read((queries) => listEnvironments(queries, rightsOf(ctx), pageOf(request))));
  }

  /** What is active in an environment, of every model. */
  async function current(ctx: Context, request: CheckedRequest): Promise<void> {
    const environment = request.path.environment ?? '';
    const filters = { ...filtersOf<DeploymentFilters>(request), environment, status: 'active' };
    sendPage(ctx, await metadata.read((queries) => listDeployments(queries, rightsOf(ctx), filters, pageOf(request))));
  }

  return { list, get, create, update, retire, rollback, history, environments, current };
}
