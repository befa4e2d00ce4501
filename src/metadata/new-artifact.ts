import type { Queries } from '../database/connect.js';
import { isFailure } from '../errors.js';
import type { RepositoryName } from '../oci/name.js';
import { safePath } from '../weights/untrusted.js';
import { conflict, digestField, faultsOf, invalid, invalidField, type Issue } from './failures.js';
import { getRelease, type Release } from './releases.js';
import type { Caller } from './rights.js';

/** What a caller writes of a new artifact: a blob that the model's repository holds. */
export interface NewArtifact {
  readonly release_id: string;
  readonly digest: string;
  readonly name?: string;
  readonly path?: string;
  readonly media_type?: string;
  /** Of the manifest that attaches it, on a published release. */
  readonly artifact_type?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/**
 * Where a file for a release goes: its repository, known to be one that the caller may write.
 * @param input without a digest for a file that is still to come
 * @param known what is wrong besides, to be named along
 * @throws 'Invalid' naming all that is wrong with it, 'Denied'
 */
export async function placeOf(
  queries: Queries,
  caller: Caller,
  input: Pick<NewArtifact, 'release_id' | 'name' | 'path'> & { readonly digest?: string },
  known: readonly Issue[] = [],
): Promise<Release> {
  const release = await getRelease(queries, caller.rights, input.release_id).catch((error: unknown) => {
    if (!isFailure(error, 'NotFound')) throw error;
    return undefined;
  });
  if (release) caller.rights.require('push', release.image_repository);
  const found = await faultsOf(
    () => {
      if (!release) throw invalidField('release_id', 'no such release');
    },
    () => nameOf(input),
    async () =>
      input.digest === undefined || (await checkBlob(queries, caller, release?.image_repository, input.digest)),
  );
  const isKnown = ({ loc }: Issue) => known.some((issue) => issue.loc.at(-1) === loc.at(-1));
  const faults = [...known, ...found.filter((issue) => !isKnown(issue))];
  if (!release || faults.length > 0) throw invalid(...faults);
  if (release.status === 'withdrawn')
    throw conflict('A withdrawn release takes no files', [{ type: 'release', id: release.id, tag: release.tag }]);
  return release;
}

/**
 * That a blob is in a repository; where that is not known, in any that the caller may read.
 * @throws 'Invalid'
 */
async function checkBlob(
  queries: Queries,
  { rights }: Caller,
  repository: RepositoryName | undefined,
  text: string,
): Promise<void> {
  const rows = await queries.query<{ name: RepositoryName }>(
    `select r.name from repository_blobs l join repositories r on r.id = l.repository
      where l.digest = $1 and r.name = coalesce($2, r.name)`,
    [digestField(text), repository ?? null],
  );
  if (!rows.some(({ name }) => rights.maySee(name))) throw noBlob();
}

/** What is said of a digest that has no blob there. */
export function noBlob() {
  return invalidField('digest', "no blob of the model's repository has this digest; upload it first");
}

/** A file's name and path as they were asked for; one of them says the other. @throws 'Invalid' */
export function nameOf(input: Pick<NewArtifact, 'name' | 'path'>): { readonly name: string; readonly path: string } {
  const path = input.path ?? input.name;
  if (path === undefined) throw invalid({ loc: ['body', 'name'], msg: 'name or path is needed', type: 'missing' });
  const field = input.path === undefined ? 'name' : 'path';
  if (safePath(path) !== path)
    throw invalidField(field, 'not a path below a folder: parts separated by /, none of them empty, . or ..');
  return { name: input.name ?? path.slice(path.lastIndexOf('/') + 1), path };
}
