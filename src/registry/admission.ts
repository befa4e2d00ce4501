import { isFailure } from '../errors.js';
import type { RepositoryName } from '../oci/name.js';

/** What is about to come into a repository: bytes, as far as somebody says how many, or a manifest of what is there. */
export type Arriving = { readonly what: 'bytes'; readonly bytes: number | undefined } | { readonly what: 'manifest' };

/** Lets it come, or not. @throws 'Denied' */
export type Admission = (repository: RepositoryName, arriving: Arriving) => Promise<void>;

/** Asks whether something may come; what is there already does not come anew, and may be sent again. @throws 'Denied' */
export async function admitNew(
  admit: Admission | undefined,
  repository: RepositoryName,
  arriving: Arriving,
  isThere: () => Promise<boolean>,
): Promise<void> {
  try {
    await admit?.(repository, arriving);
  } catch (error) {
    if (!isFailure(error, 'Denied') || !(await isThere())) throw error;
  }
}
