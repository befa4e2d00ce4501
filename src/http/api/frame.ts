import type { RouterMiddleware } from '@koa/router';
import { RegistryError } from '../../errors.js';
import { invalid } from '../../metadata/failures.js';
import { parseJson } from '../../oci/json.js';
import { permit } from '../authenticate.js';
import type { Context, RequestState } from '../context.js';
import { hasBody, readWhole } from '../request-body.js';
import { Contract, type CheckedRequest, type ContractDocument } from './contract.js';

export interface FrameOptions {
  /** Reads spec/openapi.yaml. */
  readonly loadContract: () => Promise<ContractDocument>;
  /** The longest body of JSON, in bytes. */
  readonly bodyMaxBytes: number;
  readonly idleMs: number;
}

export type OperationHandler = (ctx: Context, request: CheckedRequest) => Promise<void>;
/** Makes the middleware of an operation of the contract. */
export type FrameOperation = (id: string, handler: OperationHandler) => RouterMiddleware<RequestState>;

/** How deep the JSON of a body may nest. */
const MAX_DEPTH = 32;

/**
 * What every operation has in common: who is nobody is sent away, then the request is checked against the contract, and the
 * handler gets it typed. The contract is loaded when the first request comes.
 */
export function frame({ loadContract, bodyMaxBytes, idleMs }: FrameOptions): FrameOperation {
  let contract: Promise<Contract> | undefined;
  const getContract = async () => {
    contract ??= loadContract().then((document) => Contract.of(document));
    try {
      return await contract;
    } catch (error) {
      contract = undefined;
      throw error;
    }
  };
  return (id, handler) => async (ctx) => {
    const operation = (await getContract()).operation(id);
    if (operation.secured) admit(ctx);
    const body = operation.takesJson ? await readJson(ctx, { maxBytes: bodyMaxBytes, idleMs }) : undefined;
    const request = operation.check({
      path: ctx.params,
      query: new URLSearchParams(ctx.querystring),
      header: ctx.req.headers,
      body,
    });
    await handler(ctx, request);
  };
}

/** Lets through whoever is somebody; where something may be open to everybody, whoever reads. @throws 'Unauthorized' */
function admit(ctx: Context): void {
  const { access } = ctx.state;
  const { anonymous, visibility } = access.open;
  const open =
    anonymous === 'push' || ((anonymous === 'pull' || visibility.somePublic) && /^(GET|HEAD)$/.test(ctx.method));
  if (!open || access.identity.kind !== 'anonymous') permit(ctx, access.decideBase());
}

/** The JSON of the body; undefined if there is none. @throws 'BodyUnsupported', 'BodyTooLarge', 'Invalid' */
async function readJson(ctx: Context, limits: { maxBytes: number; idleMs: number }): Promise<unknown> {
  if (!hasBody(ctx.req)) return undefined;
  const { 'content-type': type, 'content-encoding': coding = 'identity' } = ctx.req.headers;
  if (type !== undefined && !JSON_TYPE.test(type))
    throw new RegistryError('BodyUnsupported', 'the body must be application/json');
  if (coding.toLowerCase() !== 'identity')
    throw new RegistryError('BodyUnsupported', 'the body must not be compressed');
  const bytes = await readWhole(ctx.req, ctx.res, limits, () => {
    return new RegistryError('BodyTooLarge', `the body may have at most ${limits.maxBytes} bytes`);
  });
  if (bytes.length === 0) return undefined;
  try {
    return parseJson(bytes, MAX_DEPTH, 'the body');
  } catch (error) {
    throw invalid({ loc: ['body'], msg: (error as Error).message, type: 'json_invalid' });
  }
}

const JSON_TYPE = /^application\/json[ \t]*(;[ \t]*charset="?utf-8"?[ \t]*)?$/i;
