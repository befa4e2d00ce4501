import type { RouterMiddleware } from '@koa/router';
import type { Action } from '../../auth/grants.js';
import { isFailure } from '../../errors.js';
import { parseRepositoryName, type RepositoryName } from '../../oci/name.js';
import type { Uploads } from '../../registry/uploads.js';
import { permit, scopeOf } from '../authenticate.js';
import type { Context, RequestState } from '../context.js';
import { parameter, part } from './parameters.js';

type Guard = RouterMiddleware<RequestState>;

/** Lets through whoever is somebody. */
export const asSomebody: Guard = async (ctx, next) => {
  permit(ctx, ctx.state.access.decideBase());
  await next();
};

/** Lets through whoever may ask for a list of repositories; the list holds what it may see. */
export const toCatalog: Guard = async (ctx, next) => {
  permit(ctx, ctx.state.access.decideCatalog(), 'registry:catalog:*');
  await next();
};

/** Lets through whoever may do `action` in the repository of the path. @throws 'NameInvalid' */
export function to(action: Action): Guard {
  return async (ctx, next) => {
    const repository = repositoryOf(ctx);
    ctx.state.repository = repository;
    const source = mountSource(ctx);
    const scope = scopeOf(repository, action);
    permit(ctx, ctx.state.access.decide(action, repository), source ? `${scope} ${source}` : scope);
    await next();
  };
}

/** As `to('push')`, and whoever began the upload may finish it (spec/access.md, "Uploads"). */
export function toUpload(uploads: Uploads): Guard {
  return async (ctx, next) => {
    const repository = repositoryOf(ctx);
    ctx.state.repository = repository;
    const { access } = ctx.state;
    const decision = access.decide('push', repository);
    const finishes =
      decision !== 'allowed' && access.identity.kind !== 'anonymous' && (await begunByThem(ctx, repository, uploads));
    if (!finishes) permit(ctx, decision, scopeOf(repository, 'push'));
    await next();
  };
}

/** The repository of the path. Nobody in particular is not even told that it is no name. @throws 'NameInvalid' */
function repositoryOf(ctx: Context): RepositoryName {
  try {
    return parseRepositoryName(part(ctx, 'name'));
  } catch (error) {
    permit(ctx, ctx.state.access.decideBase());
    throw error;
  }
}

async function begunByThem(ctx: Context, repository: RepositoryName, uploads: Uploads): Promise<boolean> {
  const session = await uploads.findOrigin(part(ctx, 'upload'), repository);
  return session !== undefined && ctx.state.access.mayFinish(repository, session.actor, session.createdAt);
}

/** The scope of the repository that a blob would be mounted from, so that clients ask for a token for both. */
function mountSource(ctx: Context): string | undefined {
  try {
    const from = parameter(ctx, 'from');
    return from === undefined ? undefined : scopeOf(parseRepositoryName(from), 'pull');
  } catch (error) {
    if (isFailure(error, 'NameInvalid', 'ParameterInvalid')) return undefined;
    throw error;
  }
}
