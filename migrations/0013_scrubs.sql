-- concurrently
-- Passes over all blobs that read and hash them (`weighhouse fsck --deep`, and the scrub in the background). One is under
-- way at a time, and goes on where it was, whoever takes it up.
create table if not exists scrubs (
  id bigint generated always as identity constraint scrubs_pk primary key,
  started_at timestamptz not null default now(),
  -- The last blob that was looked at; they are taken in the order of their digests.
  last_digest text collate "C" not null default '',
  blobs bigint not null default 0,
  bytes bigint not null default 0,
  faults bigint not null default 0,
  healed bigint not null default 0,
  -- Blobs that the storage could not read, though it was there.
  unread bigint not null default 0,
  -- The command at work on it, and when it was last seen; null: it is the background's.
  holder uuid,
  held_at timestamptz,
  finished_at timestamptz
);
create unique index if not exists scrubs_under_way on scrubs ((true)) where finished_at is null;
drop index concurrently if exists blobs_quarantined;
create index concurrently blobs_quarantined on blobs (digest) where quarantined_at is not null;
