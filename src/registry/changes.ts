import type { Queries } from '../database/connect.js';
import type { Digest } from '../oci/digest.js';
import type { Manifest } from '../oci/manifest.js';
import type { RepositoryName, Tag } from '../oci/name.js';

/** Who makes a change, from where, in which request. */
export interface Actor {
  /** The key's id. */
  readonly key: string;
  readonly address: string;
  readonly requestId: string;
}

/** What the registry changed. */
export type Change =
  | { readonly kind: 'blob-pushed'; repository: RepositoryName; digest: Digest; size: number }
  | { readonly kind: 'blob-mounted'; repository: RepositoryName; digest: Digest; from: RepositoryName }
  | { readonly kind: 'blob-removed'; repository: RepositoryName; digest: Digest }
  | {
      readonly kind: 'manifest-pushed';
      repository: RepositoryName;
      digest: Digest;
      manifest: Manifest;
      tags: readonly Tag[];
    }
  | { readonly kind: 'manifest-removed'; repository: RepositoryName; digest: Digest; tags: readonly string[] }
  | { readonly kind: 'tag-removed'; repository: RepositoryName; tag: Tag };

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
