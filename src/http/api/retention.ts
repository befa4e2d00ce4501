import { invalidField } from '../../metadata/failures.js';
import type { Metadata } from '../../metadata/metadata.js';
import { getModel } from '../../metadata/models.js';
import type { Retention } from '../../policies/retention.js';
import type { JudgeOptions } from '../../policies/retention-judge.js';
import { previewRetention } from '../../policies/retention-preview.js';
import { permit } from '../authenticate.js';
import type { Context } from '../context.js';
import { sendPage } from './answer.js';
import { rightsOf } from './caller.js';
import type { CheckedRequest } from './contract.js';
import { patternOf } from './policies.js';
import { pageOf } from './requests.js';

export interface RetentionRoutesOptions {
  readonly retention: JudgeOptions;
}

interface Asked {
  readonly pattern?: string;
  readonly model_id?: string;
  readonly retention?: Retention | null;
}

/** The handlers of retention: what rules would take away. */
export function retentionHandlers(metadata: Metadata, { retention: options }: RetentionRoutesOptions) {
  /** Of a model that one may read; of all models for those who may read all. Changes nothing. */
  async function preview(ctx: Context, request: CheckedRequest): Promise<void> {
    const { pattern, model_id, retention } = request.body as Asked;
    const proposed = proposalOf(pattern, model_id, retention);
    if (model_id === undefined) permit(ctx, ctx.state.access.decideAdmin('read'));
    const { all = false } = request.query as { all?: boolean };
    const page = await metadata.read(async (queries) => {
      const model = model_id === undefined ? undefined : await getModel(queries, rightsOf(ctx), model_id);
      return await previewRetention(queries, { model: model?.id, proposed, all }, pageOf(request), options);
    });
    sendPage(ctx, page);
  }

  return { preview };
}

/** @throws 'Invalid' for a rule that would stand nowhere, or in two places */
function proposalOf(pattern: string | undefined, model: string | undefined, retention: Retention | null | undefined) {
  if (pattern !== undefined && model !== undefined)
    throw invalidField('pattern', 'not together with model_id: a rule is of one of them');
  if (pattern !== undefined && retention === undefined)
    throw invalidField('retention', 'needed with pattern: what its policy would say');
  if (retention === undefined) return undefined;
  if (pattern === undefined && model === undefined)
    throw invalidField('retention', 'needs a pattern or a model_id: who would say it');
  return { pattern: pattern === undefined ? undefined : patternOf(pattern), retention };
}
