import { choice, origin, text } from './kinds.js';

/** Where a copy of the bytes is, from which blobs are healed; it is only read. */
export const secondStoreSettings = {
  secondStore: choice(
    'REGISTRY_SECOND_STORE',
    ['none', 'filesystem', 's3'],
    'Where a copy of the blobs is, by the same names (a mirror, a restored backup), from which damaged blobs are healed; nothing is ever written there.',
  ),
  secondStoreRoot: text('REGISTRY_SECOND_STORE_ROOT', '', 'The folder of the copy.'),
  secondStoreS3Endpoint: origin(
    'REGISTRY_SECOND_STORE_S3_ENDPOINT',
    'The address of the S3 gateway of the copy; empty: that of AWS for the region.',
  ),
  secondStoreS3Bucket: text(
    'REGISTRY_SECOND_STORE_S3_BUCKET',
    '',
    'The bucket of the copy.',
    /^$|^[A-Za-z0-9][A-Za-z0-9._-]{2,254}$/,
    'the name of a bucket',
  ),
  secondStoreS3Region: text(
    'REGISTRY_SECOND_STORE_S3_REGION',
    'us-east-1',
    'Its region.',
    /^[a-z0-9-]{1,64}$/,
    'a region',
  ),
  secondStoreS3AccessKeyId: text(
    'REGISTRY_SECOND_STORE_S3_ACCESS_KEY_ID',
    '',
    'The id of an access key that may read it.',
  ),
  secondStoreS3SecretAccessKey: text(
    'REGISTRY_SECOND_STORE_S3_SECRET_ACCESS_KEY',
    '',
    'The secret of that access key; it is never logged.',
  ),
  secondStoreS3Prefix: text(
    'REGISTRY_SECOND_STORE_S3_PREFIX',
    '',
    'What the names of all objects of the copy begin with.',
    /^$|^[A-Za-z0-9._-][A-Za-z0-9._/-]{0,254}\/$/,
    'empty or letters, digits, . _ - and / with a / at the end',
  ),
  secondStoreS3ForcePathStyle: choice(
    'REGISTRY_SECOND_STORE_S3_FORCE_PATH_STYLE',
    ['true', 'false'],
    'Whether its bucket stands in the path (Ceph) or before the host name (AWS).',
  ),
} as const;
