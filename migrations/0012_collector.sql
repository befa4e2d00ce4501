-- What the collector has condemned: from then on nobody sees it, until somebody names it again or it goes. Said of a link and
-- of a manifest, not of a blob (`blobs.condemned_at` is used no more): "absent" is always said of a repository.
alter table repository_blobs add column condemned_at timestamptz;
alter table manifests add column condemned_at timestamptz;
-- A review that was asked for again begins anew. Orphaned: a manifest whose subject was removed.
alter table reviews add column queued_at timestamptz not null default now(), add column orphaned boolean not null default false;
create index reviews_due on reviews (not_before, id);
