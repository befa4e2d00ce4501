import { DAY, integer, list } from './kinds.js';

/** Work in the background. */
export const backgroundSettings = {
  jobInterval: integer(
    'REGISTRY_JOB_INTERVAL',
    60,
    'seconds',
    1,
    DAY,
    'How often expired sessions and removals are looked after.',
  ),
  removalDelay: integer(
    'REGISTRY_REMOVAL_DELAY',
    3600,
    'seconds',
    0,
    30 * DAY,
    'How long after a first removal the store is looked at again; must exceed the longest stall of a writer.',
  ),
  readGrace: integer(
    'REGISTRY_READ_GRACE',
    DAY,
    'seconds',
    0,
    365 * DAY,
    'How long the bytes of a replaced or collected blob stay for downloads that are reading them.',
  ),
  recordInterval: integer(
    'REGISTRY_RECORD_INTERVAL',
    5,
    'seconds',
    1,
    3600,
    'How often what changed is written down beside the blobs, so that a lost database can be rebuilt.',
  ),
  auditSealInterval: integer(
    'REGISTRY_AUDIT_SEAL_INTERVAL',
    3,
    'seconds',
    1,
    3600,
    'How often new rows of the audit log are sealed, so that a later change of them is found.',
  ),
  auditReads: list(
    'REGISTRY_AUDIT_READS',
    'patterns of repositories',
    'Where pulls are written to the audit log, too: `**` for everywhere, `team/*`; empty: nowhere. Seconds behind, and what is not written when a process is killed is lost.',
  ),
  orphanInterval: integer(
    'REGISTRY_ORPHAN_INTERVAL',
    DAY,
    'seconds',
    1,
    365 * DAY,
    'How often the store is searched for objects that nothing names.',
  ),
  orphanAge: integer(
    'REGISTRY_ORPHAN_AGE',
    7 * DAY,
    'seconds',
    0,
    365 * DAY,
    'How long an object in the store that nothing names stays after it was first seen.',
  ),
} as const;
