-- The metadata API's half: what the tags of a model's repository mean, and where it runs.
-- Lengths are those of spec/openapi.yaml. Texts that are compared without regard to case are ASCII (COLLATE "C").

-- For texts that may stand anywhere in a row. What a push adds to such an index waits in a list that stays short, so that whoever
-- searches reads little of it. A line feed is in none of the texts that are asked for: nothing is found across two columns.
create extension if not exists pg_trgm;

create table models (
  id uuid not null default gen_random_uuid() constraint models_pk primary key,
  name text collate "C" not null constraint models_name unique check (length(name) between 1 and 255),
  -- The repository that holds the weights: by name, as the API says it, and by its row.
  storage_path text collate "C" not null constraint models_storage_path unique check (length(storage_path) <= 255),
  repository_id bigint not null constraint models_repository_one unique constraint models_repository references repositories,
  -- What older clients call it.
  repository text check (length(repository) <= 255),
  company text collate "C" check (length(company) <= 255),
  base_model text collate "C" check (length(base_model) <= 255),
  parameter_count bigint check (parameter_count >= 0),
  description text check (length(description) <= 20000),
  tags jsonb not null default '[]' check (jsonb_typeof(tags) = 'array'),
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  immutable boolean not null default false,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index models_created on models (created_at, id);
create index models_updated on models (updated_at, id);
create index models_company on models ((coalesce(company, '')), id);
create index models_base_model on models ((coalesce(base_model, '')), id);
create index models_parameter_count on models ((coalesce(parameter_count, -1)), id);
create index models_tags on models using gin (tags);
create index models_text on models using gin (
  ((name || E'\n' || storage_path || E'\n' || coalesce(company, '') || E'\n' || coalesce(base_model, '') || E'\n' ||
    coalesce(description, '')) collate "default") gin_trgm_ops) with (gin_pending_list_limit = 64);

create table releases (
  id uuid not null default gen_random_uuid() constraint releases_pk primary key,
  model_id uuid not null constraint releases_model references models on delete cascade,
  version text collate "C" not null check (length(version) <= 128),
  -- As it was written; null: the tag names none.
  quantization text collate "C" check (length(quantization) between 1 and 64),
  tag text collate "C" not null check (length(tag) between 1 and 128),
  -- Of the manifest; null: a draft.
  digest text collate "C",
  media_type text check (length(media_type) <= 255),
  artifact_type text check (length(artifact_type) <= 255),
  size_bytes bigint not null default 0 check (size_bytes >= 0),
  status text not null constraint releases_status check (status in ('draft', 'published', 'deprecated', 'withdrawn')),
  release_notes text check (length(release_notes) <= 100000),
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  -- What manifest, config and file names say; null: not read yet.
  facts jsonb,
  -- Semantic order of versions as text in byte order (weights/version.ts).
  version_order text collate "C" not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint releases_draft check ((digest is null) = (status = 'draft'))
);
create unique index releases_identity on releases (model_id, lower(version), lower(coalesce(quantization, '')));
create index releases_created on releases (created_at, id);
create index releases_updated on releases (updated_at, id);
create index releases_version on releases (version_order, id);
create index releases_size on releases (size_bytes, id);
create index releases_by_quantization on releases (lower(coalesce(quantization, '')), id);
create index releases_by_status on releases (status, id);
create index releases_model_created on releases (model_id, created_at, id);
create index releases_model_version on releases (model_id, version_order, id);
create index releases_quantization on releases (lower(coalesce(quantization, '')), model_id, version_order, id);
-- The few that are drafts, deprecated or withdrawn; a push makes none.
create index releases_unusual on releases (status, created_at, id) where status <> 'published';
create index releases_digest on releases (digest, model_id) where digest is not null;
create index releases_text on releases using gin (((tag || E'\n' || coalesce(release_notes, '')) collate "default") gin_trgm_ops)
  with (gin_pending_list_limit = 64);
create index releases_facts on releases (id) where facts is null and digest is not null;

create table deployments (
  id uuid not null default gen_random_uuid() constraint deployments_pk primary key,
  release_id uuid not null constraint deployments_release references releases on delete cascade,
  -- The release's, repeated for the indexes.
  model_id uuid not null constraint deployments_model references models on delete cascade,
  -- Of the manifest that runs, whatever the tag means by now.
  digest text collate "C" not null,
  environment text collate "C" not null check (length(environment) between 1 and 64),
  status text not null constraint deployments_status check (status in ('pending', 'active', 'superseded', 'failed', 'retired')),
  endpoint text check (length(endpoint) <= 2048),
  replicas integer check (replicas >= 0),
  deployed_by text not null,
  -- When it last became active; null: never.
  deployed_at timestamptz,
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create unique index deployments_active on deployments (model_id, environment) where status = 'active';
create index deployments_release on deployments (release_id, created_at, id);
create index deployments_model on deployments (model_id, environment, status, deployed_at);
create index deployments_model_created on deployments (model_id, created_at, id);
create index deployments_environment on deployments (environment, status, created_at, id);
create index deployments_created on deployments (created_at, id);
create index deployments_updated on deployments (updated_at, id);
create index deployments_by_environment on deployments (environment, id);
create index deployments_by_status on deployments (status, id);
create index deployments_text on deployments using gin (((coalesce(endpoint, '') || E'\n' || environment) collate "default") gin_trgm_ops)
  with (gin_pending_list_limit = 64);

-- What became of a deployment, when, by whom.
create table deployment_events (
  id bigint generated always as identity constraint deployment_events_pk primary key,
  deployment_id uuid not null constraint deployment_events_deployment references deployments on delete cascade,
  -- Null: it was created.
  previous text,
  status text not null,
  actor text not null,
  at timestamptz not null default now()
);
create index deployment_events_deployment on deployment_events (deployment_id, id);

create table artifacts (
  id uuid not null default gen_random_uuid() constraint artifacts_pk primary key,
  release_id uuid not null constraint artifacts_release references releases on delete cascade,
  name text not null check (length(name) between 1 and 255),
  kind text not null constraint artifacts_kind check (kind in ('layer', 'attached')),
  -- Among the layers of one manifest.
  position integer not null default 0,
  -- The referrer that attaches it; null: the release's own manifest, or a draft's.
  manifest text collate "C",
  media_type text not null check (length(media_type) <= 255),
  digest text collate "C" not null,
  size_bytes bigint not null check (size_bytes >= 0),
  path text check (length(path) <= 1024),
  checksum text check (length(checksum) <= 255),
  format text check (length(format) <= 64),
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  -- Of a draft's file: its blob stays in the repository as long as the draft needs it.
  repository bigint,
  blob text collate "C",
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint artifacts_blob foreign key (repository, blob) references repository_blobs (repository, digest),
  constraint artifacts_blob_whole check ((repository is null) = (blob is null))
);
-- By their digest: a path may be longer than what a row of an index holds.
create unique index artifacts_draft_path on artifacts (release_id, sha256(path::bytea)) where blob is not null;
create index artifacts_release on artifacts (release_id, kind, position, id);
create index artifacts_created on artifacts (created_at, id);
create index artifacts_digest on artifacts (digest);
create index artifacts_text on artifacts using gin ((name || E'\n' || coalesce(path, '')) gin_trgm_ops)
  with (gin_pending_list_limit = 64);
create index artifacts_format on artifacts (format, created_at, id) where format is not null;
-- The few that are attached to a release; a push of a model makes none.
create index artifacts_attached on artifacts (created_at, id) where kind = 'attached';
create index artifacts_blob on artifacts (repository, blob) where blob is not null;

-- Answers of POSTs, kept for a day so that a repeated one is not a second change.
create table idempotency_keys (
  actor text collate "C" not null,
  route text collate "C" not null,
  key text collate "C" not null check (length(key) <= 255),
  -- Of the request's body.
  body_digest text collate "C" not null,
  status integer not null,
  response json,
  created_at timestamptz not null default now(),
  constraint idempotency_keys_pk primary key (actor, route, key)
);
create index idempotency_keys_created on idempotency_keys (created_at);

-- All spellings of a tag that differ in case or separator are one release.
-- Aliases, and the few others that do not begin as versions do.
create index tags_words on tags (repository, name) where name !~ '^[vV]?[0-9]';
create index tags_folded on tags (repository, lower(name));

create index api_keys_text on api_keys using gin (name gin_trgm_ops) with (gin_pending_list_limit = 64);
