-- The record of every change. Numbers are taken by running transactions and so arrive out of order; metadata/seals.ts says
-- when those up to one are decided.
create table audit_logs (
  id bigint generated always as identity constraint audit_logs_pk primary key,
  -- The key's id, and its name as it was then.
  actor text collate "C" not null,
  actor_name text not null,
  action text collate "C" not null,
  resource_type text collate "C" not null,
  resource_id text collate "C" not null,
  -- The repository it was done in, if any.
  repository text collate "C",
  details jsonb not null default '{}',
  ip_address text not null,
  user_agent text not null,
  request_id text not null,
  created_at timestamptz not null default now()
);
create index audit_logs_created on audit_logs (created_at, id);
create index audit_logs_actor on audit_logs (actor, created_at, id);
create index audit_logs_action on audit_logs (action, created_at, id);
create index audit_logs_resource_type on audit_logs (resource_type, created_at, id);
create index audit_logs_resource on audit_logs (resource_id, created_at, id);
create index audit_logs_repository on audit_logs (repository, created_at, id) where repository is not null;
-- What the events of a model show: of a busy repository the least.
create index audit_logs_events on audit_logs (repository, created_at, id)
  where repository is not null and resource_type <> 'blob' and action <> 'manifest.pull';

-- Each seals the rows first_id … last_id: a sha256 over the former seal's and over them (metadata/seals.ts).
create table audit_seals (
  id bigint generated always as identity constraint audit_seals_pk primary key,
  first_id bigint not null constraint audit_seals_first unique,
  last_id bigint not null check (last_id >= first_id),
  rows bigint not null,
  hash bytea not null,
  sealed_at timestamptz not null default now()
);

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation';
end
$$;
create trigger audit_logs_append_only before update or delete or truncate on audit_logs
  for each statement execute function refuse_change();
create trigger audit_seals_append_only before update or delete or truncate on audit_seals
  for each statement execute function refuse_change();
create trigger tag_events_append_only before update or delete or truncate on tag_events
  for each statement execute function refuse_change();

-- What the tag meant before, filled by the update that moves it, which alone knows for certain.
alter table tags add column previous text collate "C";
