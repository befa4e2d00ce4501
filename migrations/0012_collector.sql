-- concurrently
-- What the collector has condemned: from then on nobody sees it, until somebody names it again or it goes. Said of a link and
-- of a manifest, not of a blob (`blobs.condemned_at` is used no more): "absent" is always said of a repository.
alter table repository_blobs add column if not exists condemned_at timestamptz;
alter table manifests add column if not exists condemned_at timestamptz;
-- A review that was asked for again begins anew. Orphaned: a manifest whose subject was removed.
alter table reviews add column if not exists queued_at timestamptz not null default now(),
  add column if not exists orphaned boolean not null default false;
drop index concurrently if exists reviews_due;
create index concurrently reviews_due on reviews (not_before, id);
