import type { Actor } from '../actor.js';
import type { Queries } from '../database/connect.js';
import { type Insert, insertRows } from '../database/insert.js';
import type { Digest } from '../oci/digest.js';
import type { Manifest } from '../oci/manifest.js';
import type { RepositoryName, Tag } from '../oci/name.js';

export type { Actor } from '../actor.js';

/** A tag that was set to another manifest than before. */
export interface MovedTag {
  readonly tag: Tag;
  /** What it meant before; null: it is new. */
  readonly previous: Digest | null;
}

/** Where the right bytes of a quarantined blob came from; `restored`: its own were put right in the store. */
export type HealingSource = 'push' | 'second-store' | 'restored';

/** What the registry changed. Sizes in bytes. */
export type Change =
  | { readonly kind: 'blob-pushed'; repository: RepositoryName; digest: Digest; size: number }
  | { readonly kind: 'blob-mounted'; repository: RepositoryName; digest: Digest; from: RepositoryName }
  | { readonly kind: 'blob-removed'; repository: RepositoryName; digest: Digest }
  /** Of the registry as a whole; `repositories` are those that have it, as far as one would read. */
  | {
      readonly kind: 'blob-quarantined';
      digest: Digest;
      size: number;
      repositories: readonly RepositoryName[];
      /** What is wrong with its bytes, in facts. */
      fault: Readonly<Record<string, string | number | null>>;
    }
  | { readonly kind: 'blob-healed'; digest: Digest; size: number; source: HealingSource }
  | {
      readonly kind: 'manifest-pushed';
      repository: RepositoryName;
      digest: Digest;
      /** Of its payload. */
      size: number;
      manifest: Manifest;
      /** All that were asked for. */
      tags: readonly Tag[];
      /** Those of them that meant something else before, or nothing. */
      moved: readonly MovedTag[];
      /** The manifest's config, if the inspection of the push read it. */
      config?: unknown;
      /** Whether the push holds its repository alone. */
      alone?: boolean;
    }
  | {
      readonly kind: 'manifest-removed';
      repository: RepositoryName;
      digest: Digest;
      size: number;
      mediaType: string;
      /** Those that went with it. */
      tags: readonly Tag[];
    }
  /** By itself, to a manifest that was there. */
  | { readonly kind: 'tag-set'; repository: RepositoryName; tag: Tag; digest: Digest; previous: Digest | null }
  | {
      readonly kind: 'tag-removed';
      repository: RepositoryName;
      tag: Tag;
      digest: Digest;
      /** The rule by which the registry itself did it, in facts. */
      cause?: Readonly<Record<string, unknown>>;
    };

/**
 * Told of every change inside its transaction, so that what an observer writes is there with the change or not at all.
 * An observer that throws undoes the change.
 */
export interface ChangeObserver {
  (change: Change, actor: Actor, transaction: Queries): Promise<void>;
  /** All that it does about a change, where that is to insert rows, for the statement of the change itself; undefined: it is more. */
  readonly rowsOf?: (change: Change, actor: Actor) => readonly Insert[] | undefined;
}

/** Tells every observer, in order. */
export async function announce(
  observers: readonly ChangeObserver[],
  change: Change,
  actor: Actor,
  transaction: Queries,
): Promise<void> {
  for (const observer of observers) await observer(change, actor, transaction);
}

/** What all observers insert about a change; undefined if one of them has to be told. */
export function rowsOfAll(observers: readonly ChangeObserver[], change: Change, actor: Actor): Insert[] | undefined {
  const inserts: Insert[] = [];
  for (const observer of observers) {
    const rows = observer.rowsOf?.(change, actor);
    if (!rows) return undefined;
    inserts.push(...rows);
  }
  return inserts;
}

/** Says what is to be written down of a change. */
export type ChangeRecorder = (change: Change, actor: Actor) => Insert;

/** The observer that writes down what all the recorders say, by one statement. */
export function recordBy(...recorders: readonly ChangeRecorder[]): ChangeObserver {
  const rowsOf = (change: Change, actor: Actor) => recorders.map((recorder) => recorder(change, actor));
  const observer: ChangeObserver = async (change, actor, transaction) => {
    await insertRows(transaction, rowsOf(change, actor));
  };
  return Object.assign(observer, { rowsOf });
}
