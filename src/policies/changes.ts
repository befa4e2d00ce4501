import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import type { ShownPolicy } from './policies.js';

/** A policy was made (`before` is null), changed, or removed (`after` is null). */
export interface PolicyChange {
  readonly before: ShownPolicy | null;
  readonly after: ShownPolicy | null;
}

/** Told of every change of a policy inside its transaction; one that throws undoes it. */
export type PolicyObserver = (change: PolicyChange, actor: Actor, transaction: Queries) => Promise<void>;

/** Who makes a change, and who is told of it. */
export interface PolicyAnnounced {
  readonly actor: Actor;
  readonly observers: readonly PolicyObserver[];
}

/** Tells every observer, in order. */
export async function announcePolicy(
  change: PolicyChange,
  { actor, observers }: PolicyAnnounced,
  transaction: Queries,
): Promise<void> {
  for (const observer of observers) await observer(change, actor, transaction);
}
