import type { Queries } from '../database/connect.js';
import { Conditions, containing, type Page, type PageQuery, readPage, type Sort } from '../database/pages.js';
import type { Digest } from '../oci/digest.js';
import type { RepositoryName } from '../oci/name.js';
import { intact } from '../registry/manifests.js';
import { addFew, addModels, chooseModels, type ModelChoice } from './chosen-models.js';
import { notFound } from './failures.js';
import { getModel, isId } from './models.js';
import { addVersion, HAS_QUANTIZATION, versionPlace } from './release-filters.js';
import type { Rights } from './rights.js';

/** A release as every answer shows it. Sizes in bytes. */
export interface Release {
  readonly id: string;
  readonly model_id: string;
  readonly version: string;
  /** As it was written; null: none. */
  readonly quantization: string | null;
  readonly tag: string;
  /** Of its manifest; null: a draft. */
  readonly digest: Digest | null;
  readonly media_type: string | null;
  readonly artifact_type: string | null;
  readonly size_bytes: number;
  readonly status: 'draft' | 'published' | 'deprecated' | 'withdrawn';
  readonly release_notes: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly facts: Readonly<Record<string, unknown>> | null;
  readonly created_by: string;
  readonly created_at: Date;
  readonly updated_at: Date;
  /** The model's id, name and repository, as older clients call them. */
  readonly image_id: string;
  readonly image_name: string;
  readonly image_repository: RepositoryName;
}

export const RELEASE_COLUMNS = `r.id, r.model_id, r.version, r.quantization, r.tag, r.digest, r.media_type, r.artifact_type, r.size_bytes,
  r.status, r.release_notes, r.metadata, r.facts, r.created_by, r.created_at, r.updated_at,
  m.id as image_id, m.name as image_name, m.storage_path as image_repository`;

export interface ReleaseFilters extends ModelChoice {
  readonly quantization?: string | undefined;
  readonly version?: string | undefined;
  readonly environment?: string | undefined;
  readonly status?: string | undefined;
  readonly digest?: string | undefined;
  readonly q?: string | undefined;
}

const SORTS: Readonly<Record<string, Sort>> = {
  created_at: { expression: 'r.created_at', type: 'timestamptz' },
  updated_at: { expression: 'r.updated_at', type: 'timestamptz' },
  version: { expression: 'r.version_order', type: 'text' },
  size_bytes: { expression: 'r.size_bytes', type: 'bigint' },
  quantization: { expression: `lower(coalesce(r.quantization, ''))`, type: 'text' },
  status: { expression: 'r.status', type: 'text' },
};

/** What is looked through for a text, as the index has it. */
const TEXT = `((r.tag || E'\\n' || coalesce(r.release_notes, '')) collate "default")`;

/** At most one of each model. */
const RUNS_IN = `select d.release_id from deployments d where d.environment = ? and d.status = 'active'`;

/** A page of the releases that the caller may read. */
export async function listReleases(
  queries: Queries,
  rights: Rights,
  filters: ReleaseFilters,
  page: PageQuery,
  defaultSort = '-created_at',
): Promise<Page<Release>> {
  const models = await chooseModels(queries, rights, filters);
  const conditions = addModels(new Conditions(), 'r.model_id', models)
    .add(HAS_QUANTIZATION, filters.quantization)
    .add('r.status = ?', filters.status)
    .add('r.digest = ?', filters.digest)
    .add(`${TEXT} ilike ?`, filters.q === undefined ? undefined : containing(filters.q));
  addVersion(conditions, versionPlace(filters.version), models);
  addFew(conditions, 'r.id', RUNS_IN, filters.environment, 'd.model_id', models);
  return await readPage<Release>(queries, page, {
    columns: RELEASE_COLUMNS,
    from: 'releases r join models m on m.id = r.model_id',
    conditions,
    sorts: SORTS,
    defaultSort,
    id: 'r.id',
    idType: 'uuid',
  });
}

/** @throws 'NotFound', also if the caller may not read it */
export async function getRelease(
  queries: Queries,
  rights: Rights,
  id: string,
  lock: '' | 'for update of r' | 'for share of r' = '',
): Promise<Release> {
  const [row] = isId(id)
    ? await queries.query<Release>(
        `select ${RELEASE_COLUMNS} from releases r join models m on m.id = r.model_id where r.id = $1 ${lock}`,
        [id],
      )
    : [];
  if (!row || !rights.maySee(row.image_repository)) throw notFound('Release');
  return row;
}

/**
 * The newest release of a model by the order of versions, pre-releases last; of one quantization, if it is named. One that is
 * deprecated only if there is nothing else. @throws 'NotFound'
 */
export async function latestRelease(
  queries: Queries,
  rights: Rights,
  of: { readonly model: string; readonly quantization?: string | undefined },
): Promise<Release> {
  const model = await getModel(queries, rights, of.model);
  for (const status of ['published', 'deprecated']) {
    const values = of.quantization === undefined ? [model.id, status] : [model.id, status, of.quantization];
    const [row] = await queries.query<Release>(
      `select ${RELEASE_COLUMNS} from releases r join models m on m.id = r.model_id
        where r.model_id = $1 and r.status = $2
          ${of.quantization === undefined ? '' : `and lower(coalesce(r.quantization, '')) = lower($3)`}
        order by r.version_order desc, r.created_at desc, r.id limit 1`,
      values,
      // For this model: what is best for the average one would sort all releases of a large one.
      { prepare: false },
    );
    if (row) return row;
  }
  throw notFound('Release');
}

/** The exact bytes of a release's manifest. @throws 'NotFound' for a draft, or when it is gone; 'ManifestDamaged' */
export async function getReleaseManifest(
  queries: Queries,
  release: Release,
): Promise<{ readonly digest: Digest; readonly media_type: string; readonly payload: Buffer }> {
  const [row] = await queries.query<{ digest: Digest; media_type: string; payload: Buffer }>(
    `select f.digest, f.media_type, f.payload from manifests f join models m on m.repository_id = f.repository
      where m.id = $1 and f.digest = $2`,
    [release.model_id, release.digest],
  );
  if (!row) throw notFound('Manifest');
  return intact(row);
}

/** A cell of a model's matrix. */
export interface MatrixCell {
  readonly version: string;
  readonly quantization: string | null;
  readonly release_id: string;
  readonly status: Release['status'];
  readonly digest: Digest | null;
  readonly size_bytes: number;
  readonly created_at: Date;
  /** Where it is active now. */
  readonly environments: readonly string[];
}

/** What there is of a model: versions, the newest first, by quantizations, none last. */
export interface Matrix {
  readonly versions: readonly string[];
  readonly quantizations: readonly (string | null)[];
  readonly cells: readonly MatrixCell[];
}

/** Versions × quantizations, each spelled as its newest release spells it. */
export async function readMatrix(queries: Queries, model: string): Promise<Matrix> {
  const cells = await queries.query<MatrixCell>(
    `select r.version, r.quantization, r.id as release_id, r.status, r.digest, r.size_bytes, r.created_at,
            coalesce(d.environments, '[]') as environments
       from releases r
       left join (select release_id, json_agg(environment order by environment) as environments from deployments
                   where model_id = $1 and status = 'active' group by release_id) d on d.release_id = r.id
      where r.model_id = $1 order by r.version_order desc, r.created_at desc, r.id`,
    [model],
    { prepare: false },
  );
  const versions = firstSpellings(cells.map((cell) => cell.version));
  const labels = firstSpellings(cells.flatMap((cell) => cell.quantization ?? []));
  const quantizations = [...labels.values()].sort((one, other) => (one.toLowerCase() < other.toLowerCase() ? -1 : 1));
  return {
    versions: [...versions.values()],
    quantizations: cells.some((cell) => cell.quantization === null) ? [...quantizations, null] : quantizations,
    cells: cells.map((cell) => ({
      ...cell,
      version: versions.get(cell.version.toLowerCase()) ?? cell.version,
      quantization: cell.quantization && (labels.get(cell.quantization.toLowerCase()) ?? cell.quantization),
    })),
  };
}

function firstSpellings(texts: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const text of texts) if (!found.has(text.toLowerCase())) found.set(text.toLowerCase(), text);
  return found;
}
