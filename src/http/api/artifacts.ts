import { type ArtifactInput, changeArtifact, createArtifact, removeArtifact } from '../../metadata/artifact-changes.js';
import { type ArtifactFilters, getArtifact, listArtifacts } from '../../metadata/artifacts.js';
import { putEmptyConfig } from '../../metadata/attach.js';
import { invalidField } from '../../metadata/failures.js';
import type { Metadata } from '../../metadata/metadata.js';
import { type NewArtifact, placeOf } from '../../metadata/new-artifact.js';
import { isFailure } from '../../errors.js';
import { ifNoneMatch } from '../../oci/range.js';
import type { ReadObserver } from '../../metadata/audit-reads.js';
import type { Registry } from '../../registry/registry.js';
import { actorOf, type Context } from '../context.js';
import { blobSender, type BlobSenderOptions } from '../send-blob.js';
import { answerOf, sendAnswer, sendPage, sendResource } from './answer.js';
import { callerOf, partBody, rightsOf } from './caller.js';
import type { CheckedRequest } from './contract.js';
import { contentDisposition } from './disposition.js';
import { filtersOf, pageOf, repeatable } from './requests.js';
import { uploadReader } from './uploads.js';

export interface ArtifactRoutesOptions extends BlobSenderOptions {
  readonly registry: Pick<Registry, 'blobs' | 'uploads'>;
  readonly reads: ReadObserver;
}

const FIXED = ['id', 'release_id', 'kind', 'checksum', 'format', 'created_by', 'created_at', 'updated_at'];

/** The handlers of artifacts: files of releases, and what is attached to them. */
export function artifactHandlers(metadata: Metadata, { registry, reads, ...options }: ArtifactRoutesOptions) {
  const send = blobSender(options);
  const readUpload = uploadReader(options.idleMs);

  async function list(ctx: Context, request: CheckedRequest): Promise<void> {
    const filters = filtersOf<ArtifactFilters>(request);
    sendPage(ctx, await metadata.read((queries) => listArtifacts(queries, rightsOf(ctx), filters, pageOf(request))));
  }

  async function get(ctx: Context, { path }: CheckedRequest): Promise<void> {
    const { artifact } = await metadata.read((queries) => getArtifact(queries, rightsOf(ctx), path.id ?? ''));
    sendResource(ctx, artifact);
  }

  /** Of a blob that is in the repository already. */
  async function create(ctx: Context, request: CheckedRequest): Promise<void> {
    await add(ctx, request.body as unknown as NewArtifact, repeatable(ctx, 'createArtifact', request));
  }

  async function add(ctx: Context, input: NewArtifact, once: ReturnType<typeof repeatable>): Promise<void> {
    // A repeated request is answered alike, whatever became of the release since.
    const known = await metadata.findAnswer(once);
    if (known) return sendAnswer(ctx, known);
    const caller = callerOf(ctx, metadata.record);
    const release = await metadata.read((queries) => placeOf(queries, caller, input));
    if (release.status !== 'draft') await putEmptyConfig(registry, caller, release.image_repository);
    const answer = await metadata.change(once, async (transaction) => {
      const artifact = await createArtifact(transaction, caller, input);
      return answerOf(artifact, 201, `/api/v1/artifacts/${artifact.id}`);
    });
    sendAnswer(ctx, answer);
  }

  /** A file of any size: made durable as a push makes it, then added to the release. */
  async function upload(ctx: Context, request: CheckedRequest): Promise<void> {
    const file = await readUpload(ctx, request);
    const caller = callerOf(ctx, metadata.record);
    const release = await metadata.read((queries) => placeOf(queries, caller, file, file.issues));
    const body = { from: undefined, length: file.length, read: file.read };
    const { checksum, issues: _issues, read: _read, length: _length, ...input } = file;
    const { digest, size } = await registry.uploads
      .store(release.image_repository, body, checksum ?? 'sha256', caller.actor)
      .catch((error: unknown) => {
        throw isFailure(error, 'DigestInvalid') ? invalidField('checksum', error.message) : error;
      });
    const once = repeatable(ctx, 'uploadArtifact', request, JSON.stringify([input, digest, size]));
    await add(ctx, { ...input, digest }, once);
  }

  const change = (how: 'replace' | 'merge') => async (ctx: Context, request: CheckedRequest) => {
    const { said, fixed } = partBody<ArtifactInput>(request.body, FIXED);
    const caller = callerOf(ctx, metadata.record, fixed);
    const answer = await metadata.change(undefined, async (transaction) =>
      answerOf(await changeArtifact(transaction, caller, request.path.id ?? '', said, how), 200),
    );
    sendAnswer(ctx, answer);
  };

  async function remove(ctx: Context, { path }: CheckedRequest): Promise<void> {
    const caller = callerOf(ctx, metadata.record);
    const answer = await metadata.change(undefined, async (transaction) => {
      await removeArtifact(transaction, caller, path.id ?? '');
      return { status: 204, body: null };
    });
    sendAnswer(ctx, answer);
  }

  /** Under the file's name and type; a browser is told to save it and to run nothing. */
  async function download(ctx: Context, { path }: CheckedRequest): Promise<void> {
    const { artifact, place } = await metadata.read((queries) => getArtifact(queries, rightsOf(ctx), path.id ?? ''));
    const blob = await registry.blobs.getOpenable(place.repository, artifact.digest);
    const etag = `"${artifact.digest}"`;
    ctx.set('ETag', etag);
    ctx.set('Cache-Control', 'private, no-cache');
    ctx.set('Accept-Ranges', 'bytes');
    ctx.set('Docker-Content-Digest', artifact.digest);
    if (ifNoneMatch(ctx.req.headers['if-none-match'], etag)) {
      ctx.status = 304;
      return;
    }
    ctx.set('Content-Type', artifact.media_type);
    ctx.set('Content-Disposition', contentDisposition(artifact.name));
    if (ctx.method === 'HEAD') {
      ctx.status = 200;
      ctx.set('Content-Length', String(blob.size));
      return;
    }
    await send(ctx, blob, {
      type: artifact.media_type,
      note: (part) =>
        reads.note(place.repository, () => ({
          actor: actorOf(ctx),
          what: 'blob',
          digest: artifact.digest,
          details: { size: artifact.size_bytes, artifact: artifact.id, ...part },
        })),
      unsatisfiable: (message) => ({ detail: message }),
    });
  }

  const replace = change('replace');
  return { list, get, create, upload, replace, update: change('merge'), remove, download };
}
