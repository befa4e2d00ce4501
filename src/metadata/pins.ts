import { IS_LIVE } from './live.js';

/**
 * Whether the metadata holds a manifest `m`, as a condition of SQL: a release is it that was not withdrawn (any of an immutable
 * model), or a live deployment pins it (pending, active, or where a rollback leads).
 */
export const PINNED = `(
  exists (select from models p join releases r on r.model_id = p.id
           where p.repository_id = m.repository and r.digest = m.digest
             and (r.status <> 'withdrawn' or p.immutable))
  or exists (select from models p join deployments d on d.model_id = p.id
              where p.repository_id = m.repository and d.digest = m.digest and ${IS_LIVE}))`;
