import type { Digest } from '../../oci/digest.js';
import type { SegmentKey } from '../../storage/segment-store.js';
import { faultOf, makeBlob, ObjectTaken } from './bodies.js';
import type { RecordedSegment } from './lines.js';
import type { RebuildOptions } from './options.js';

const PAGE = 200;

/** Whether a link to the blob `d.digest` was the last that was written down of it somewhere, or a manifest needs it. */
export const WANTED = `(exists (select from rebuilt_things t where t.thing = 'link' and t.name = d.digest and t.digest is not null)
  or exists (select from rebuilt_needs n join rebuilt_things m
               on m.thing = 'manifest' and m.repository = n.repository and m.name = n.manifest and m.digest is not null
              where n.digest = d.digest))`;

interface Candidate {
  readonly size: number;
  /** Null: the blob was gone when this was written. */
  readonly segments: RecordedSegment[] | null;
  readonly at: string;
}

interface Row {
  readonly digest: Digest;
  /** The last first. */
  readonly candidates: Candidate[];
  readonly wanted: boolean;
  /** Of the blob that the database has. */
  readonly keys: { key: SegmentKey; length: number; bytes: string | null }[] | null;
  readonly known: boolean;
}

/**
 * Makes the blobs that records tell of, after a look for their objects. One that nobody links any more is not made, nor one
 * that the collector had removed. A blob that is there under keys whose objects have gone since, as compaction does, gets
 * the keys that were written down.
 */
export async function rebuildBlobs(options: RebuildOptions): Promise<void> {
  const { database, report, check } = options;
  for (let after = ''; ; ) {
    await check();
    const rows = await database.query<Row>(
      `select d.digest, d.candidates, ${WANTED} as wanted, b.digest is not null as known,
              (select json_agg(json_build_object('key', s.key, 'length', s.length, 'bytes', encode(s.bytes, 'base64')) order by s.position)
                 from segments s where s.body = b.body and s.position is not null) as keys
         from (select digest, json_agg(json_build_object('size', size, 'segments', segments, 'at', at)
                                       order by generation desc, id desc, segments is null) as candidates
                 from rebuilt_bodies where digest > $1 group by digest order by digest limit ${PAGE}) d
         left join blobs b on b.digest = d.digest order by d.digest`,
      [after],
    );
    for (const row of rows) await rebuildBlob(options, row);
    const last = rows.at(-1);
    if (!last) return;
    after = last.digest;
    report.progress(() => `blobs: ${report.counts.blobs.recorded} looked at`);
  }
}

async function rebuildBlob(options: RebuildOptions, row: Row): Promise<void> {
  const { database, store, report, dryRun } = options;
  const { digest, candidates, wanted, known, keys } = row;
  const count = report.counts.blobs;
  count.recorded += 1;
  const gone = candidates[0]?.segments === null;
  if (!known && (!wanted || gone)) {
    count.removed += 1;
    return;
  }
  const bodies = candidates.flatMap(({ segments, size, at }) => (segments ? [{ segments, size, at, digest }] : []));
  if (known && (await isAsItWas(options, row, bodies[0]?.segments))) {
    count.there += 1;
    return;
  }
  let fault: string | undefined;
  for (const body of bodies) {
    fault = await faultOf(store, body);
    if (fault !== undefined) continue;
    try {
      if (dryRun) await database.query('update rebuilt_bodies set whole = true where digest = $1', [digest]);
      else await database.transaction((transaction) => makeBlob(transaction, body));
      count.made += 1;
      if (known)
        report.notes.push(`${digest} has the objects that were written down, instead of ${keysOf(keys ?? [])}`);
      return;
    } catch (error) {
      if (!(error instanceof ObjectTaken)) throw error;
      fault = error.message;
    }
  }
  // One that is wanted is looked for among what has no record, too.
  if (wanted) report.reasons.set(digest, fault ?? 'nothing tells where its bytes are');
  else report.fault(`blob ${digest}: ${fault ?? 'its objects are gone'}`);
}

/** Whether the blob that is there has the objects that were written down last, or others that can be read. */
async function isAsItWas({ store }: RebuildOptions, row: Row, last: RecordedSegment[] | undefined): Promise<boolean> {
  const segments = (row.keys ?? []).map((segment) => ({ ...segment, objectSize: null }));
  if (last && keysOf(last) === keysOf(segments)) return true;
  return (await faultOf(store, { digest: row.digest, segments })) === undefined;
}

function keysOf(segments: readonly { readonly key: SegmentKey }[]): string {
  return segments.map(({ key }) => key).join(' ');
}
