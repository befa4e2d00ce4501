/**
 * What names a blob in a repository, as a condition on a link `l`: a manifest of any kind that lists it (also one of a layer
 * that a client need not push), or a draft that has it as a file.
 */
export const LINK_IS_NAMED = `(
  exists (select from manifest_references f where f.repository = l.repository and f.digest = l.digest and f.kind <> 'manifest')
  or exists (select from artifacts a where a.repository = l.repository and a.blob = l.digest))`;

/**
 * What names a manifest `m`: a tag, an index that lists it, its subject if that is there, and what `pinned` says, a condition
 * on `m` of another room (releases and live deployments).
 */
export function manifestIsNamed(pinned: string): string {
  return `(
  exists (select from tags t where t.repository = m.repository and t.digest = m.digest)
  or exists (select from manifest_references f where f.repository = m.repository and f.digest = m.digest and f.kind = 'manifest')
  or exists (select from manifests s where s.repository = m.repository and s.digest = m.subject)
  or ${pinned})`;
}
