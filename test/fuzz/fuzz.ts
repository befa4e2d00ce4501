import { setTimeout as sleep } from 'node:timers/promises';
import { openUpload } from '../http/content.js';
import { head, Wire } from '../http/wire.js';
import type { TestServer } from '../support/server.js';
import { faultOf } from './oracle.js';
import { type Ids, openModels, pushMetadata } from './metadata.js';
import { type FuzzRequest, requestOf } from './requests.js';
import { type Reading, readResponses, fieldOf } from './responses.js';
import type { Route } from './routes.js';
import { pushScene, REPOSITORIES } from './scene.js';

/** What the server has to be started with: short times, and no limit that would answer before the code that is tried. */
export const FUZZ_ENVIRONMENT = {
  REGISTRY_IDLE_TIMEOUT: '2',
  REGISTRY_HEADERS_TIMEOUT: '2',
  REGISTRY_KEEP_ALIVE_TIMEOUT: '5',
  REGISTRY_AUTH_FAILURES_PER_ADDRESS: '1000000',
  REGISTRY_AUTH_FAILURES_PER_KEY: '1000000',
  REGISTRY_HEALTH_FREE_BYTES: '0',
  REGISTRY_UPLOAD_LIFETIME: '10',
  // What is deleted goes at once, and its bytes with it.
  REGISTRY_READ_GRACE: '0',
  REGISTRY_JOB_INTERVAL: '1',
  REGISTRY_REMOVAL_DELAY: '0',
  REGISTRY_REMOVAL_SHARE: '100',
  REGISTRY_LOG_LEVEL: 'warn',
};

/** Within this each request is answered or its connection ended, in milliseconds; far above all timeouts together. */
const PATIENCE_MS = 15_000;
const AT_ONCE = 24;
/** After so many requests what they deleted is pushed again, which is also the proof that the registry works. */
const ROUND = 750;

export interface Counts {
  requests: number;
  /** Route → status (0: ended without an answer) → how many. */
  readonly byRoute: Map<string, Map<number, number>>;
  readonly faults: string[];
}

export interface FuzzOptions {
  readonly server: TestServer;
  readonly routes: readonly Route[];
  readonly seed: number;
  /** The number of the first request. */
  readonly first?: number;
  /** When to stop: after so many requests, or at a time by `performance.now()`. */
  readonly count?: number;
  readonly until?: number;
  readonly counts: Counts;
}

export function newCounts(): Counts {
  return { requests: 0, byRoute: new Map(), faults: [] };
}

/** Sends requests until it is time, or there are ten faults. @throws if the registry does not work any more. */
export async function fuzz(options: FuzzOptions): Promise<void> {
  const { server, counts, count = Number.POSITIVE_INFINITY, until = Number.POSITIVE_INFINITY } = options;
  let next = options.first ?? 0;
  const last = next + count;
  const goesOn = () => next < last && performance.now() < until && counts.faults.length < 10;
  while (goesOn()) {
    const ids = await pushAll(server);
    const end = Math.min(last, next + ROUND);
    const client = async () => {
      while (goesOn() && next < end) await tryOne(options, ids, next++);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, client));
  }
  await pushAll(server);
}

/** First what was locked is opened, then all of it is pushed. */
async function pushAll(server: TestServer): Promise<Ids> {
  await openModels(server);
  await pushScene(server);
  return await pushMetadata(server);
}

async function tryOne({ server, routes, seed, counts }: FuzzOptions, ids: Ids, number: number): Promise<void> {
  const request = withIds(requestOf(routes, seed, number), ids);
  const { status, fault } = await send(server, request);
  counts.requests += 1;
  const statuses = counts.byRoute.get(request.route) ?? new Map<number, number>();
  counts.byRoute.set(request.route, statuses.set(status, (statuses.get(status) ?? 0) + 1));
  if (fault !== undefined)
    counts.faults.push(
      `${fault}\n  again: npm run fuzz -- --seed ${seed} --first ${number} --count 1\n  ${JSON.stringify(request.head.slice(0, 1500))} and ${request.body.length} bytes`,
    );
}

/** With the ids of what is there now, which are as long as those that stand for them. */
function withIds(request: FuzzRequest, ids: Ids): FuzzRequest {
  let { head } = request;
  let body = request.body.toString('latin1');
  for (const [name, id] of ids) {
    head = head.replaceAll(name, id);
    body = body.replaceAll(name, id);
  }
  return { ...request, head, body: Buffer.from(body, 'latin1') };
}

async function send(server: TestServer, request: FuzzRequest): Promise<{ status: number; fault?: string }> {
  const location = request.head.includes('@upload@') ? await openUpload(server, REPOSITORIES[0]) : '';
  const wire = await Wire.open(server.host);
  const bytes = Buffer.from(request.head.replaceAll('@upload@', location.split('/').at(-1) ?? ''), 'latin1');
  wire.write(bytes);
  let at = 0;
  for (const cut of [...request.cuts, request.body.length]) {
    wire.write(request.body.subarray(at, cut));
    at = cut;
    if (cut < request.body.length) await sleep(5);
  }
  if (request.halfClose) wire.socket.end();
  try {
    return await judge(wire, request);
  } catch (error) {
    return { status: 0, fault: (error as Error).message };
  } finally {
    wire.end();
  }
}

/** Waits for the answer, or for the end; then, where the connection should be good for more, for the answer to a second request. */
async function judge(wire: Wire, request: FuzzRequest): Promise<{ status: number; fault?: string }> {
  const isHead = request.method === 'HEAD';
  const read = (): Reading => readResponses(wire.received, [isHead]);
  const target = request.head.split(' ')[1] ?? '';
  await wire.until(() => wire.closed || read().responses.length > 0, PATIENCE_MS);
  const [first] = read().responses;
  if (!first) return { status: 0 };
  const fault = faultOf(first, isHead, target);
  if (fault !== undefined) return { status: first.status, fault };
  if (/close/i.test(fieldOf(first.fields, 'connection') ?? '')) {
    await wire.untilClosed(PATIENCE_MS);
    // The answer to what could not be read has a body also where it would have been HEAD.
    const { responses, rest } = isHead ? { responses: [first], rest: 0 } : read();
    if (responses.length > 1 || rest > 0) return { status: first.status, fault: 'bytes behind the last answer' };
    return { status: first.status };
  }
  if (!request.goesOn || request.halfClose || wire.closed) return { status: first.status };
  wire.write(head('GET', '/v2/'));
  await wire.until(() => wire.closed || read().responses.length > 1, PATIENCE_MS);
  const { responses, rest } = read();
  const second = responses[1];
  const wrong = second && (second.status !== 200 || second.body.toString() !== '{}');
  if (wrong || responses.length > 2 || rest > 0)
    return { status: first.status, fault: `a second answer that is not that of the second request: ${second?.status}` };
  return { status: first.status };
}
