import { setTimeout as sleep } from 'node:timers/promises';
import { parsePattern } from '../../auth/grants.js';
import { REVOKED_MS } from '../../auth/lease.js';
import { isFailure } from '../../errors.js';
import { invalidField } from '../../metadata/failures.js';
import type { Metadata } from '../../metadata/metadata.js';
import type { PolicyAnnounced, PolicyObserver } from '../../policies/changes.js';
import {
  changePolicy,
  createPolicy,
  getPolicy,
  listPolicies,
  type PolicyCaller,
  type PolicyChanges,
  removePolicy,
} from '../../policies/policies.js';
import { permit } from '../authenticate.js';
import { actorOf, type Context } from '../context.js';
import { answerOf, sendAnswer, sendPage, sendResource } from './answer.js';
import { callerOf, partBody } from './caller.js';
import type { CheckedRequest } from './contract.js';
import { pageOf, repeatable } from './requests.js';

export interface PolicyRoutesOptions {
  readonly policies: {
    /** Told of every change in its transaction. */
    readonly observers: readonly PolicyObserver[];
    /** How many policies there may be. */
    readonly max: number;
  };
}

const FIXED = ['id', 'pattern', 'created_by', 'created_at', 'updated_at'];

/** The handlers of policies: all of them for admins alone. A change is answered when it holds in every process. */
export function policyHandlers(metadata: Metadata, { policies: { observers, max } }: PolicyRoutesOptions) {
  const announced = (ctx: Context): PolicyAnnounced => ({ actor: actorOf(ctx), observers });
  const change = (ctx: Context, fixed = {}): PolicyCaller => ({
    announced: announced(ctx),
    expect: callerOf(ctx, metadata.record, fixed).expect,
  });

  async function list(ctx: Context, request: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('read'));
    sendPage(ctx, await metadata.read((queries) => listPolicies(queries, pageOf(request))));
  }

  async function get(ctx: Context, { path }: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('read'));
    sendResource(ctx, await metadata.read((queries) => getPolicy(queries, path.id ?? '')));
  }

  async function create(ctx: Context, request: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('change'));
    const { pattern, ...said } = request.body as PolicyChanges & { readonly pattern: string };
    const name = patternOf(pattern);
    const answer = await metadata.change(repeatable(ctx, 'createPolicy', request), async (transaction) => {
      const policy = await createPolicy(transaction, name, said, max, announced(ctx));
      return answerOf(policy, 201, `/api/v1/policies/${policy.id}`);
    });
    await sleep(REVOKED_MS);
    sendAnswer(ctx, answer);
  }

  async function update(ctx: Context, request: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('change'));
    const { said, fixed } = partBody<PolicyChanges>(request.body, FIXED);
    let holds = true;
    const answer = await metadata.change(undefined, async (transaction) => {
      const { policy, changed } = await changePolicy(transaction, request.path.id ?? '', said, change(ctx, fixed));
      holds = !changed;
      return answerOf(policy, 200);
    });
    if (!holds) await sleep(REVOKED_MS);
    sendAnswer(ctx, answer);
  }

  async function remove(ctx: Context, { path }: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('change'));
    const answer = await metadata.change(undefined, async (transaction) => {
      await removePolicy(transaction, path.id ?? '', change(ctx));
      return { status: 204, body: null };
    });
    await sleep(REVOKED_MS);
    sendAnswer(ctx, answer);
  }

  return { list, get, create, update, remove };
}

/** @throws 'Invalid', naming the field `pattern` */
export function patternOf(text: string): string {
  try {
    return parsePattern(text);
  } catch (error) {
    if (!isFailure(error, 'ParameterInvalid')) throw error;
    throw invalidField('pattern', error.message, 'string_pattern_mismatch');
  }
}
