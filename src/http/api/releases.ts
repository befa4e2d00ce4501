import { type ArtifactFilters, listArtifacts } from '../../metadata/artifacts.js';
import { compareReleases } from '../../metadata/compare.js';
import { type DeploymentFilters, listDeployments } from '../../metadata/deployments.js';
import { conflict, faultsOf, invalid } from '../../metadata/failures.js';
import type { Metadata } from '../../metadata/metadata.js';
import { preparePublication, publishRelease } from '../../metadata/publish.js';
import { changeRelease, createRelease, type ReleaseInput, removeRelease } from '../../metadata/release-changes.js';
import { identityOf } from '../../metadata/release-identity.js';
import {
  getRelease,
  getReleaseManifest,
  latestRelease,
  listReleases,
  type ReleaseFilters,
} from '../../metadata/releases.js';
import { ifNoneMatch } from '../../oci/range.js';
import type { Registry } from '../../registry/registry.js';
import type { Context } from '../context.js';
import { answerOf, sendAnswer, sendJson, sendPage, sendResource } from './answer.js';
import { callerOf, partBody, rightsOf } from './caller.js';
import type { CheckedRequest } from './contract.js';
import { filtersOf, isForced, pageOf, repeatable } from './requests.js';

const FIXED = [
  'id',
  'model_id',
  'image_id',
  'image_name',
  'image_repository',
  'media_type',
  'artifact_type',
  'size_bytes',
  'facts',
  'created_by',
  'created_at',
  'updated_at',
];
/** How often a draft may change while it is being published. */
const MAX_ATTEMPTS = 5;

/** The handlers of releases. */
export function releaseHandlers(metadata: Metadata, registry: Pick<Registry, 'blobs' | 'uploads'>) {
  async function list(ctx: Context, request: CheckedRequest): Promise<void> {
    const filters = filtersOf<ReleaseFilters>(request);
    sendPage(ctx, await metadata.read((queries) => listReleases(queries, rightsOf(ctx), filters, pageOf(request))));
  }

  async function get(ctx: Context, { path }: CheckedRequest): Promise<void> {
    sendResource(ctx, await metadata.read((queries) => getRelease(queries, rightsOf(ctx), path.id ?? '')));
  }

  async function latest(ctx: Context, { query }: CheckedRequest): Promise<void> {
    const { model = '', quantization } = query as { model?: string; quantization?: string };
    sendResource(ctx, await metadata.read((queries) => latestRelease(queries, rightsOf(ctx), { model, quantization })));
  }

  async function compare(ctx: Context, { query }: CheckedRequest): Promise<void> {
    const rights = rightsOf(ctx);
    const comparison = await metadata.read(async (queries) => {
      const from = await getRelease(queries, rights, String(query.from));
      return await compareReleases(queries, from, await getRelease(queries, rights, String(query.to)));
    });
    sendJson(ctx, 200, comparison);
  }

  async function create(ctx: Context, request: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const { model_id, image_id, ...input } = request.body as ReleaseInput & { model_id?: string; image_id?: string };
    if (model_id !== undefined && image_id !== undefined && model_id.toLowerCase() !== image_id.toLowerCase())
      throw invalid(
        { loc: ['body', 'image_id'], msg: 'model_id says another model', type: 'value_error' },
        ...(await faultsOf(() => identityOf(input))),
      );
    const answer = await metadata.change(repeatable(ctx, 'createRelease', request), async (transaction) => {
      const release = await createRelease(transaction, caller, model_id ?? image_id ?? '', input);
      return answerOf(release, 201, `/api/v1/releases/${release.id}`);
    });
    sendAnswer(ctx, answer);
  }

  const change = (how: 'replace' | 'merge') => async (ctx: Context, request: CheckedRequest) => {
    const { said, fixed } = partBody<ReleaseInput>(request.body, FIXED);
    const caller = callerOf(ctx, metadata.record, fixed);
    const answer = await metadata.change(undefined, async (transaction) =>
      answerOf(await changeRelease(transaction, caller, request.path.id ?? '', said, how), 200),
    );
    sendAnswer(ctx, answer);
  };

  async function remove(ctx: Context, request: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const answer = await metadata.change(undefined, async (transaction) => {
      await removeRelease(transaction, caller, request.path.id ?? '', isForced(request));
      return { status: 204, body: null };
    });
    sendAnswer(ctx, answer);
  }

  /** Of a draft's files, or, with a digest in the body, of a manifest that is there. */
  async function publish(ctx: Context, request: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const id = request.path.id ?? '';
    const once = repeatable(ctx, 'publishRelease', request);
    const digest = request.body?.digest;
    if (typeof digest === 'string') {
      const answer = await metadata.change(once, async (transaction) => {
        const before = await getRelease(transaction, caller.rights, id);
        caller.rights.require('push', before.image_repository);
        if (before.status !== 'draft') throw conflict('Only a draft can be published', [{ type: 'release', id }]);
        return answerOf(await changeRelease(transaction, caller, id, { digest }, 'merge'), 200);
      });
      sendAnswer(ctx, answer);
      return;
    }
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      // A repeated request finds its answer before it is seen that this is no draft any more.
      const known = await metadata.findAnswer(once);
      if (known) return sendAnswer(ctx, known);
      const prepared = await metadata.read((queries) => preparePublication(queries, registry, caller, id));
      let changed = false;
      const answer = await metadata
        .change(once, async (transaction) => {
          const release = await publishRelease(transaction, caller, id, prepared);
          changed = release === undefined;
          if (!release) throw conflict('The draft changes while it is being published', [{ type: 'release', id }]);
          return answerOf(release, 200);
        })
        .catch((error: unknown) => {
          if (changed && attempt < MAX_ATTEMPTS) return undefined;
          throw error;
        });
      if (answer) return sendAnswer(ctx, answer);
    }
  }

  async function deployments(ctx: Context, request: CheckedRequest): Promise<void> {
    const rights = rightsOf(ctx);
    const page = await metadata.read(async (queries) => {
      const { id } = await getRelease(queries, rights, request.path.id ?? '');
      const filters = { ...filtersOf<DeploymentFilters>(request), release_id: id };
      return await listDeployments(queries, rights, filters, pageOf(request));
    });
    sendPage(ctx, page);
  }

  async function artifacts(ctx: Context, request: CheckedRequest): Promise<void> {
    const rights = rightsOf(ctx);
    const page = await metadata.read(async (queries) => {
      const { id } = await getRelease(queries, rights, request.path.id ?? '');
      const filters = { ...filtersOf<ArtifactFilters>(request), release_id: id };
      return await listArtifacts(queries, rights, filters, pageOf(request));
    });
    sendPage(ctx, page);
  }

  /** Exactly as it was pushed, under its own type. */
  async function manifest(ctx: Context, { path }: CheckedRequest): Promise<void> {
    const found = await metadata.read(async (queries) =>
      getReleaseManifest(queries, await getRelease(queries, rightsOf(ctx), path.id ?? '')),
    );
    const etag = `"${found.digest}"`;
    ctx.set('ETag', etag);
    ctx.set('Cache-Control', 'private, no-cache');
    ctx.set('Docker-Content-Digest', found.digest);
    if (ifNoneMatch(ctx.req.headers['if-none-match'], etag)) {
      ctx.status = 304;
      return;
    }
    ctx.status = 200;
    ctx.body = found.payload;
    ctx.set('Content-Type', found.media_type);
  }

  const replace = change('replace');
  const update = change('merge');
  return { list, get, latest, compare, create, replace, update, remove, publish, deployments, artifacts, manifest };
}
