import type { Queries } from '../database/connect.js';
import { Conditions, type Page, type PageQuery, readPage } from '../database/pages.js';
import type { RepositoryName } from '../oci/name.js';

/** What was changed of a model and in its repository: the record but for blobs and reads, without where it was done from. */
export interface ModelEvent {
  readonly id: number;
  readonly actor: string;
  readonly actor_name: string;
  readonly action: string;
  readonly resource_type: string;
  readonly resource_id: string;
  readonly repository: RepositoryName;
  readonly details: Readonly<Record<string, unknown>>;
  readonly request_id: string;
  readonly created_at: Date;
}

/** A page of what was changed in a repository, the newest first. */
export async function listEvents(
  queries: Queries,
  repository: RepositoryName,
  page: PageQuery,
): Promise<Page<ModelEvent>> {
  return await readPage<ModelEvent>(queries, page, {
    columns:
      'l.id, l.actor, l.actor_name, l.action, l.resource_type, l.resource_id, l.repository, l.details, l.request_id, l.created_at',
    from: 'audit_logs l',
    // Blobs come before the manifest that tells of them; who pulled is no change, and for admins alone. As the index says it.
    conditions: new Conditions()
      .add('l.repository = ?', repository)
      .say(`l.resource_type <> 'blob'`)
      .say(`l.action <> 'manifest.pull'`),
    sorts: { created_at: { expression: 'l.created_at', type: 'timestamptz' } },
    defaultSort: '-created_at',
    id: 'l.id',
    idType: 'bigint',
  });
}
