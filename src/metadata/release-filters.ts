import { versionOrder } from '../weights/version.js';
import { addFew, areFew, type ChosenModels } from './chosen-models.js';
import type { Conditions } from '../database/pages.js';

/** That a release r has this quantization, in the expression of the indexes. */
export const HAS_QUANTIZATION = `lower(coalesce(r.quantization, '')) = lower(?)`;

/** That it has this version: the value is `versionPlace`, which no two versions share that differ in more than case. */
export const HAS_VERSION = 'r.version_order = ?';

/** What `HAS_VERSION` compares with. */
export function versionPlace(version: string | undefined): string | undefined {
  return version === undefined ? undefined : versionOrder(version);
}

/** Narrows a list of releases r, or of what has one, to a version: few models have few of it, all may have many. */
export function addVersion(conditions: Conditions, place: string | undefined, models: ChosenModels): Conditions {
  return areFew(models)
    ? addFew(conditions, 'r.id', 'select v.id from releases v where v.version_order = ?', place, 'v.model_id', models)
    : conditions.add(HAS_VERSION, place);
}
