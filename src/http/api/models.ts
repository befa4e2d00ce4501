import { listEvents } from '../../metadata/events.js';
import type { Metadata } from '../../metadata/metadata.js';
import { changeModel, createModel, removeModel } from '../../metadata/model-changes.js';
import { getModel, listModels, type ModelFilters, type ModelInput } from '../../metadata/models.js';
import { type ReleaseFilters, listReleases, readMatrix } from '../../metadata/releases.js';
import type { Context } from '../context.js';
import { answerOf, sendAnswer, sendJson, sendPage, sendResource } from './answer.js';
import { callerOf, partBody, rightsOf } from './caller.js';
import type { CheckedRequest } from './contract.js';
import { filtersOf, isForced, pageOf, repeatable } from './requests.js';

const FIXED = ['id', 'created_by', 'created_at', 'updated_at'];

/** The handlers of models. */
export function modelHandlers(metadata: Metadata) {
  async function list(ctx: Context, request: CheckedRequest): Promise<void> {
    const filters = filtersOf<ModelFilters>(request);
    sendPage(ctx, await metadata.read((queries) => listModels(queries, rightsOf(ctx), filters, pageOf(request))));
  }

  async function get(ctx: Context, { path }: CheckedRequest): Promise<void> {
    sendResource(ctx, await metadata.read((queries) => getModel(queries, rightsOf(ctx), path.model ?? '')));
  }

  async function create(ctx: Context, request: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const answer = await metadata.change(repeatable(ctx, 'createModel', request), async (transaction) => {
      const model = await createModel(transaction, caller, request.body as ModelInput);
      return answerOf(model, 201, `/api/v1/models/${model.id}`);
    });
    sendAnswer(ctx, answer);
  }

  const change = (how: 'replace' | 'merge') => async (ctx: Context, request: CheckedRequest) => {
    const { said, fixed } = partBody<ModelInput>(request.body, FIXED);
    const caller = callerOf(ctx, metadata.record, fixed);
    const answer = await metadata.change(undefined, async (transaction) =>
      answerOf(await changeModel(transaction, caller, request.path.model ?? '', said, how), 200),
    );
    sendAnswer(ctx, answer);
  };

  async function remove(ctx: Context, request: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const answer = await metadata.change(undefined, async (transaction) => {
      await removeModel(transaction, caller, request.path.model ?? '', isForced(request));
      return { status: 204, body: null };
    });
    sendAnswer(ctx, answer);
  }

  async function releases(ctx: Context, request: CheckedRequest): Promise<void> {
    const rights = rightsOf(ctx);
    const page = await metadata.read(async (queries) => {
      const { id } = await getModel(queries, rights, request.path.model ?? '');
      const filters = { ...filtersOf<ReleaseFilters>(request), model: id };
      return await listReleases(queries, rights, filters, pageOf(request), '-version');
    });
    sendPage(ctx, page);
  }

  async function matrix(ctx: Context, { path }: CheckedRequest): Promise<void> {
    const found = await metadata.read(async (queries) => {
      const { id } = await getModel(queries, rightsOf(ctx), path.model ?? '');
      return await readMatrix(queries, id);
    });
    sendJson(ctx, 200, found);
  }

  async function events(ctx: Context, request: CheckedRequest): Promise<void> {
    const page = await metadata.read(async (queries) => {
      const model = await getModel(queries, rightsOf(ctx), request.path.model ?? '');
      return await listEvents(queries, model.storage_path, pageOf(request));
    });
    sendPage(ctx, page);
  }

  return { list, get, create, replace: change('replace'), update: change('merge'), remove, releases, matrix, events };
}
