import { randomUUID } from 'node:crypto';
import type { Queries } from '../database/connect.js';
import { RegistryError } from '../errors.js';
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
  if (marker !== undefined) throw strangeStore(marker, row.id);
  if (row.bytes) throw new Error('the database knows of blobs, but the storage is a new one: is it mounted?');
  const marking = store.mark(row.id);
  await marking.catch(() => undefined);
  // Another process may have marked it meanwhile, for this database or another one: what stands there now decides.
  const written = await store.readMarker();
  if (written === row.id) return;
  if (written !== undefined) throw strangeStore(written, row.id);
  await marking;
  throw new Error('the marker that was written to the storage is not there');
}

/**
 * Makes sure, before anything that the store does not find is given up, that it is still this database's: what an
 * unmounted folder does not hold is not lost.
 * @throws 'Unavailable' if the store carries no marker or another database's.
 */
export async function requireOwnStore(queries: Queries, store: SegmentStore): Promise<void> {
  const marker = await store.readMarker();
  const [row] = await queries.query<{ id: string }>('select id from installation');
  if (row && marker === row.id) return;
  const cause =
    marker === undefined ? new Error('the storage has no marker: is it mounted?') : strangeStore(marker, row?.id);
  throw new RegistryError('Unavailable', 'the storage is not available', { cause });
}

/** The marker that the store of this database carries. @throws 'Unavailable' */
export async function markerOf(queries: Queries): Promise<string> {
  const [row] = await queries.query<{ id: string }>('select id from installation');
  if (!row) throw new Error('the database has no marker');
  return row.id;
}

function strangeStore(marker: string, wanted: string | undefined): Error {
  return new Error(`the storage belongs to another database (its marker is ${marker}, the database's is ${wanted})`);
}
