import { randomUUID } from 'node:crypto';
import type { Queries } from '../database/connect.js';
import { isFailure, RegistryError } from '../errors.js';
import type { SegmentStore } from '../storage/segment-store.js';

/** What the database knows of its store (decision 0019). */
export interface Installation {
  /** The marker. */
  readonly id: string;
  /** The beacon that stands in the store which its nodes share; null before the first start. */
  readonly beacon: string | null;
}

/** Who starts puts up another beacon when the last one is as old as this. */
const BEACON_AGE = '1 hour';

const ADVICE = 'If this storage is the right one all the same, stop all nodes and run: weighhouse adopt';

/**
 * Makes sure that this database and this store belong together, and that the store is the one which its other nodes use.
 * A store and a database that never met any are introduced to each other.
 * @throws Error that says which of them is the stranger.
 */
export async function checkMarkers(queries: Queries, store: SegmentStore): Promise<void> {
  await queries.query('insert into installation (id) values ($1) on conflict do nothing', [randomUUID()]);
  await requireMarker(queries, store);
  await shareBeacon(queries, store);
}

/**
 * Makes this store the database's, also where it has known another one: a restored copy, or an empty one after all was
 * lost. Nodes that use another one are refused from now on.
 * @throws Error if it belongs to another database, or holds anything without a marker.
 */
export async function adoptStore(queries: Queries, store: SegmentStore): Promise<void> {
  await queries.query('insert into installation (id) values ($1) on conflict do nothing', [randomUUID()]);
  const { id } = await installationOf(queries);
  await markIfBare(id, store, await store.readMarker());
  const beacon = randomUUID();
  await store.putBeacon(beacon);
  await queries.query('update installation set beacon = $1, beacon_at = now()', [beacon]);
}

/**
 * Makes the database that of a store whose own is lost: one that never held anything takes the store's marker.
 * @param write whether to; otherwise it is only looked whether it could
 * @throws Error if the store has no marker, or the database holds things of another one
 */
export async function adoptDatabase(queries: Queries, store: SegmentStore, write: boolean): Promise<void> {
  const marker = await store.readMarker();
  if (marker === undefined)
    throw new Error('this storage has no marker of Weighhouse: there is nothing to rebuild from');
  const [row] = await queries.query<{ id: string | null; used: boolean }>(
    `select (select id from installation) as id, exists (select from segments) or exists (select from blobs)
              or exists (select from repositories) or exists (select beacon from installation where beacon is not null) as used`,
  );
  const id = row?.id ?? null;
  if (id !== marker && row?.used) throw strangeStore(marker, String(id));
  if (!write) return;
  if (id === null) await queries.query('insert into installation (id) values ($1) on conflict do nothing', [marker]);
  else if (id !== marker) await queries.query('update installation set id = $2 where id = $1', [id, marker]);
  await adoptStore(queries, store);
}

/**
 * Makes sure, before anything that the store does not find is given up, that it is still this database's: what an
 * unmounted folder does not hold is not lost.
 * @throws 'Unavailable' if the store carries no marker or another database's, or is not the one of the other nodes.
 */
export async function requireOwnStore(queries: Queries, store: SegmentStore): Promise<void> {
  await requireStoreOf(await installationOf(queries), store);
}

/** The same for what the database was known to say. @throws 'Unavailable' */
export async function requireStoreOf({ id, beacon }: Installation, store: SegmentStore): Promise<void> {
  const marker = await store.readMarker();
  let cause: Error | undefined;
  if (marker === undefined) cause = new Error('the storage has no marker: is it mounted?');
  else if (marker !== id) cause = strangeStore(marker, id);
  else if (beacon !== null && !(await store.hasBeacon(beacon))) cause = new Error('other nodes use another storage');
  if (cause) throw new RegistryError('Unavailable', 'the storage is not available', { cause });
}

/** @throws Error if the database was never used by a registry */
export async function installationOf(queries: Queries): Promise<Installation> {
  const [row] = await queries.query<Installation>('select id, beacon from installation');
  if (!row) throw new Error('the database has no marker');
  return row;
}

/** Makes sure that both carry one marker. */
async function requireMarker(queries: Queries, store: SegmentStore): Promise<void> {
  const [row] = await queries.query<{ id: string; bytes: boolean; known: boolean }>(
    `select id, exists (select from segments) as bytes, beacon is not null as known from installation`,
  );
  if (!row) throw new Error('the database has no marker');
  const marker = await store.readMarker();
  if (marker === undefined && (row.bytes || row.known))
    throw new Error(
      `the database ${row.bytes ? 'knows of blobs' : 'has a storage'}, but this storage is a new one: is it mounted? ${ADVICE}`,
    );
  await markIfBare(row.id, store, marker);
}

/** Marks a store that was found with `marker`, if there was none. @throws Error if it is a stranger's. */
async function markIfBare(id: string, store: SegmentStore, marker: string | undefined): Promise<void> {
  if (marker === id) return;
  if (marker !== undefined) throw strangeStore(marker, id);
  const marking = store.mark(id);
  await marking.catch(() => undefined);
  // Another process may have marked it meanwhile, for this database or another one: what stands there now decides.
  const written = await store.readMarker();
  if (written === id) return;
  if (written !== undefined) throw strangeStore(written, id);
  await marking;
  throw new Error('the marker that was written to the storage is not there');
}

/**
 * Makes sure that the last beacon stands in this store, and puts up another one now and then, which copies of the store
 * lack. The beacon is durable before its name is committed; of several who put one up at once, one is named, and the
 * others look for that.
 */
async function shareBeacon(queries: Queries, store: SegmentStore): Promise<void> {
  for (;;) {
    const [row] = await queries.query<{ beacon: string | null; old: boolean }>(
      `select beacon, coalesce(beacon_at < now() - interval '${BEACON_AGE}', true) as old from installation`,
    );
    const known = row?.beacon ?? null;
    if (known !== null && !(await store.hasBeacon(known)))
      throw new Error(
        `this storage is not the one that the nodes of this database used last (it lacks weighhouse.beacons/${known}): is it a copy, or another node's own? ${ADVICE}`,
      );
    if (known !== null && row?.old === false) return;
    const beacon = randomUUID();
    try {
      await store.putBeacon(beacon);
    } catch (error) {
      // What is there can be read, and room can be made, by a registry that runs.
      if (known !== null && isFailure(error, 'StorageFull')) return;
      throw error;
    }
    const named = await queries.query(
      'update installation set beacon = $2, beacon_at = now() where beacon is not distinct from $1 returning id',
      [known, beacon],
    );
    if (named.length > 0) return;
  }
}

function strangeStore(marker: string, wanted: string): Error {
  return new Error(`the storage belongs to another database (its marker is ${marker}, the database's is ${wanted})`);
}
