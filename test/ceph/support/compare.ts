import { S3Bucket } from '../../../src/storage/s3/bucket.js';
import type { S3Options } from '../../../src/storage/s3/client.js';
import { findSegmentKey } from '../../../src/storage/segment-store.js';
import { ask } from '../../faults/support/oracle.js';

/** What a bucket holds below a place, and what rows name; the marker and the records beside the bytes don't count. */
export async function compare(url: string, place: S3Options) {
  const bucket = new S3Bucket(place);
  const objects = new Set<string>();
  const uploads: string[] = [];
  for await (const name of bucket.names('')) if (findSegmentKey(name)) objects.add(name);
  for await (const { name } of bucket.uploads('')) uploads.push(name);
  bucket.close();
  const named = await ask<{ key: string; length: number; blob: boolean }>(
    url,
    `select s.key, s.length::float8, exists (select from blobs b where b.body = s.body) as blob
       from segments s where s.bytes is null`,
  );
  const removals = (await ask<{ key: string }>(url, 'select key from removals')).map(({ key }) => key);
  const known = new Set([...named.map(({ key }) => key), ...removals]);
  const held = new Set([...objects, ...uploads]);
  return {
    /** Keys of objects and of multipart uploads that no row names. */
    unnamed: [...held].filter((key) => !known.has(key)),
    /** Segments with bytes of which there is neither. */
    lost: named.filter(({ key, length }) => length > 0 && !held.has(key)),
    objects,
    /** The key of each multipart upload. */
    uploads,
    ofBlobs: named.filter(({ blob }) => blob).map(({ key }) => key),
    removals,
  };
}
