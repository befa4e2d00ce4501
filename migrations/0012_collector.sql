-- concurrently
-- What the collector has condemned: from then on nobody sees it, until somebody names it again or it goes. Said of a link and
-- of a manifest, not of a blob (`blobs.condemned_at` is used no more): "absent" is always said of a repository.
alter table repository_blobs add column if not exists condemned_at timestamptz;
alter table manifests add column if not exists condemned_at timestamptz;
-- `reviews` is the collector's own. Whoever takes a name away only adds a row here, so that nobody waits for anybody.
-- Orphaned: a manifest whose subject was removed.
create table if not exists review_requests (
  id bigint generated always as identity constraint review_requests_pk primary key,
  kind text not null check (kind in ('blob', 'manifest')),
  repository bigint not null,
  digest text collate "C" not null,
  orphaned boolean not null default false,
  at timestamptz not null default now()
);
create index if not exists review_requests_thing on review_requests (kind, repository, digest);
alter table reviews add column if not exists queued_at timestamptz not null default now(),
  add column if not exists orphaned boolean not null default false;
drop index concurrently if exists reviews_due;
create index concurrently reviews_due on reviews (not_before, id);
