-- Policies for the repositories that a pattern matches, and how many bytes repositories hold (decision 0028).
create table policies (
  id uuid constraint policies_pk primary key default gen_random_uuid(),
  pattern text collate "C" not null constraint policies_pattern unique check (length(pattern) <= 255),
  -- What becomes of manifests without a tag: kept, or collected after so many days; neither: this policy says nothing.
  untagged_keep boolean not null default false,
  untagged_days integer check (untagged_days >= 0),
  -- Patterns of tags that only admins may move or remove.
  protected_tags jsonb not null default '[]' check (jsonb_typeof(protected_tags) = 'array'),
  -- What all repositories of the pattern may hold together; null: as much as they like.
  quota_bytes bigint check (quota_bytes >= 0),
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint policies_untagged check (not untagged_keep or untagged_days is null)
);
create index policies_created on policies (created_at, id);

-- What the repositories of a policy with a quota are charged, as of the last count.
create table quota_usage (
  policy uuid constraint quota_usage_pk primary key constraint quota_usage_policy references policies on delete cascade,
  used_bytes bigint not null check (used_bytes >= 0)
);

-- The repository that a blob is charged to: of those that hold it the one that was made first.
create table blob_homes (
  digest text collate "C" not null constraint blob_homes_pk primary key,
  repository bigint not null constraint blob_homes_repository references repositories
);

create table repository_usage (
  repository bigint constraint repository_usage_pk primary key constraint repository_usage_repository references repositories,
  -- What a client pulls that takes every manifest by itself.
  named_bytes bigint not null check (named_bytes >= 0),
  -- The repository's blobs, each once.
  stored_bytes bigint not null check (stored_bytes >= 0),
  -- Those of them that are charged to it: over all repositories each blob once.
  charged_bytes bigint not null check (charged_bytes >= 0),
  manifests bigint not null check (manifests >= 0),
  tags bigint not null check (tags >= 0),
  blobs bigint not null check (blobs >= 0)
);
create index repository_usage_named on repository_usage (named_bytes, repository);
create index repository_usage_stored on repository_usage (stored_bytes, repository);
create index repository_usage_charged on repository_usage (charged_bytes, repository);

-- How it was at the end of each day (UTC) in which anything changed.
create table repository_usage_days (
  repository bigint not null constraint repository_usage_days_repository references repositories,
  day date not null,
  named_bytes bigint not null,
  stored_bytes bigint not null,
  charged_bytes bigint not null,
  constraint repository_usage_days_pk primary key (repository, day)
);

-- Of the whole registry; the last row is how it is now.
create table usage_days (
  day date not null constraint usage_days_pk primary key,
  named_bytes bigint not null,
  stored_bytes bigint not null,
  repositories bigint not null,
  manifests bigint not null,
  tags bigint not null,
  blobs bigint not null
);

-- What has to be counted anew, and since when.
create table usage_repositories_due (
  repository bigint constraint usage_repositories_due_pk primary key constraint usage_repositories_due_repository references repositories,
  since timestamptz not null
);
create index usage_repositories_due_since on usage_repositories_due (since, repository);
create table usage_blobs_due (
  digest text collate "C" not null constraint usage_blobs_due_pk primary key,
  since timestamptz not null
);
create index usage_blobs_due_since on usage_blobs_due (since, digest);

-- A change is marked in the transaction that takes its row out of the records, whichever version of the program does that.
create function mark_usage() returns trigger language plpgsql as $$
begin
  insert into usage_blobs_due (digest, since)
  select digest, min(at) from gone where kind in ('link', 'unlink') group by digest order by digest
      on conflict (digest) do update set since = least(usage_blobs_due.since, excluded.since);
  insert into usage_repositories_due (repository, since)
  select r.id, min(g.at) from gone g join repositories r on r.name = g.repository group by r.id order by r.id
      on conflict (repository) do update set since = least(usage_repositories_due.since, excluded.since);
  return null;
end
$$;
create trigger records_mark_usage after delete on records referencing old table as gone
  for each statement execute function mark_usage();

-- Everything that was there before.
insert into usage_blobs_due (digest, since) select distinct digest, now() from repository_blobs;
insert into usage_repositories_due (repository, since) select id, now() from repositories;
