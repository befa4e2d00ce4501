import { RegistryError } from '../../errors.js';
import { algorithmOf, digestOf } from '../../oci/digest.js';
import { type ManifestLimits, parseManifest } from '../../oci/manifest.js';
import { parseReference, parseTag, type Reference } from '../../oci/name.js';
import { ifNoneMatch } from '../../oci/range.js';
import type { ReadObserver } from '../../metadata/audit-reads.js';
import type { Manifests, StoredManifest } from '../../registry/manifests.js';
import type { Pulls } from '../../registry/pulls.js';
import type { Tags } from '../../registry/tags.js';
import { actorOf, type Context } from '../context.js';
import { readWhole } from '../request-body.js';
import { parameters, part } from './parameters.js';
import { warn } from './warning.js';

export interface ManifestRoutesOptions {
  readonly manifests: Manifests;
  readonly tags: Tags;
  readonly limits: ManifestLimits;
  readonly maxTags: number;
  readonly idleMs: number;
  readonly reads: ReadObserver;
  readonly pulls: Pick<Pulls, 'note'>;
}

/** The handlers of manifests (distribution-spec, "Pulling manifests", "Pushing Manifests", "Content Management"). */
export function manifestHandlers({ manifests, tags, limits, maxTags, idleMs, reads, pulls }: ManifestRoutesOptions) {
  /** GET and HEAD (end-3). A manifest is sent as it was pushed, whatever the client says that it accepts. */
  async function get(ctx: Context): Promise<void> {
    const { repository } = ctx.state;
    const reference = parseReferenceToRead(part(ctx, 'reference'));
    const withBody = ctx.method !== 'HEAD';
    const manifest = withBody
      ? await manifests.getPayload(repository, reference)
      : await manifests.get(repository, reference);
    describe(ctx, manifest);
    const isKnown = ifNoneMatch(ctx.req.headers['if-none-match'], `"${manifest.digest}"`);
    // Who asks for a tag and has it all uses it, without a pull. A HEAD by digest is what a push does before it sends.
    if (withBody || 'tag' in reference) pulls.note(repository, manifest.digest, withBody && !isKnown);
    if (isKnown) {
      ctx.status = 304;
      return;
    }
    ctx.status = 200;
    if ('payload' in manifest) {
      ctx.body = manifest.payload;
      const { digest, size } = manifest;
      reads.note(repository, () => ({
        actor: actorOf(ctx),
        what: 'manifest',
        digest,
        details: { ...reference, size },
      }));
    }
    // Koa names a type of its own when it takes a body: the pushed one, without parameters, has the last word.
    ctx.set('Content-Type', manifest.mediaType);
    ctx.set('Content-Length', String(manifest.size));
  }

  /** PUT (end-7a, 7b). */
  async function put(ctx: Context): Promise<void> {
    const { repository } = ctx.state;
    const reference = parseReference(part(ctx, 'reference'));
    const named = parameters(ctx, 'tag').map(parseTag);
    if (named.length > maxTags)
      throw new RegistryError(
        'ParameterInvalid',
        `${named.length} tags in one request; at most ${maxTags} are accepted`,
      );
    const payload = await readWhole(ctx.req, ctx.res, { maxBytes: limits.maxBytes, idleMs }, () => {
      return new RegistryError('ManifestTooLarge', `a manifest may have at most ${limits.maxBytes} bytes`);
    });
    const manifest = parseManifest(payload, ctx.req.headers['content-type'], limits);
    const digest = digestOf('digest' in reference ? algorithmOf(reference.digest) : 'sha256', payload);
    if ('digest' in reference && reference.digest !== digest) {
      throw new RegistryError('DigestInvalid', 'the manifest does not have this digest', {
        detail: { digest: reference.digest, uploaded: digest },
      });
    }
    const set = 'tag' in reference ? [reference.tag, ...named] : named;
    await manifests.put({ repository, digest, payload, manifest, tags: set }, actorOf(ctx));
    ctx.body = null;
    ctx.status = 201;
    ctx.set('Location', `/v2/${repository}/manifests/${digest}`);
    ctx.set('Docker-Content-Digest', digest);
    ctx.set('Content-Length', '0');
    if (named.length > 0) ctx.set('OCI-Tag', named);
    if (manifest.subject) ctx.set('OCI-Subject', manifest.subject);
    if (!declaresMediaType(payload))
      warn(ctx, 'the manifest has no mediaType field; clients may take it for another type');
  }

  /** DELETE (end-9): of a tag, which leaves the manifest, or of a manifest with all its tags. */
  async function remove(ctx: Context): Promise<void> {
    const { repository } = ctx.state;
    const reference = parseReferenceToRead(part(ctx, 'reference'));
    if ('tag' in reference) await tags.remove(repository, reference.tag, actorOf(ctx));
    else await manifests.remove(repository, reference.digest, actorOf(ctx));
    ctx.body = null;
    ctx.status = 202;
    ctx.set('Content-Length', '0');
  }

  return { get, put, remove };
}

/** What is no tag can't be there: 404, not 400, as it is when a client probes for the tags of cosign's long names. */
function parseReferenceToRead(text: string): Reference {
  try {
    return parseReference(text);
  } catch (error) {
    if (!(error instanceof RegistryError) || error.failure !== 'TagInvalid') throw error;
    throw new RegistryError('ManifestUnknown', error.message, { cause: error });
  }
}

/** Whether a manifest that is known to be well formed says what it is. */
function declaresMediaType(payload: Buffer): boolean {
  return Boolean((JSON.parse(payload.toString('utf8')) as { mediaType?: unknown }).mediaType);
}

function describe(ctx: Context, manifest: StoredManifest): void {
  ctx.set('Docker-Content-Digest', manifest.digest);
  ctx.set('ETag', `"${manifest.digest}"`);
  ctx.set('Cache-Control', 'private, no-cache');
}
