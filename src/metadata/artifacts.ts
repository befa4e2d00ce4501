import type { Queries } from '../database/connect.js';
import { Conditions, containing, type Page, type PageQuery, readPage, type Sort } from '../database/pages.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { addModels, areFew, chooseModels } from './chosen-models.js';
import { notFound } from './failures.js';
import { isId } from './models.js';
import type { Rights } from './rights.js';

/** A file of a release, or one that was attached to it, as every answer shows it. Sizes in bytes. */
export interface Artifact {
  readonly id: string;
  readonly release_id: string;
  readonly name: string;
  readonly kind: 'layer' | 'attached';
  readonly media_type: string;
  readonly digest: Digest;
  readonly size_bytes: number;
  readonly path: string | null;
  readonly checksum: string | null;
  readonly format: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly created_by: string;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** Where an artifact stands: what decides whether it may be read or changed. */
export interface ArtifactPlace {
  readonly repository: RepositoryName;
  readonly release_status: string;
  /** The referrer that attaches it. */
  readonly manifest: Digest | null;
}

export const ARTIFACT_COLUMNS = `a.id, a.release_id, a.name, a.kind, a.media_type, a.digest, a.size_bytes, a.path, a.checksum, a.format,
  a.metadata, a.created_by, a.created_at, a.updated_at`;
const OF_ALL = 'join releases r on r.id = a.release_id';
/** The same, which PostgreSQL does not begin with. */
const OF_EACH = 'cross join lateral (select model_id from releases where id = a.release_id offset 0) r';
const FROM = 'artifacts a join releases r on r.id = a.release_id join models m on m.id = r.model_id';

export interface ArtifactFilters {
  readonly model?: string | undefined;
  readonly release_id?: string | undefined;
  readonly kind?: string | undefined;
  readonly format?: string | undefined;
  readonly digest?: string | undefined;
  readonly q?: string | undefined;
}

const SORTS: Readonly<Record<string, Sort>> = { created_at: { expression: 'a.created_at', type: 'timestamptz' } };
/** What is looked through for a text, as the index has it. */
const TEXT = `(a.name || E'\\n' || coalesce(a.path, ''))`;
/** Layers before what is attached, as the manifest has them. */
const IN_ORDER: Readonly<Record<string, Sort>> = {
  created_at: { expression: 'a.created_at', type: 'timestamptz' },
  position: { expression: `(case a.kind when 'layer' then 0 else 1000000 end + a.position)`, type: 'integer' },
};

/** A page of the artifacts that the caller may read; of one release in the manifest's order, unless another is asked. */
export async function listArtifacts(
  queries: Queries,
  rights: Rights,
  filters: ArtifactFilters,
  page: PageQuery,
): Promise<Page<Artifact>> {
  const models = await chooseModels(queries, rights, { model: filters.model });
  // Of many models, what has a text is looked at one by one: it is little, or a page is soon full.
  const each = filters.q !== undefined && models !== undefined && !areFew(models);
  const conditions = addModels(new Conditions(), 'r.model_id', models)
    .add('a.release_id = ?::uuid', filters.release_id)
    .add('a.kind = ?', filters.kind)
    .add('a.format = ?', filters.format)
    .add('a.digest = ?', filters.digest)
    .add(`${TEXT} ilike ?`, filters.q === undefined ? undefined : containing(filters.q));
  const ofOne = filters.release_id !== undefined;
  return await readPage<Artifact>(queries, page, {
    columns: ARTIFACT_COLUMNS,
    from: `artifacts a ${each ? OF_EACH : OF_ALL}`,
    conditions,
    sorts: ofOne ? IN_ORDER : SORTS,
    defaultSort: ofOne ? 'position' : '-created_at',
    id: 'a.id',
    idType: 'uuid',
  });
}

/** @throws 'NotFound', also if the caller may not read it */
export async function getArtifact(
  queries: Queries,
  rights: Rights,
  id: string,
): Promise<{ readonly artifact: Artifact; readonly place: ArtifactPlace }> {
  const [row] = isId(id)
    ? await queries.query<Artifact & ArtifactPlace>(
        `select ${ARTIFACT_COLUMNS}, m.storage_path as repository, r.status as release_status, a.manifest from ${FROM} where a.id = $1`,
        [id],
      )
    : [];
  if (!row || !rights.maySee(row.repository)) throw notFound('Artifact');
  const { repository, release_status, manifest, ...artifact } = row;
  return { artifact, place: { repository, release_status, manifest } };
}
