import { setTimeout as sleep } from 'node:timers/promises';
import type { AccessObserver, Announced } from '../../auth/changes.js';
import { type Grant, parseGrants } from '../../auth/grants.js';
import {
  changeKey,
  getKeyByPrefix,
  type KeyChange,
  type KeyChanges,
  type KeyFilters,
  listKeyPage,
  removeKey,
  type ShownKey,
} from '../../auth/key-admin.js';
import { addKey, freshKey } from '../../auth/keys.js';
import { REVOKED_MS } from '../../auth/lease.js';
import { isFailure } from '../../errors.js';
import { invalidField } from '../../metadata/failures.js';
import type { Answer } from '../../metadata/idempotency.js';
import type { Metadata } from '../../metadata/metadata.js';
import { permit } from '../authenticate.js';
import { actorOf, type Context } from '../context.js';
import { answerOf, sendAnswer, sendPage } from './answer.js';
import { callerOf, partBody } from './caller.js';
import type { CheckedRequest } from './contract.js';
import { filtersOf, pageOf, repeatable } from './requests.js';

export interface KeyRoutesOptions {
  readonly keys: {
    /** Hashes the secret of a new key, one at a time. @throws 'TooManyRequests' */
    hashSecret(secret: string): Promise<string>;
    /** Told of every change in its transaction. */
    readonly observers: readonly AccessObserver[];
    /** Id of the key that a start of the registry makes where there is none. */
    readonly made: string;
  };
}

/** What of a key is as the contract writes it, and as it comes. */
interface KeyInput {
  readonly name?: string;
  readonly grants?: readonly Grant[];
  readonly read_only?: boolean;
  readonly is_active?: boolean;
  readonly expires_at?: string | null;
}

const FIXED = ['id', 'key_prefix', 'created_at'];

/** The handlers of keys: all of them for admins alone. */
export function keyHandlers(metadata: Metadata, { keys }: KeyRoutesOptions) {
  const { hashSecret, observers, made } = keys;
  const announced = (ctx: Context): Announced => ({ actor: actorOf(ctx), observers });

  async function list(ctx: Context, request: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('read'));
    const filters = filtersOf<KeyFilters>(request);
    sendPage(ctx, await metadata.read((queries) => listKeyPage(queries, filters, pageOf(request))));
  }

  async function create(ctx: Context, request: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('change'));
    const { name = '', grants, read_only: readOnly = false, expires_at: expiresAt } = changesOf(request.body);
    if (isOver(expiresAt)) throw over();
    const repeated = repeatable(ctx, 'createApiKey', request);
    const answer = (await metadata.findAnswer(repeated)) ?? (await add());
    ctx.set('Cache-Control', 'no-store');
    sendAnswer(ctx, answer);

    async function add(): Promise<Answer> {
      const fresh = await freshKey(hashSecret);
      return await metadata.change(
        repeated,
        async (transaction) => {
          await addKey(transaction, fresh, { name, grants: grants ?? [], readOnly, expiresAt }, announced(ctx));
          const key = await getKeyByPrefix(transaction, fresh.id);
          return { ...answerOf(steady(key), 201), body: { ...key, key: fresh.text } };
        },
        (whole) => ({ ...whole, body: { ...(whole.body as object), key: null } }),
      );
    }
  }

  async function update(ctx: Context, request: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('change'));
    const { said, fixed } = partBody<KeyInput>(request.body, FIXED);
    const changes = changesOf(said);
    const change = changeOf(ctx, fixed, ({ expires_at: before }) => {
      // What was over before may stay so.
      if (isOver(changes.expires_at) && changes.expires_at?.getTime() !== before?.getTime()) throw over();
    });
    await holding(ctx, async () => {
      let rightsChanged = false;
      const answer = await metadata.change(undefined, async (transaction) => {
        const changed = await changeKey(transaction, request.path.id ?? '', changes, change);
        rightsChanged = changed.rightsChanged;
        return { ...answerOf(steady(changed.key), 200), body: changed.key };
      });
      return { answer, rightsChanged };
    });
  }

  async function remove(ctx: Context, request: CheckedRequest): Promise<void> {
    permit(ctx, ctx.state.access.decideAdmin('change'));
    await holding(ctx, async () => {
      const answer = await metadata.change(undefined, async (transaction) => {
        await removeKey(transaction, request.path.id ?? '', made, changeOf(ctx));
        return { status: 204, body: null };
      });
      return { answer, rightsChanged: true };
    });
  }

  function changeOf(ctx: Context, fixed = {}, expect: (current: ShownKey) => void = () => undefined): KeyChange {
    const caller = callerOf(ctx, metadata.record, fixed);
    return {
      announced: announced(ctx),
      expect: (current) => {
        caller.expect(steady(current));
        expect(current);
      },
    };
  }

  return { list, create, update, remove };
}

/** Answers a change of rights when it holds everywhere, also to the key that it ended. */
async function holding(ctx: Context, work: () => Promise<{ answer: Answer; rightsChanged: boolean }>): Promise<void> {
  ctx.state.outlive();
  const { answer, rightsChanged } = await work();
  if (rightsChanged) await sleep(REVOKED_MS);
  sendAnswer(ctx, answer);
}

/** What is compared of a key: its last use is noted by the registry itself, every minute. */
function steady(key: ShownKey): Omit<ShownKey, 'last_used_at'> {
  const { last_used_at: _, ...others } = key;
  return others;
}

/** @throws 'Invalid' for grants that are none */
function changesOf(body: KeyInput | undefined): KeyChanges {
  const { grants, expires_at: end, name, read_only, is_active } = body ?? {};
  return {
    ...(name === undefined ? {} : { name }),
    ...(read_only === undefined ? {} : { read_only }),
    ...(is_active === undefined ? {} : { is_active }),
    ...(grants === undefined ? {} : { grants: grantsOf(grants) }),
    ...(end === undefined ? {} : { expires_at: end === null ? null : new Date(end) }),
  };
}

function grantsOf(value: unknown): Grant[] {
  try {
    return parseGrants(value);
  } catch (error) {
    if (!isFailure(error, 'ParameterInvalid')) throw error;
    throw invalidField('grants', error.message);
  }
}

function isOver(end: Date | null | undefined): boolean {
  return end instanceof Date && end.getTime() <= Date.now();
}

function over() {
  return invalidField('expires_at', 'is in the past');
}
