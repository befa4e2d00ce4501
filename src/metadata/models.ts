import type { Queries } from '../database/connect.js';
import { Conditions, containing, type Page, type PageQuery, readPage, type Sort } from '../database/pages.js';
import type { RepositoryName } from '../oci/name.js';
import { type ParameterRange, parseParameterRange } from '../weights/parameters.js';
import { conflict, invalid, notFound } from './failures.js';
import { addModels } from './chosen-models.js';
import { HAS_QUANTIZATION, HAS_VERSION, versionPlace } from './release-filters.js';
import type { Rights } from './rights.js';
import { visibleModels } from './visible.js';

/** What becomes of a model's releases whatever policies say, as `policies` understands it. */
export type ModelRetention = Readonly<Record<string, unknown>>;

/** A model as every answer shows it. */
export interface Model {
  readonly id: string;
  readonly name: string;
  /** The repository that holds the weights. */
  readonly storage_path: RepositoryName;
  /** As older clients call it. */
  readonly repository: string;
  readonly company: string | null;
  readonly base_model: string | null;
  readonly parameter_count: number | null;
  readonly description: string | null;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly immutable: boolean;
  /** Null: policies say it. */
  readonly retention: ModelRetention | null;
  readonly created_by: string;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** What a caller writes of a model; absent: not said. */
export interface ModelInput {
  readonly name?: string;
  readonly storage_path?: string;
  readonly repository?: string | null;
  readonly company?: string | null;
  readonly base_model?: string | null;
  readonly parameter_count?: number | string | null;
  readonly description?: string | null;
  readonly tags?: readonly string[];
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly immutable?: boolean;
  readonly retention?: ModelRetention | null;
}

export interface ModelFilters {
  readonly name?: string | undefined;
  readonly company?: string | undefined;
  readonly base_model?: string | undefined;
  /** `7B`, `>=7000000000`, `7B..13B` (weights/parameters.ts). */
  readonly parameter_count?: string | undefined;
  readonly quantization?: string | undefined;
  readonly version?: string | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly environment?: string | undefined;
  readonly status?: string | undefined;
  readonly q?: string | undefined;
}

export const MODEL_COLUMNS = `m.id, m.name, m.storage_path, coalesce(m.repository, m.storage_path) as repository, m.company, m.base_model,
  m.parameter_count, m.description, m.tags, m.metadata, m.immutable, m.retention, m.created_by, m.created_at, m.updated_at`;

const SORTS: Readonly<Record<string, Sort>> = {
  name: { expression: 'm.name', type: 'text' },
  created_at: { expression: 'm.created_at', type: 'timestamptz' },
  updated_at: { expression: 'm.updated_at', type: 'timestamptz' },
  company: { expression: `coalesce(m.company, '')`, type: 'text' },
  base_model: { expression: `coalesce(m.base_model, '')`, type: 'text' },
  parameter_count: { expression: 'coalesce(m.parameter_count, -1)', type: 'bigint' },
};

/** What is looked through for a text, as the index has it. */
const TEXT = `((m.name || E'\\n' || m.storage_path || E'\\n' || coalesce(m.company, '') || E'\\n' || coalesce(m.base_model, '') || E'\\n' ||
  coalesce(m.description, '')) collate "default")`;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Whether a text can be the id of something; names that can are refused, so that a path is never read two ways. */
export function isId(text: string): boolean {
  return UUID.test(text);
}

/** A page of the models that the caller may read. */
export async function listModels(
  queries: Queries,
  rights: Rights,
  filters: ModelFilters,
  page: PageQuery,
): Promise<Page<Model>> {
  const conditions = addModels(new Conditions(), 'm.id', await visibleModels(queries, rights)).add(
    'm.name = ?',
    filters.name,
  );
  addModelFilters(conditions, filters)
    .add(`exists (select from releases r where r.model_id = m.id and ${HAS_QUANTIZATION})`, filters.quantization)
    .add(`exists (select from releases r where r.model_id = m.id and ${HAS_VERSION})`, versionPlace(filters.version))
    .add('exists (select from releases r where r.model_id = m.id and r.status = ?)', filters.status)
    .add(
      `exists (select from deployments d where d.model_id = m.id and d.environment = ? and d.status = 'active')`,
      filters.environment,
    )
    .add(`${TEXT} ilike ?`, filters.q === undefined ? undefined : containing(filters.q));
  return await readPage<Model>(queries, page, {
    columns: MODEL_COLUMNS,
    from: 'models m',
    conditions,
    sorts: SORTS,
    defaultSort: '-created_at',
    id: 'm.id',
    idType: 'uuid',
  });
}

/** Those of a model itself, which lists of releases and deployments know as well. */
export function addModelFilters(
  conditions: Conditions,
  filters: Pick<ModelFilters, 'company' | 'base_model' | 'parameter_count' | 'tags'>,
): Conditions {
  const range = filters.parameter_count === undefined ? {} : rangeOf(filters.parameter_count);
  // As the index has it; a model of which nothing is said is in no range.
  const count = 'coalesce(m.parameter_count, -1)';
  return conditions
    .add(`coalesce(m.company, '') = ?`, filters.company)
    .add(`coalesce(m.base_model, '') = ?`, filters.base_model)
    .add(`${count} >= ?`, range.min ?? (range.max === undefined ? undefined : 0))
    .add(`${count} <= ?`, range.max)
    .add('m.tags @> ?::jsonb', filters.tags === undefined ? undefined : JSON.stringify(filters.tags));
}

function rangeOf(text: string): ParameterRange {
  const range = parseParameterRange(text);
  if (range) return range;
  throw invalid({
    loc: ['query', 'parameter_count'],
    msg: 'no model is in this range: must be a number such as 7B, one behind >=, <=, > or <, or a range such as 7B..13B',
    type: 'value_error',
  });
}

/** The model of an id or a name. @throws 'NotFound', also if the caller may not read it */
export async function getModel(queries: Queries, rights: Rights, idOrName: string): Promise<Model> {
  const [row] = await queries.query<Model>(
    isId(idOrName)
      ? `select ${MODEL_COLUMNS} from models m where m.id = $1`
      : `select ${MODEL_COLUMNS} from models m where m.name = $1`,
    [idOrName],
  );
  if (!row || !rights.maySee(row.storage_path)) throw notFound('Model');
  return row;
}

/**
 * A model as it is now, which nobody else changes until the transaction ends. What the caller may do was decided, and the
 * repository held, by where it was seen. @throws 'NotFound', or 'Conflict' if it has another repository since
 */
export async function lockModel(
  transaction: Queries,
  seen: Model,
  strength: 'no key update' | 'update' = 'no key update',
): Promise<Model> {
  const [row] = await transaction.query<Model>(
    `select ${MODEL_COLUMNS} from models m where m.id = $1 for ${strength}`,
    [seen.id],
  );
  if (!row) throw notFound('Model');
  if (row.storage_path !== seen.storage_path) throw conflict('The model was given another repository meanwhile');
  return row;
}
