import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { Release } from './releases.js';

/** A file of a release. */
export interface ComparedFile {
  readonly path: string;
  readonly digest: Digest;
  readonly size_bytes: number;
  readonly media_type: string;
}

/** What differs between two releases. Sizes in bytes. */
export interface Comparison {
  readonly from: Release;
  readonly to: Release;
  readonly added: readonly ComparedFile[];
  readonly removed: readonly ComparedFile[];
  readonly changed: readonly { readonly path: string; readonly from: ComparedFile; readonly to: ComparedFile }[];
  readonly unchanged: number;
  /** Of blobs that both have, under whatever path: what needs no second transfer. */
  readonly bytes_shared: number;
  /** Of blobs that only `to` has, and only `from`. */
  readonly bytes_added: number;
  readonly bytes_removed: number;
}

/** Compares the files of two releases by path and digest. */
export async function compareReleases(queries: Queries, from: Release, to: Release): Promise<Comparison> {
  const before = await filesOfRelease(queries, from.id);
  const after = await filesOfRelease(queries, to.id);
  const added = [...after.values()].filter((file) => !before.has(file.path));
  const removed = [...before.values()].filter((file) => !after.has(file.path));
  const changed = [...after.values()].flatMap((file) => {
    const former = before.get(file.path);
    return former && former.digest !== file.digest ? [{ path: file.path, from: former, to: file }] : [];
  });
  const ofBefore = blobsOf(before);
  const ofAfter = blobsOf(after);
  return {
    from,
    to,
    added,
    removed,
    changed,
    unchanged: after.size - added.length - changed.length,
    bytes_shared: sum(ofAfter, (digest) => ofBefore.has(digest)),
    bytes_added: sum(ofAfter, (digest) => !ofBefore.has(digest)),
    bytes_removed: sum(ofBefore, (digest) => !ofAfter.has(digest)),
  };
}

/** By path; a file without one goes by its name, and a second one of the same by its place, too. */
async function filesOfRelease(queries: Queries, release: string): Promise<Map<string, ComparedFile>> {
  const rows = await queries.query<ComparedFile>(
    `select coalesce(path, name) as path, digest, size_bytes, media_type from artifacts
      where release_id = $1 and kind = 'layer' order by position, id`,
    [release],
  );
  const files = new Map<string, ComparedFile>();
  const last = new Map<string, number>();
  for (const row of rows) {
    let path = row.path;
    let nth = last.get(row.path) ?? 1;
    while (files.has(path)) path = `${row.path} (${++nth})`;
    last.set(row.path, nth);
    files.set(path, { ...row, path });
  }
  return files;
}

function blobsOf(files: ReadonlyMap<string, ComparedFile>): Map<Digest, number> {
  return new Map([...files.values()].map((file) => [file.digest, file.size_bytes]));
}

function sum(blobs: ReadonlyMap<Digest, number>, counts: (digest: Digest) => boolean): number {
  let total = 0;
  for (const [digest, size] of blobs) if (counts(digest)) total = Math.min(total + size, Number.MAX_SAFE_INTEGER);
  return total;
}
