import type { Database, Queries } from '../database/connect.js';
import { invalid } from './failures.js';

/** What a request is answered, as far as it can be said again. */
export interface Answer {
  readonly status: number;
  /** JSON; null: none. */
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A POST that may be sent again: by whom, to which route, under which key, with which body. */
export interface Repeatable {
  readonly actor: string;
  readonly route: string;
  readonly key: string;
  /** Of the body's bytes. */
  readonly bodyDigest: string;
}

export const KEPT_HOURS = 24;

/**
 * Runs `work` in a transaction, and keeps its answer in the same one, so that a repeated request gets it instead of a second
 * change. One that comes while the first is at work waits for it. What failed is kept nowhere, and may be tried again.
 * @param secretless what of an answer may be kept
 * @throws 'Invalid' if the key was used for another body
 */
export async function changeOnce(
  database: Database,
  request: Repeatable | undefined,
  work: (transaction: Queries) => Promise<Answer>,
  secretless: (answer: Answer) => Answer = (answer) => answer,
): Promise<Answer> {
  return await database.transaction(async (transaction) => {
    if (!request) return await work(transaction);
    const known = await claim(transaction, request);
    if (known) return known;
    const answer = await work(transaction);
    const kept = secretless(answer);
    await transaction.query(
      'update idempotency_keys set status = $4, response = $5 where actor = $1 and route = $2 and key = $3',
      [
        request.actor,
        request.route,
        request.key,
        kept.status,
        JSON.stringify({ body: kept.body, headers: kept.headers ?? {} }),
      ],
    );
    return answer;
  });
}

/** Takes the key, or finds the answer that was given under it. */
async function claim(transaction: Queries, request: Repeatable): Promise<Answer | undefined> {
  const { actor, route, key, bodyDigest } = request;
  const taken = await transaction.query(
    `insert into idempotency_keys as k (actor, route, key, body_digest, status) values ($1, $2, $3, $4, 0)
     on conflict (actor, route, key) do update
        set body_digest = excluded.body_digest, status = 0, response = null, created_at = now()
      where k.created_at < now() - make_interval(hours => ${KEPT_HOURS}) returning key`,
    [actor, route, key, bodyDigest],
  );
  if (taken.length > 0) return undefined;
  const known = await findAnswer(transaction, request);
  if (!known) throw new Error('the idempotency key is neither free nor taken');
  return known;
}

/** The answer that was given under the key of a request, if there is one. @throws 'Invalid' if it was for another body */
export async function findAnswer(queries: Queries, request: Repeatable): Promise<Answer | undefined> {
  const { actor, route, key, bodyDigest } = request;
  const [known] = await queries.query<{
    body_digest: string;
    status: number;
    response: { body: unknown; headers: Record<string, string> };
  }>(
    `select body_digest, status, response from idempotency_keys
      where actor = $1 and route = $2 and key = $3 and created_at >= now() - make_interval(hours => ${KEPT_HOURS})`,
    [actor, route, key],
  );
  if (!known) return undefined;
  if (known.body_digest !== bodyDigest)
    throw invalid({
      loc: ['header', 'Idempotency-Key'],
      msg: 'this key was used with another body',
      type: 'idempotency_key_reused',
    });
  return { status: known.status, body: known.response.body, headers: known.response.headers };
}

const BATCH = 1_000;

/** Forgets answers that are too old. */
export function answersJob(database: Database, everyMs: number) {
  return { name: 'answers', everyMs, run: () => forgetAnswers(database, BATCH) };
}

/** @returns whether there may be more */
async function forgetAnswers(queries: Queries, limit: number): Promise<boolean> {
  const rows = await queries.query(
    `delete from idempotency_keys where ctid = any(array(select ctid from idempotency_keys
      where created_at < now() - make_interval(hours => ${KEPT_HOURS}) limit $1)) returning key`,
    [limit],
  );
  return rows.length === limit;
}
