import { ATTACHED_LENGTH, ATTACHED_TAG } from '../oci/attached-tags.js';

/**
 * What names a blob in a repository, as a condition on a link `l`: a manifest of any kind that lists it (also one of a layer
 * that a client need not push), or a draft that has it as a file.
 */
export const LINK_IS_NAMED = `(
  exists (select from manifest_references f where f.repository = l.repository and f.digest = l.digest and f.kind <> 'manifest')
  or exists (select from artifacts a where a.repository = l.repository and a.blob = l.digest))`;

/** The beginning of the digest to which a tag `t` of that form attaches something. */
export const SUBJECT_OF_TAG = `translate(left(t.name, ${ATTACHED_LENGTH}), '-', ':')`;

/** Whether a manifest `s` is the subject of such a tag; `g` comes behind all digits. */
const IS_SUBJECT = `(s.digest >= ${SUBJECT_OF_TAG} and s.digest < ${SUBJECT_OF_TAG} || 'g')`;

/**
 * Whether a tag `t` only attaches its manifest `m` to a subject that is not there, and nothing else speaks for `m`: no tag of
 * another form or subject, and no subject of its own that is another. With signatures that are kept apart from what they sign
 * all tags are so: it says something only where a subject is known to have been removed.
 */
const TAG_IS_BEREFT = `(
  t.name ~ '${ATTACHED_TAG}'
  and not exists (select from manifests s where s.repository = t.repository and ${IS_SUBJECT})
  and not exists (select from tags o where o.repository = t.repository and o.digest = t.digest
                     and left(o.name, ${ATTACHED_LENGTH}) <> left(t.name, ${ATTACHED_LENGTH}))
  and coalesce(left(m.subject, ${ATTACHED_LENGTH}) = ${SUBJECT_OF_TAG}, true))`;

/**
 * What names a manifest `m`: a tag, an index that lists it, its subject if that is there, and what `pinned` says, a condition
 * on `m` of another room (releases and live deployments).
 * @param orphaned a condition: its subject was removed from the repository, so that a tag that attaches it to that is no name
 */
export function manifestIsNamed(pinned: string, orphaned = 'false'): string {
  return `(
  exists (select from tags t where t.repository = m.repository and t.digest = m.digest and not (${orphaned} and ${TAG_IS_BEREFT}))
  or exists (select from manifest_references f where f.repository = m.repository and f.digest = m.digest and f.kind = 'manifest')
  or exists (select from manifests s where s.repository = m.repository and s.digest = m.subject)
  or ${pinned})`;
}
