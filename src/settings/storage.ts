import { choice, DAY, integer, KiB, MiB, networks, origin, text, threshold } from './kinds.js';

/** Where the bytes are. */
export const storageSettings = {
  storage: choice(
    'REGISTRY_STORAGE',
    ['filesystem', 's3'],
    'Where the blobs are: in a folder (a local disk, CephFS), or in a bucket of S3 (Ceph RGW).',
  ),
  filesystemRoot: text('REGISTRY_FILESYSTEM_ROOT', '', 'The folder of the blobs; empty: <data>/blobs.'),
  s3Endpoint: origin('REGISTRY_S3_ENDPOINT', 'The address of the S3 gateway; empty: that of AWS for the region.'),
  s3PublicEndpoint: origin(
    'REGISTRY_S3_PUBLIC_ENDPOINT',
    'The address by which clients reach the S3 gateway when they are sent there, where it is another one.',
  ),
  s3Bucket: text(
    'REGISTRY_S3_BUCKET',
    '',
    'The bucket; it is not made.',
    /^$|^[A-Za-z0-9][A-Za-z0-9._-]{2,254}$/,
    'the name of a bucket',
  ),
  s3Region: text(
    'REGISTRY_S3_REGION',
    'us-east-1',
    'The region, which requests are signed for.',
    /^[a-z0-9-]{1,64}$/,
    'a region',
  ),
  s3AccessKeyId: text('REGISTRY_S3_ACCESS_KEY_ID', '', 'The id of the access key.'),
  s3SecretAccessKey: text('REGISTRY_S3_SECRET_ACCESS_KEY', '', 'The secret of the access key; it is never logged.'),
  s3Prefix: text(
    'REGISTRY_S3_PREFIX',
    '',
    'What the names of all objects begin with, such as `weighhouse/`, so that a bucket can be shared.',
    /^$|^[A-Za-z0-9._-][A-Za-z0-9._/-]{0,254}\/$/,
    'empty or letters, digits, . _ - and / with a / at the end',
  ),
  s3ForcePathStyle: choice(
    'REGISTRY_S3_FORCE_PATH_STYLE',
    ['true', 'false'],
    'Whether the bucket stands in the path (Ceph) or before the host name (AWS).',
  ),
  s3Timeout: integer(
    'REGISTRY_S3_TIMEOUT',
    15,
    'seconds',
    1,
    600,
    'How long one request to S3 may take before it counts as failed; what can be repeated is. After a process died at the end of an upload its client waits four times as long.',
  ),
  inlineMaxBytes: integer(
    'REGISTRY_INLINE_MAX_BYTES',
    16 * KiB,
    'bytes',
    0,
    1 * MiB,
    'The largest blob whose bytes are kept in the database, if it is sent in one request: it costs no file or object, and is never redirected to. 0: none.',
  ),
  redirect: threshold(
    'REGISTRY_REDIRECT',
    'Whether downloads are sent to the S3 gateway (307): never, always, or of blobs of at least so many bytes. Where a client would bring its key or token along, and for several ranges, they are not.',
  ),
  redirectNetworks: networks('REGISTRY_REDIRECT_NETWORKS', 'The clients that are sent there; empty: all.'),
  redirectLifetime: integer(
    'REGISTRY_REDIRECT_LIFETIME',
    900,
    'seconds',
    1,
    7 * DAY,
    'How long after it was given an address of the gateway can be used; a download that has begun goes on.',
  ),
} as const;
