// What it costs to make one object of two: through the registry's code, hashed, or copied inside the gateway by
// UploadPartCopy, unhashed or read once for its hash. Starts a Ceph of its own.
//   npm run bench:compaction -- [--mib 512] [--rounds 3]
import { createHash, randomBytes } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { RunningDigest } from '../../dist/src/oci/digest.js';
import { readBody } from '../../dist/src/registry/bodies.js';
import { openClients } from '../../dist/src/storage/s3/client.js';
import { newSegmentKey } from '../../dist/src/storage/segment-store.js';
import { openStore, placeIn } from '../../dist/test/ceph/support/bucket.js';
import { Ceph } from '../../dist/test/ceph/support/ceph.js';

const { values } = parseArgs({ options: { mib: { type: 'string' }, rounds: { type: 'string' } } });
const MiB = 1024 * 1024;
const size = Number(values.mib ?? 512) * MiB;
const rounds = Number(values.rounds ?? 3);
const PART = 16 * MiB;
const TICKS_PER_SECOND = 100;

const ceph = await Ceph.start();
try {
  const place = placeIn(ceph);
  const { store } = openStore(place);
  const { client } = openClients(place);
  const key = () => newSegmentKey('00000000-0000-4000-8000-000000000000', 0);
  const never = new AbortController().signal;
  const silent = { passed: () => {}, boundary: () => {}, durable: async () => {} };

  async function put(bytes, length, progress = silent) {
    const made = key();
    const open = await store.begin(made, length);
    await open.write(bytes, never, progress);
    await open.seal(async () => {});
    await open.close();
    return made;
  }

  const piece = randomBytes(MiB);
  async function* some(length) {
    for (let at = 0; at < length; at += MiB) yield piece;
  }
  const half = size / 2;
  const segments = [await put(some(half), half), await put(some(half), half)].map((made) => ({
    key: made,
    length: half,
  }));

  async function through() {
    const digest = new RunningDigest('sha256');
    const made = await put(readBody(store, segments, { start: 0, end: size }), size, {
      ...silent,
      passed: (bytes) => digest.update(bytes),
    });
    digest.digest();
    return made;
  }

  async function copy() {
    const made = key();
    const at = { Bucket: place.bucket, Key: place.prefix + made };
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(at));
    const ranges = segments.flatMap((segment) =>
      Array.from({ length: half / PART }, (_, index) => ({ segment, start: index * PART })),
    );
    const parts = [];
    const next = ranges.entries();
    await Promise.all(
      [1, 2, 3, 4].map(async () => {
        for (const [index, { segment, start }] of next) {
          const { CopyPartResult } = await client.send(
            new UploadPartCopyCommand({
              ...at,
              UploadId,
              PartNumber: index + 1,
              CopySource: `${place.bucket}/${place.prefix}${segment.key}`,
              CopySourceRange: `bytes=${start}-${start + PART - 1}`,
            }),
          );
          parts[index] = { PartNumber: index + 1, ETag: CopyPartResult.ETag };
        }
      }),
    );
    await client.send(new CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload: { Parts: parts } }));
    return made;
  }

  async function copyAndRead() {
    const made = await copy();
    const hash = createHash('sha256');
    for await (const bytes of await store.open(made, { start: 0, end: size })) hash.update(bytes);
    hash.digest();
    return made;
  }

  /** CPU of Ceph's processes so far, in seconds. */
  async function cephSeconds() {
    const folder = join(ceph.folder, 'run');
    let ticks = 0;
    for (const name of (await readdir(folder)).filter((file) => file.endsWith('.pid'))) {
      const pid = (await readFile(join(folder, name), 'utf8')).trim();
      const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ');
      ticks += Number(fields[11]) + Number(fields[12]);
    }
    return ticks / TICKS_PER_SECOND;
  }

  const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
  for (const [name, work] of Object.entries({ through, copy, copyAndRead })) {
    const found = [];
    for (let round = 0; round < rounds; round++) {
      const [own, theirs, begun] = [process.cpuUsage(), await cephSeconds(), performance.now()];
      const made = await work();
      const seconds = (performance.now() - begun) / 1000;
      const { user, system } = process.cpuUsage(own);
      found.push({ seconds, own: (user + system) / 1e6, ceph: (await cephSeconds()) - theirs });
      await store.remove(made);
    }
    const gib = size / 1024 / MiB;
    const of = (field) => median(found.map((one) => one[field]));
    console.log(
      `${name}: ${(size / MiB / of('seconds')).toFixed(0)} MiB/s; CPU a GiB: ${(of('own') / gib).toFixed(2)} s here, ${(of('ceph') / gib).toFixed(2)} s Ceph`,
    );
  }
  client.destroy();
  store.close();
} finally {
  await ceph.wipe();
}
