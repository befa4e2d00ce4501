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

/** What the registry changed. Sizes in bytes. */
export type Change =
  | { readonly kind: 'blob-pushed'; repository: RepositoryName; digest: Digest; size: number }
  | { readonly kind: 'blob-mounted'; repository: RepositoryName; digest: Digest; from: RepositoryName }
  | { readonly kind: 'blob-removed'; repository: RepositoryName; digest: Digest }
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
  | { readonly kind: 'tag-removed'; repository: RepositoryName; tag: Tag; digest: Digest };

/**
 * Told of every change inside its transaction, so that what an observer writes is there with the change or not at all.
 * An observer that throws undoes the change.
 */
export type ChangeObserver = (change: Change, actor: Actor, transaction: Queries) => Promise<void>;

/** Tells every observer, in order. */
export async function announce(
  observers: readonly ChangeObserver[],
  change: Change,
  actor: Actor,
  transaction: Queries,
): Promise<void> {
  for (const observer of observers) await observer(change, actor, transaction);
}

/** Says what is to be written down of a change. */
export type ChangeRecorder = (change: Change, actor: Actor) => Insert;

/** The observer that writes down what all the recorders say, by one statement. */
export function recordBy(...recorders: readonly ChangeRecorder[]): ChangeObserver {
  return async (change, actor, transaction) => {
    await insertRows(
      transaction,
      recorders.map((recorder) => recorder(change, actor)),
    );
  };
}
