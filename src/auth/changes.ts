import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import type { Grant } from './grants.js';

/** What a key may do and until when, as it is written down: never with its secret nor its hash. */
export interface KeyFacts {
  readonly name: string;
  readonly grants: readonly Grant[];
  readonly readOnly: boolean;
  /** False: revoked. */
  readonly active: boolean;
  readonly expiresAt: Date | null;
}

/** What was changed of who may do what. `id` is a key's, `null` stands for a rule that is not there. */
export type AccessChange =
  | { readonly kind: 'key-created'; id: string; after: KeyFacts }
  | { readonly kind: 'key-changed'; id: string; before: KeyFacts; after: KeyFacts; secretReplaced: boolean }
  | { readonly kind: 'key-revoked'; id: string; before: KeyFacts; after: KeyFacts }
  | { readonly kind: 'key-removed'; id: string; before: KeyFacts }
  | { readonly kind: 'visibility-set'; pattern: string; before: boolean | null; after: boolean | null }
  | { readonly kind: 'tokens-revoked' }
  /** A browser was signed in with a key, or signed out. */
  | { readonly kind: 'session-begun'; id: string; key: string; expiresAt: Date }
  | { readonly kind: 'session-ended'; id: string; key: string };

/** Told of every such change inside its transaction; one that throws undoes it. */
export type AccessObserver = (change: AccessChange, actor: Actor, transaction: Queries) => Promise<void>;

/** Who makes a change, and who is told of it. */
export interface Announced {
  readonly actor: Actor;
  readonly observers: readonly AccessObserver[];
}

/** Tells every observer, in order. */
export async function announceAccess(
  change: AccessChange,
  { actor, observers }: Announced,
  transaction: Queries,
): Promise<void> {
  for (const observer of observers) await observer(change, actor, transaction);
}
