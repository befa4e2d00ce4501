-- Bodies in the making that are to take the place of a blob's: what compaction builds. Like an upload, the row is what
-- names the body until it is the blob's; one whose maker is gone is dropped. No foreign keys to blobs: a blob may go
-- meanwhile, and its body be replaced by a push; whoever finishes looks.
create table replacements (
  digest text collate "C" not null constraint replacements_pk primary key,
  body bigint not null constraint replacements_body_one unique constraint replacements_body references bodies,
  -- The body that the blob had; only while it still has that one is it replaced.
  replaces bigint not null,
  -- When its maker was last seen.
  touched_at timestamptz not null default now()
);
