// What a gateway leaves that dies when it has published an object and not yet dropped its upload: both, sharing their bytes.
import { createHash } from 'node:crypto';
import { S3Bucket } from '../../../src/storage/s3/bucket.js';
import type { S3Options } from '../../../src/storage/s3/client.js';
import type { SegmentKey } from '../../../src/storage/segment-store.js';
import type { Ceph } from './ceph.js';
import type { Gateway } from './gateway.js';

/** So many objects are completed together: a kill hits some of them in the moment between the two steps. */
export const AT_ONCE = 8;

/** Keys of which there is an object, and an upload that has parts. */
export async function leftovers(place: S3Options): Promise<string[]> {
  const bucket = new S3Bucket(place);
  const found: string[] = [];
  for await (const { name, upload } of bucket.uploads('')) {
    const parts = await bucket.listParts(name, upload);
    if (parts?.length && (await bucket.find(name))) found.push(name);
  }
  bucket.close();
  return found;
}

/** Holds the next Completes until there are `AT_ONCE`, lets them go, kills the gateway at the first object, and starts it again. */
export async function dieOverObjects(ceph: Ceph, gateway: Gateway, place: S3Options): Promise<void> {
  const pid = await ceph.pid('client.rgw');
  let waiting = 0;
  let [arrive, release] = [() => {}, () => {}];
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  gateway.fate = async ({ operation }) => {
    if (operation === 'Complete' && ++waiting === AT_ONCE) arrive();
    if (operation === 'Complete') await released;
    return 'pass' as const;
  };
  await arrived;
  const bucket = new S3Bucket(place);
  const begun: string[] = [];
  for await (const { name } of bucket.uploads('')) begun.push(name);
  const isPublished = async () => (await Promise.all(begun.map((name) => bucket.find(name)))).some(Boolean);
  release();
  while (!(await isPublished()));
  process.kill(pid, 'SIGKILL');
  bucket.close();
  gateway.fate = () => 'pass';
  await ceph.up();
}

/** The same to see, made by hand: an upload with a part beside the object. */
export async function leaveUpload(place: S3Options, key: SegmentKey): Promise<void> {
  const bucket = new S3Bucket(place);
  const part = Buffer.alloc(1_000, 'a part');
  const md5 = createHash('md5').update(part).digest('base64');
  await bucket.putPart(key, await bucket.begin(key), 1, part, md5, AbortSignal.timeout(60_000));
  bucket.close();
}
