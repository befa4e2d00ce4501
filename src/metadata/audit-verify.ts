import type { Queries } from '../database/connect.js';
import { MICROSECONDS, type SealFacts, SealHash, sealedTexts } from './seal-text.js';

/** What the record came to when it was gone through. */
export interface Verified {
  /** Rows and seals that agree: all of them, or those before the fault. */
  readonly rows: number;
  readonly seals: number;
  /** The last seal's hash, in hexadecimal; undefined: there is no seal. */
  readonly head: string | undefined;
  /** Rows that no seal covers yet. */
  readonly unsealed: number;
  /** What is wrong first, in words. */
  readonly fault: string | undefined;
}

export interface VerifyOptions {
  /** A hash that was noted earlier, in hexadecimal, and must be that of a seal. */
  readonly head?: string | undefined;
  /** After how many seconds a row without a seal is a fault. */
  readonly unsealedSeconds: number;
}

interface Seal extends SealFacts {
  readonly hash: Buffer;
}

interface Extent {
  readonly lastId: number;
  readonly unsealed: number;
  readonly overdue: number | null;
}

const SEALS_PAGE = 1_000;
const NO_ID = Number.MIN_SAFE_INTEGER;

/**
 * Goes through the record from its beginning, row by row in constant memory, while others write to it: what was sealed
 * when it begins is compared with its seals, each with the one before it.
 */
export async function verifyAudit(queries: Queries, { head, unsealedSeconds }: VerifyOptions): Promise<Verified> {
  const extent = await extentOf(queries, unsealedSeconds);
  const texts = sealedTexts(queries, NO_ID, extent.lastId);
  let next = await texts.next();
  let found = head === undefined;
  let former: Seal | undefined;
  const done = { rows: 0, seals: 0 };
  const result = (fault: string | undefined): Verified => {
    return { ...done, head: former?.hash.toString('hex'), unsealed: extent.unsealed, fault };
  };
  for await (const seal of sealsUpTo(queries, extent.lastId)) {
    const expected = (former?.lastId ?? 0) + 1;
    if (seal.firstId !== expected) return result(misplaced(seal, expected));
    const hash = new SealHash(former?.hash ?? Buffer.alloc(0));
    let rows = 0;
    while (!next.done && next.value.id <= seal.lastId) {
      if (next.value.id < seal.firstId) return result(`row ${next.value.id} was added: no seal covers it`);
      hash.add(next.value);
      rows++;
      next = await texts.next();
    }
    if (rows !== seal.rows || !hash.end(seal).equals(seal.hash)) return result(differing(seal, rows));
    former = seal;
    done.rows += rows;
    done.seals++;
    found ||= seal.hash.toString('hex') === head;
  }
  if (!next.done) return result(`row ${next.value.id} was added: no seal covers it`);
  if (!found) return result(`no seal has the hash ${head}: the record was cut off or written anew since it was noted`);
  if (extent.overdue !== null)
    return result(`row ${extent.overdue} was not sealed within ${unsealedSeconds} seconds: does a registry run?`);
  return result(undefined);
}

function misplaced(seal: Seal, expected: number): string {
  return seal.firstId > expected
    ? `the seal of row ${expected} is missing: the next one begins at row ${seal.firstId}`
    : `the seal of the rows from ${seal.firstId} on was added: row ${expected} is next`;
}

function differing({ firstId, lastId, rows: sealed }: Seal, rows: number): string {
  const where = `between row ${firstId} and row ${lastId}`;
  if (rows < sealed) return `${sealed - rows} of ${sealed} rows are missing ${where}`;
  if (rows > sealed) return `${rows - sealed} rows were added ${where}`;
  return `a row ${where} or their seal was changed`;
}

/** How far the seals go and what lies beyond them, as of one moment. */
async function extentOf(queries: Queries, unsealedSeconds: number): Promise<Extent> {
  const [extent] = await queries.query<Extent>(
    `with sealed as (select coalesce(max(last_id), 0) as last from audit_seals)
     select sealed.last as "lastId", count(a.id) as unsealed,
            min(a.id) filter (where a.created_at < now() - make_interval(secs => $1)) as overdue
       from sealed left join audit_logs a on a.id > sealed.last group by sealed.last`,
    [unsealedSeconds],
  );
  return extent ?? { lastId: 0, unsealed: 0, overdue: null };
}

async function* sealsUpTo(queries: Queries, last: number): AsyncGenerator<Seal, void> {
  for (let after = NO_ID; ; ) {
    const seals = await queries.query<Seal>(
      `select first_id as "firstId", last_id as "lastId", rows, hash, ${MICROSECONDS('sealed_at')} as "sealedAt"
         from audit_seals where first_id > $1 and last_id <= $2 order by first_id limit $3`,
      [after, last, SEALS_PAGE],
    );
    yield* seals;
    const end = seals.at(-1);
    if (!end || seals.length < SEALS_PAGE) return;
    after = end.firstId;
  }
}
