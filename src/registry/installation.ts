import { randomUUID } from 'node:crypto';
import type { Queries } from '../database/connect.js';
import type { SegmentStore } from '../storage/segment-store.js';

/**
 * Makes sure that this database and this store belong together: both carry one marker. Two that never met are introduced
 * if the store is empty and the database knows of no bytes.
 * @throws Error that says which of the two is the stranger.
 */
export async function checkMarkers(queries: Queries, store: SegmentStore): Promise<void> {
  await queries.query('insert into installation (id) values ($1) on conflict do nothing', [randomUUID()]);
  const [row] = await queries.query<{ id: string; bytes: boolean }>(
    'select id, exists (select from segments) as bytes from installation',
  );
  if (!row) throw new Error('the database has no marker');
  const marker = await store.readMarker();
  if (marker === row.id) return;
  if (marker !== undefined) {
    throw new Error(`the storage belongs to another database (its marker is ${marker}, the database's is ${row.id})`);
  }
  if (row.bytes) throw new Error('the database knows of blobs, but the storage is a new one: is it mounted?');
  await store.mark(row.id);
}
