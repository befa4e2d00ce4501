import type { LifecycleRule } from '@aws-sdk/client-s3';

/** Objects of these classes can't be read before somebody restores them. */
const ARCHIVES: readonly string[] = ['GLACIER', 'DEEP_ARCHIVE'];

const HEX = Array.from({ length: 256 }, (_, byte) => `${byte.toString(16).padStart(2, '0')}/`);
/** What the names of all our objects begin with, below the prefix. */
const OURS = ['weighhouse.', 'records/', ...HEX];

/**
 * What a rule of a bucket does to objects or uploads of ours that it must not, in words; undefined: nothing.
 *
 * An abort takes the bytes of objects along over which RGW died; expiration and archives take blobs away. A key is written
 * once and read until it is deleted, so rules for former versions and for the marks of deleted ones are no matter.
 * @param prefix what all our names begin with
 */
export function harmOf(rule: LifecycleRule, prefix: string): string | undefined {
  if (rule.Status !== 'Enabled' || !meetsOurs(rule, prefix)) return undefined;
  // Whatever it says of tags: uploads have none (RGW does not even take such a rule).
  if (rule.AbortIncompleteMultipartUpload) return 'aborts uploads, which can destroy finished objects';
  // Our objects have none.
  if (rule.Filter?.Tag || rule.Filter?.And?.Tags?.length) return undefined;
  if (rule.Expiration?.Days || rule.Expiration?.Date) return 'expires objects, which blobs are made of';
  const archive = rule.Transitions?.find(({ StorageClass: to = '' }) => ARCHIVES.includes(to))?.StorageClass;
  return archive && `moves objects to ${archive}, from where they can't be read`;
}

function meetsOurs({ Prefix, Filter }: LifecycleRule, prefix: string): boolean {
  const wanted = Filter?.And?.Prefix || Filter?.Prefix || Prefix || '';
  return OURS.map((name) => prefix + name).some((name) => wanted.startsWith(name) || name.startsWith(wanted));
}
