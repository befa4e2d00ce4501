import type { Queries } from '../database/connect.js';
import { addModelFilters, isId, type ModelFilters } from './models.js';
import { Conditions } from '../database/pages.js';
import type { Rights } from './rights.js';
import { visibleModels } from './visible.js';

/** What narrows a list of releases, deployments or artifacts to some models. */
export interface ModelChoice extends Pick<ModelFilters, 'company' | 'base_model' | 'parameter_count' | 'tags'> {
  /** An id or a name. */
  readonly model?: string | undefined;
}

/** The models that a list is narrowed to; undefined: it is not. */
export type ChosenModels = readonly string[] | undefined;

/**
 * More than these are not weighed one by one, which takes PostgreSQL longer than the list (6 ms for 500): it reads in order, and of so
 * many models a page is soon full.
 */
const WEIGHED = 100;

/** Whether a list is narrowed to so few models that what they have of something is best looked up. */
export function areFew(models: ChosenModels): models is readonly string[] {
  return models !== undefined && models.length <= WEIGHED;
}

/** Narrows to rows of these models. */
export function addModels(conditions: Conditions, column: string, models: ChosenModels): Conditions {
  // With one value, an index by model has the order of what comes behind it.
  if (models?.length === 1) return conditions.add(`${column} = ?::uuid`, models[0]);
  const isOne = `${column} = any(?::uuid[])`;
  return conditions.add(areFew(models) ? isOne : `case when ${isOne} then true end`, models);
}

/**
 * Narrows to the rows that `select` finds, of these models if they are few. They are few and looked up beforehand: that a
 * model has few of its rows in common with others is not to be seen from what PostgreSQL knows of each column.
 * @param select with `?` for the value, up to its last condition; nothing is added for undefined
 */
export function addFew(
  conditions: Conditions,
  id: string,
  select: string,
  value: unknown,
  model: string,
  models: ChosenModels,
): Conditions {
  if (value === undefined) return conditions;
  const of = areFew(models) && ` and ${model} = any(${conditions.place(models)}::uuid[])`;
  return conditions.add(`${id} = any(array(${select}${of || ''}))`, value);
}

/**
 * The models that are asked for and that the caller may read. Their ids are looked up beforehand, in one statement: PostgreSQL
 * then knows of each whether it has ten releases or ten thousand, where a join would go by the average.
 * @throws 'Invalid' for a parameter count that is no range
 */
export async function chooseModels(queries: Queries, rights: Rights, choice: ModelChoice): Promise<ChosenModels> {
  const wanted = addModelFilters(new Conditions(), choice);
  if (choice.model !== undefined) wanted.add(isId(choice.model) ? 'm.id = ?::uuid' : 'm.name = ?', choice.model);
  if (wanted.values.length === 0) return await visibleModels(queries, rights);
  const rows = await queries.query<{ id: string; storage_path: string }>(
    `select m.id, m.storage_path from models m where ${wanted.text}`,
    wanted.values,
    { prepare: false },
  );
  return rows.filter((row) => rights.seesAll || rights.maySee(row.storage_path)).map((row) => row.id);
}
