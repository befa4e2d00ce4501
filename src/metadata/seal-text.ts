import { createHash } from 'node:crypto';
import type { Queries } from '../database/connect.js';

/** A row of the record as the text that is sealed. */
export interface SealedText {
  readonly id: number;
  readonly text: string;
}

/** What a seal says of the rows that it covers. Times in microseconds since 1970. */
export interface SealFacts {
  readonly firstId: number;
  readonly lastId: number;
  readonly rows: number;
  readonly sealedAt: number;
}

const PAGE = 1_000;

/** Microseconds since 1970, exactly, whatever the session's time zone and style of dates. */
export const MICROSECONDS = (column: string) => `(extract(epoch from ${column}) * 1000000)::bigint`;

/**
 * Rows with first <= id <= last, in order, by pages. The text is JSON as jsonb writes it: one spelling for one value, in
 * one line, of every column.
 */
export async function* sealedTexts(queries: Queries, first: number, last: number): AsyncGenerator<SealedText, void> {
  for (let next = first; ; ) {
    const rows = await queries.query<SealedText>(
      `select id, jsonb_build_array(id, actor, actor_name, action, resource_type, resource_id, repository, details,
                ip_address, user_agent, request_id, ${MICROSECONDS('created_at')})::text as text
         from audit_logs where id >= $1 and id <= $2 order by id limit $3`,
      [next, last, PAGE],
    );
    yield* rows;
    const end = rows.at(-1);
    if (!end || rows.length < PAGE) return;
    next = end.id + 1;
  }
}

/** The sha256 of one seal: over the former seal's (empty: there is none), a line for each row, and a line of its own. */
export class SealHash {
  readonly #hash = createHash('sha256');

  constructor(former: Buffer) {
    this.#hash.update(former);
  }

  add(row: SealedText): void {
    this.#hash.update(`${row.text}\n`);
  }

  end({ firstId, lastId, rows, sealedAt }: SealFacts): Buffer {
    return this.#hash.update(`seal ${firstId} ${lastId} ${rows} ${sealedAt}\n`).digest();
  }
}
