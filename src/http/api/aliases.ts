import {
  type AliasTarget,
  getAlias,
  listAliases,
  listAliasEvents,
  putAlias,
  removeAlias,
} from '../../metadata/aliases.js';
import type { Metadata } from '../../metadata/metadata.js';
import { getModel } from '../../metadata/models.js';
import type { Context } from '../context.js';
import { answerOf, sendAnswer, sendPage, sendResource } from './answer.js';
import { callerOf, rightsOf } from './caller.js';
import type { CheckedRequest } from './contract.js';
import { pageOf } from './requests.js';

/** The handlers of aliases: tags of a model that are no releases. */
export function aliasHandlers(metadata: Metadata) {
  async function list(ctx: Context, request: CheckedRequest): Promise<void> {
    const page = await metadata.read(async (queries) => {
      const { id } = await getModel(queries, rightsOf(ctx), request.path.model ?? '');
      return await listAliases(queries, id, pageOf(request));
    });
    sendPage(ctx, page);
  }

  async function get(ctx: Context, { path }: CheckedRequest): Promise<void> {
    const alias = await metadata.read(async (queries) => {
      const { id } = await getModel(queries, rightsOf(ctx), path.model ?? '');
      return await getAlias(queries, id, path.alias ?? '');
    });
    sendResource(ctx, alias);
  }

  async function history(ctx: Context, request: CheckedRequest): Promise<void> {
    const page = await metadata.read(async (queries) => {
      const { id } = await getModel(queries, rightsOf(ctx), request.path.model ?? '');
      return await listAliasEvents(queries, id, request.path.alias ?? '', pageOf(request));
    });
    sendPage(ctx, page);
  }

  async function put(ctx: Context, { path, body }: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const answer = await metadata.change(undefined, async (transaction) => {
      const target = body as AliasTarget;
      const { alias, model, made } = await putAlias(transaction, caller, path.model ?? '', path.alias ?? '', target);
      return made
        ? answerOf(alias, 201, `/api/v1/models/${model}/aliases/${encodeURIComponent(alias.name)}`)
        : answerOf(alias, 200);
    });
    sendAnswer(ctx, answer);
  }

  async function remove(ctx: Context, { path }: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const answer = await metadata.change(undefined, async (transaction) => {
      await removeAlias(transaction, caller, path.model ?? '', path.alias ?? '');
      return { status: 204, body: null };
    });
    sendAnswer(ctx, answer);
  }

  return { list, get, history, put, remove };
}
