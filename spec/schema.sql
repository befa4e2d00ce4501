-- What the migrations come to, as PostgreSQL tells it. A test compares; UPDATE_SNAPSHOT=1 writes it anew.

create table api_keys (
  id uuid default gen_random_uuid() not null,
  name text not null,
  key_prefix text collate "C" not null,
  key_hash text not null,
  grants jsonb default '[]'::jsonb not null,
  read_only boolean default false not null,
  is_active boolean default true not null,
  expires_at timestamp with time zone,
  last_used_at timestamp with time zone,
  created_at timestamp with time zone default now() not null
);

create table artifacts (
  id uuid default gen_random_uuid() not null,
  release_id uuid not null,
  name text not null,
  kind text not null,
  "position" integer default 0 not null,
  manifest text collate "C",
  media_type text not null,
  digest text collate "C" not null,
  size_bytes bigint not null,
  path text,
  checksum text,
  format text,
  metadata jsonb default '{}'::jsonb not null,
  repository bigint,
  blob text collate "C",
  created_by text not null,
  created_at timestamp with time zone default now() not null,
  updated_at timestamp with time zone default now() not null
);

create table audit_logs (
  id bigint generated always as identity not null,
  actor text collate "C" not null,
  actor_name text not null,
  action text collate "C" not null,
  resource_type text collate "C" not null,
  resource_id text collate "C" not null,
  repository text collate "C",
  details jsonb default '{}'::jsonb not null,
  ip_address text not null,
  user_agent text not null,
  request_id text not null,
  created_at timestamp with time zone default now() not null
);

create table audit_seals (
  id bigint generated always as identity not null,
  first_id bigint not null,
  last_id bigint not null,
  rows bigint not null,
  hash bytea not null,
  sealed_at timestamp with time zone default now() not null
);

create table blob_homes (
  digest text collate "C" not null,
  repository bigint not null
);

create table blobs (
  digest text collate "C" not null,
  size bigint not null,
  body bigint not null,
  created_at timestamp with time zone default now() not null,
  condemned_at timestamp with time zone,
  quarantined_at timestamp with time zone
);

create table bodies (
  id bigint generated always as identity not null,
  created_at timestamp with time zone default now() not null
);

create table deployment_events (
  id bigint generated always as identity not null,
  deployment_id uuid not null,
  previous text,
  status text not null,
  actor text not null,
  at timestamp with time zone default now() not null
);

create table deployments (
  id uuid default gen_random_uuid() not null,
  release_id uuid not null,
  model_id uuid not null,
  digest text collate "C" not null,
  environment text collate "C" not null,
  status text not null,
  endpoint text,
  replicas integer,
  deployed_by text not null,
  deployed_at timestamp with time zone,
  metadata jsonb default '{}'::jsonb not null,
  created_at timestamp with time zone default now() not null,
  updated_at timestamp with time zone default now() not null
);

create table idempotency_keys (
  actor text collate "C" not null,
  route text collate "C" not null,
  key text collate "C" not null,
  body_digest text collate "C" not null,
  status integer not null,
  response json,
  created_at timestamp with time zone default now() not null
);

create table installation (
  id uuid not null,
  created_at timestamp with time zone default now() not null,
  only_one boolean default true not null,
  beacon uuid,
  beacon_at timestamp with time zone,
  pulls_since timestamp with time zone default now() not null
);

create table manifest_pulls (
  repository bigint not null,
  digest text collate "C" not null,
  pulls bigint not null,
  pulled_at timestamp with time zone not null
);

create table manifest_references (
  repository bigint not null,
  manifest text collate "C" not null,
  digest text collate "C" not null,
  kind text not null,
  media_type text not null,
  size bigint not null,
  blob text collate "C"
);

create table manifests (
  repository bigint not null,
  digest text collate "C" not null,
  media_type text not null,
  artifact_type text,
  subject text collate "C",
  size bigint not null,
  payload bytea not null,
  annotations json,
  created_at timestamp with time zone default now() not null,
  condemned_at timestamp with time zone
);

create table models (
  id uuid default gen_random_uuid() not null,
  name text collate "C" not null,
  storage_path text collate "C" not null,
  repository_id bigint not null,
  repository text,
  company text collate "C",
  base_model text collate "C",
  parameter_count bigint,
  description text,
  tags jsonb default '[]'::jsonb not null,
  metadata jsonb default '{}'::jsonb not null,
  immutable boolean default false not null,
  created_by text not null,
  created_at timestamp with time zone default now() not null,
  updated_at timestamp with time zone default now() not null,
  retention jsonb
);

create table orphans (
  key text collate "C" not null,
  first_seen timestamp with time zone default now() not null,
  cluster text not null
);

create table policies (
  id uuid default gen_random_uuid() not null,
  pattern text collate "C" not null,
  untagged_keep boolean default false not null,
  untagged_days integer,
  protected_tags jsonb default '[]'::jsonb not null,
  quota_bytes bigint,
  created_by text not null,
  created_at timestamp with time zone default now() not null,
  updated_at timestamp with time zone default now() not null,
  retention jsonb
);

create table quota_usage (
  policy uuid not null,
  used_bytes bigint not null
);

create table rebuilt_bodies (
  digest text collate "C" not null,
  fingerprint text collate "C" not null,
  generation integer not null,
  id bigint not null,
  at timestamp with time zone not null,
  size bigint,
  segments jsonb,
  whole boolean default false not null
);

create table rebuilt_needs (
  repository text collate "C" not null,
  manifest text collate "C" not null,
  digest text collate "C" not null,
  size bigint not null
);

create table rebuilt_objects (
  key text collate "C" not null,
  upload text collate "C" not null,
  index integer not null,
  digest text collate "C"
);

create table rebuilt_things (
  thing text not null,
  repository text collate "C" not null,
  name text collate "C" not null,
  generation integer not null,
  id bigint not null,
  at timestamp with time zone not null,
  digest text collate "C",
  media_type text,
  payload bytea
);

create table rebuilt_uploads (
  upload text collate "C" not null
);

create table record_log (
  generation integer not null,
  sequence bigint not null,
  behind boolean default false not null,
  only_one boolean default true not null
);

create table records (
  id bigint generated always as identity not null,
  kind text not null,
  repository text collate "C",
  digest text collate "C",
  tag text collate "C",
  at timestamp with time zone default now() not null
);

create table releases (
  id uuid default gen_random_uuid() not null,
  model_id uuid not null,
  version text collate "C" not null,
  quantization text collate "C",
  tag text collate "C" not null,
  digest text collate "C",
  media_type text,
  artifact_type text,
  size_bytes bigint default 0 not null,
  status text not null,
  release_notes text,
  metadata jsonb default '{}'::jsonb not null,
  facts jsonb,
  version_order text collate "C" not null,
  created_by text not null,
  created_at timestamp with time zone default now() not null,
  updated_at timestamp with time zone default now() not null
);

create table removals (
  key text collate "C" not null,
  not_before timestamp with time zone not null,
  absent_since timestamp with time zone,
  queued_at timestamp with time zone default now() not null
);

create table replacements (
  digest text collate "C" not null,
  body bigint not null,
  replaces bigint not null,
  touched_at timestamp with time zone default now() not null
);

create table repositories (
  id bigint generated always as identity not null,
  name text collate "C" not null,
  created_at timestamp with time zone default now() not null
);

create table repository_blobs (
  repository bigint not null,
  digest text collate "C" not null,
  linked_at timestamp with time zone default now() not null,
  condemned_at timestamp with time zone
);

create table repository_usage (
  repository bigint not null,
  named_bytes bigint not null,
  stored_bytes bigint not null,
  charged_bytes bigint not null,
  manifests bigint not null,
  tags bigint not null,
  blobs bigint not null
);

create table repository_usage_days (
  repository bigint not null,
  day date not null,
  named_bytes bigint not null,
  stored_bytes bigint not null,
  charged_bytes bigint not null
);

create table review_requests (
  id bigint generated always as identity not null,
  kind text not null,
  repository bigint not null,
  digest text collate "C" not null,
  orphaned boolean default false not null,
  at timestamp with time zone default now() not null
);

create table reviews (
  id bigint generated always as identity not null,
  kind text not null,
  repository bigint,
  digest text collate "C" not null,
  not_before timestamp with time zone default now() not null,
  queued_at timestamp with time zone default now() not null,
  orphaned boolean default false not null
);

create table scrubs (
  id bigint generated always as identity not null,
  started_at timestamp with time zone default now() not null,
  last_digest text collate "C" default ''::text not null,
  blobs bigint default 0 not null,
  bytes bigint default 0 not null,
  faults bigint default 0 not null,
  healed bigint default 0 not null,
  unread bigint default 0 not null,
  holder uuid,
  held_at timestamp with time zone,
  finished_at timestamp with time zone
);

create table segments (
  id bigint generated always as identity not null,
  body bigint not null,
  "position" integer,
  key text collate "C" not null,
  length bigint default 0 not null,
  object_size bigint,
  state jsonb,
  sealing_since timestamp with time zone,
  bytes bytea
);

create table sessions (
  id text collate "C" not null,
  key_prefix text collate "C" not null,
  fingerprint text collate "C" not null,
  created_at timestamp with time zone default now() not null,
  expires_at timestamp with time zone not null,
  seen_at timestamp with time zone default now() not null
);

create table signing_keys (
  id text collate "C" not null,
  secret bytea not null,
  created_at timestamp with time zone default now() not null
);

create table tag_events (
  id bigint generated always as identity not null,
  repository bigint not null,
  name text collate "C" not null,
  digest text collate "C",
  previous text collate "C",
  actor text not null,
  at timestamp with time zone default now() not null
);

create table tags (
  repository bigint not null,
  name text collate "C" not null,
  digest text collate "C" not null,
  created_at timestamp with time zone default now() not null,
  updated_at timestamp with time zone default now() not null,
  previous text collate "C"
);

create table uploads (
  id uuid not null,
  repository bigint not null,
  body bigint,
  epoch integer default 0 not null,
  rewound_epoch integer default 0 not null,
  "offset" bigint default 0 not null,
  told_offset bigint default 0 not null,
  algorithm text not null,
  prefix_size bigint default 0 not null,
  prefix_digest text collate "C",
  committed_digest text collate "C",
  actor text not null,
  created_at timestamp with time zone default now() not null,
  expires_at timestamp with time zone not null,
  follower uuid,
  followed_at timestamp with time zone
);

create table usage_blobs_due (
  digest text collate "C" not null,
  since timestamp with time zone not null
);

create table usage_days (
  day date not null,
  named_bytes bigint not null,
  stored_bytes bigint not null,
  repositories bigint not null,
  manifests bigint not null,
  tags bigint not null,
  blobs bigint not null
);

create table usage_repositories_due (
  repository bigint not null,
  since timestamp with time zone not null
);

create table visibility (
  pattern text collate "C" not null,
  is_public boolean not null,
  created_at timestamp with time zone default now() not null
);

alter table api_keys add constraint api_keys_pk PRIMARY KEY (id);
alter table artifacts add constraint artifacts_pk PRIMARY KEY (id);
alter table audit_logs add constraint audit_logs_pk PRIMARY KEY (id);
alter table audit_seals add constraint audit_seals_pk PRIMARY KEY (id);
alter table blob_homes add constraint blob_homes_pk PRIMARY KEY (digest);
alter table blobs add constraint blobs_pk PRIMARY KEY (digest);
alter table bodies add constraint bodies_pk PRIMARY KEY (id);
alter table deployment_events add constraint deployment_events_pk PRIMARY KEY (id);
alter table deployments add constraint deployments_pk PRIMARY KEY (id);
alter table idempotency_keys add constraint idempotency_keys_pk PRIMARY KEY (actor, route, key);
alter table installation add constraint installation_pk PRIMARY KEY (id);
alter table manifest_pulls add constraint manifest_pulls_pk PRIMARY KEY (repository, digest);
alter table manifest_references add constraint manifest_references_pk PRIMARY KEY (repository, manifest, digest);
alter table manifests add constraint manifests_pk PRIMARY KEY (repository, digest);
alter table models add constraint models_pk PRIMARY KEY (id);
alter table orphans add constraint orphans_pk PRIMARY KEY (key);
alter table policies add constraint policies_pk PRIMARY KEY (id);
alter table quota_usage add constraint quota_usage_pk PRIMARY KEY (policy);
alter table rebuilt_bodies add constraint rebuilt_bodies_pk PRIMARY KEY (digest, fingerprint);
alter table rebuilt_needs add constraint rebuilt_needs_pk PRIMARY KEY (repository, manifest, digest);
alter table rebuilt_objects add constraint rebuilt_objects_pk PRIMARY KEY (key);
alter table rebuilt_things add constraint rebuilt_things_pk PRIMARY KEY (thing, repository, name);
alter table rebuilt_uploads add constraint rebuilt_uploads_pk PRIMARY KEY (upload);
alter table record_log add constraint record_log_pk PRIMARY KEY (only_one);
alter table records add constraint records_pk PRIMARY KEY (id);
alter table releases add constraint releases_pk PRIMARY KEY (id);
alter table removals add constraint removals_pk PRIMARY KEY (key);
alter table replacements add constraint replacements_pk PRIMARY KEY (digest);
alter table repositories add constraint repositories_pk PRIMARY KEY (id);
alter table repository_blobs add constraint repository_blobs_pk PRIMARY KEY (repository, digest);
alter table repository_usage add constraint repository_usage_pk PRIMARY KEY (repository);
alter table repository_usage_days add constraint repository_usage_days_pk PRIMARY KEY (repository, day);
alter table review_requests add constraint review_requests_pk PRIMARY KEY (id);
alter table reviews add constraint reviews_pk PRIMARY KEY (id);
alter table scrubs add constraint scrubs_pk PRIMARY KEY (id);
alter table segments add constraint segments_pk PRIMARY KEY (id);
alter table sessions add constraint sessions_pk PRIMARY KEY (id);
alter table signing_keys add constraint signing_keys_pk PRIMARY KEY (id);
alter table tag_events add constraint tag_events_pk PRIMARY KEY (id);
alter table tags add constraint tags_pk PRIMARY KEY (repository, name);
alter table uploads add constraint uploads_pk PRIMARY KEY (id);
alter table usage_blobs_due add constraint usage_blobs_due_pk PRIMARY KEY (digest);
alter table usage_days add constraint usage_days_pk PRIMARY KEY (day);
alter table usage_repositories_due add constraint usage_repositories_due_pk PRIMARY KEY (repository);
alter table visibility add constraint visibility_pk PRIMARY KEY (pattern);
alter table api_keys add constraint api_keys_hash UNIQUE (key_hash);
alter table api_keys add constraint api_keys_name_check CHECK ((length(name) <= 255));
alter table api_keys add constraint api_keys_prefix UNIQUE (key_prefix);
alter table artifacts add constraint artifacts_blob_whole CHECK (((repository IS NULL) = (blob IS NULL)));
alter table artifacts add constraint artifacts_checksum_check CHECK ((length(checksum) <= 255));
alter table artifacts add constraint artifacts_format_check CHECK ((length(format) <= 64));
alter table artifacts add constraint artifacts_kind CHECK ((kind = ANY (ARRAY['layer'::text, 'attached'::text])));
alter table artifacts add constraint artifacts_media_type_check CHECK ((length(media_type) <= 255));
alter table artifacts add constraint artifacts_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text));
alter table artifacts add constraint artifacts_name_check CHECK (((length(name) >= 1) AND (length(name) <= 255)));
alter table artifacts add constraint artifacts_path_check CHECK ((length(path) <= 1024));
alter table artifacts add constraint artifacts_size_bytes_check CHECK ((size_bytes >= 0));
alter table audit_seals add constraint audit_seals_check CHECK ((last_id >= first_id));
alter table audit_seals add constraint audit_seals_first UNIQUE (first_id);
alter table blobs add constraint blobs_body_one UNIQUE (body);
alter table blobs add constraint blobs_size_check CHECK ((size >= 0));
alter table deployments add constraint deployments_endpoint_check CHECK ((length(endpoint) <= 2048));
alter table deployments add constraint deployments_environment_check CHECK (((length(environment) >= 1) AND (length(environment) <= 64)));
alter table deployments add constraint deployments_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text));
alter table deployments add constraint deployments_replicas_check CHECK ((replicas >= 0));
alter table deployments add constraint deployments_status CHECK ((status = ANY (ARRAY['pending'::text, 'active'::text, 'superseded'::text, 'failed'::text, 'retired'::text])));
alter table idempotency_keys add constraint idempotency_keys_key_check CHECK ((length(key) <= 255));
alter table installation add constraint installation_only_one UNIQUE (only_one);
alter table installation add constraint installation_only_one_check CHECK (only_one);
alter table manifest_pulls add constraint manifest_pulls_pulls_check CHECK ((pulls >= 0));
alter table manifest_references add constraint manifest_references_kind_check CHECK ((kind = ANY (ARRAY['config'::text, 'layer'::text, 'manifest'::text])));
alter table manifest_references add constraint manifest_references_size_check CHECK ((size >= 0));
alter table manifests add constraint manifests_size_check CHECK ((size >= 0));
alter table models add constraint models_base_model_check CHECK ((length(base_model) <= 255));
alter table models add constraint models_company_check CHECK ((length(company) <= 255));
alter table models add constraint models_description_check CHECK ((length(description) <= 20000));
alter table models add constraint models_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text));
alter table models add constraint models_name UNIQUE (name);
alter table models add constraint models_name_check CHECK (((length(name) >= 1) AND (length(name) <= 255)));
alter table models add constraint models_parameter_count_check CHECK ((parameter_count >= 0));
alter table models add constraint models_repository_check CHECK ((length(repository) <= 255));
alter table models add constraint models_repository_one UNIQUE (repository_id);
alter table models add constraint models_retention CHECK ((jsonb_typeof(retention) = 'object'::text));
alter table models add constraint models_storage_path UNIQUE (storage_path);
alter table models add constraint models_storage_path_check CHECK ((length(storage_path) <= 255));
alter table models add constraint models_tags_check CHECK ((jsonb_typeof(tags) = 'array'::text));
alter table policies add constraint policies_pattern UNIQUE (pattern);
alter table policies add constraint policies_pattern_check CHECK ((length(pattern) <= 255));
alter table policies add constraint policies_protected_tags_check CHECK ((jsonb_typeof(protected_tags) = 'array'::text));
alter table policies add constraint policies_quota_bytes_check CHECK ((quota_bytes >= 0));
alter table policies add constraint policies_retention CHECK ((jsonb_typeof(retention) = 'object'::text));
alter table policies add constraint policies_untagged CHECK (((NOT untagged_keep) OR (untagged_days IS NULL)));
alter table policies add constraint policies_untagged_days_check CHECK ((untagged_days >= 0));
alter table quota_usage add constraint quota_usage_used_bytes_check CHECK ((used_bytes >= 0));
alter table rebuilt_things add constraint rebuilt_things_thing_check CHECK ((thing = ANY (ARRAY['link'::text, 'manifest'::text, 'tag'::text])));
alter table record_log add constraint record_log_generation_check CHECK ((generation >= 0));
alter table record_log add constraint record_log_only_one_check CHECK (only_one);
alter table record_log add constraint record_log_sequence_check CHECK ((sequence >= 0));
alter table records add constraint records_kind_check CHECK ((kind = ANY (ARRAY['blob'::text, 'link'::text, 'unlink'::text, 'manifest'::text, 'manifest-removed'::text, 'tag'::text, 'tag-removed'::text])));
alter table releases add constraint releases_artifact_type_check CHECK ((length(artifact_type) <= 255));
alter table releases add constraint releases_draft CHECK (((digest IS NULL) = (status = 'draft'::text)));
alter table releases add constraint releases_media_type_check CHECK ((length(media_type) <= 255));
alter table releases add constraint releases_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text));
alter table releases add constraint releases_quantization_check CHECK (((length(quantization) >= 1) AND (length(quantization) <= 64)));
alter table releases add constraint releases_release_notes_check CHECK ((length(release_notes) <= 100000));
alter table releases add constraint releases_size_bytes_check CHECK ((size_bytes >= 0));
alter table releases add constraint releases_status CHECK ((status = ANY (ARRAY['draft'::text, 'published'::text, 'deprecated'::text, 'withdrawn'::text])));
alter table releases add constraint releases_tag_check CHECK (((length(tag) >= 1) AND (length(tag) <= 128)));
alter table releases add constraint releases_version_check CHECK ((length(version) <= 128));
alter table replacements add constraint replacements_body_one UNIQUE (body);
alter table repositories add constraint repositories_name UNIQUE (name);
alter table repositories add constraint repositories_name_check CHECK ((length(name) <= 255));
alter table repository_usage add constraint repository_usage_blobs_check CHECK ((blobs >= 0));
alter table repository_usage add constraint repository_usage_charged_bytes_check CHECK ((charged_bytes >= 0));
alter table repository_usage add constraint repository_usage_manifests_check CHECK ((manifests >= 0));
alter table repository_usage add constraint repository_usage_named_bytes_check CHECK ((named_bytes >= 0));
alter table repository_usage add constraint repository_usage_stored_bytes_check CHECK ((stored_bytes >= 0));
alter table repository_usage add constraint repository_usage_tags_check CHECK ((tags >= 0));
alter table review_requests add constraint review_requests_kind_check CHECK ((kind = ANY (ARRAY['blob'::text, 'manifest'::text])));
alter table reviews add constraint reviews_kind_check CHECK ((kind = ANY (ARRAY['blob'::text, 'manifest'::text])));
alter table reviews add constraint reviews_once UNIQUE NULLS NOT DISTINCT (kind, repository, digest);
alter table segments add constraint segments_bytes CHECK (((bytes IS NULL) OR ((length(bytes) = length) AND (object_size = length) AND ("position" IS NOT NULL))));
alter table segments add constraint segments_check CHECK ((object_size >= length));
alter table segments add constraint segments_key UNIQUE (key);
alter table segments add constraint segments_length_check CHECK ((length >= 0));
alter table segments add constraint segments_not_empty CHECK ((("position" IS NULL) OR (length > 0)));
alter table segments add constraint segments_place UNIQUE (body, "position");
alter table segments add constraint segments_position_check CHECK (("position" >= 0));
alter table tags add constraint tags_name_check CHECK ((length(name) <= 128));
alter table uploads add constraint uploads_body_one UNIQUE (body);
alter table uploads add constraint uploads_committed CHECK (((body IS NULL) = (committed_digest IS NOT NULL)));
alter table uploads add constraint uploads_offset_check CHECK (("offset" >= 0));
alter table uploads add constraint uploads_told CHECK ((told_offset <= "offset"));
alter table uploads add constraint uploads_told_offset_check CHECK ((told_offset >= 0));
alter table visibility add constraint visibility_pattern_check CHECK ((length(pattern) <= 255));
alter table artifacts add constraint artifacts_blob FOREIGN KEY (repository, blob) REFERENCES repository_blobs(repository, digest);
alter table artifacts add constraint artifacts_release FOREIGN KEY (release_id) REFERENCES releases(id) ON DELETE CASCADE;
alter table blob_homes add constraint blob_homes_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table blobs add constraint blobs_body FOREIGN KEY (body) REFERENCES bodies(id);
alter table deployment_events add constraint deployment_events_deployment FOREIGN KEY (deployment_id) REFERENCES deployments(id) ON DELETE CASCADE;
alter table deployments add constraint deployments_model FOREIGN KEY (model_id) REFERENCES models(id) ON DELETE CASCADE;
alter table deployments add constraint deployments_release FOREIGN KEY (release_id) REFERENCES releases(id) ON DELETE CASCADE;
alter table manifest_pulls add constraint manifest_pulls_manifest FOREIGN KEY (repository, digest) REFERENCES manifests(repository, digest) ON DELETE CASCADE;
alter table manifest_references add constraint manifest_references_blob FOREIGN KEY (repository, blob) REFERENCES repository_blobs(repository, digest);
alter table manifest_references add constraint manifest_references_manifest FOREIGN KEY (repository, manifest) REFERENCES manifests(repository, digest) ON DELETE CASCADE;
alter table manifests add constraint manifests_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table models add constraint models_repository FOREIGN KEY (repository_id) REFERENCES repositories(id);
alter table quota_usage add constraint quota_usage_policy FOREIGN KEY (policy) REFERENCES policies(id) ON DELETE CASCADE;
alter table releases add constraint releases_model FOREIGN KEY (model_id) REFERENCES models(id) ON DELETE CASCADE;
alter table replacements add constraint replacements_body FOREIGN KEY (body) REFERENCES bodies(id);
alter table repository_blobs add constraint repository_blobs_blob FOREIGN KEY (digest) REFERENCES blobs(digest);
alter table repository_blobs add constraint repository_blobs_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table repository_usage add constraint repository_usage_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table repository_usage_days add constraint repository_usage_days_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table segments add constraint segments_body FOREIGN KEY (body) REFERENCES bodies(id);
alter table sessions add constraint sessions_key FOREIGN KEY (key_prefix) REFERENCES api_keys(key_prefix) ON DELETE CASCADE;
alter table tag_events add constraint tag_events_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table tags add constraint tags_manifest FOREIGN KEY (repository, digest) REFERENCES manifests(repository, digest);
alter table uploads add constraint uploads_body FOREIGN KEY (body) REFERENCES bodies(id);
alter table uploads add constraint uploads_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table usage_repositories_due add constraint usage_repositories_due_repository FOREIGN KEY (repository) REFERENCES repositories(id);

CREATE INDEX api_keys_created ON public.api_keys USING btree (created_at, id);
CREATE INDEX api_keys_text ON public.api_keys USING gin (name gin_trgm_ops) WITH (gin_pending_list_limit='64');
CREATE INDEX artifacts_attached ON public.artifacts USING btree (created_at, id) WHERE (kind = 'attached'::text);
CREATE INDEX artifacts_blob ON public.artifacts USING btree (repository, blob) WHERE (blob IS NOT NULL);
CREATE INDEX artifacts_created ON public.artifacts USING btree (created_at, id);
CREATE INDEX artifacts_digest ON public.artifacts USING btree (digest);
CREATE INDEX artifacts_format ON public.artifacts USING btree (format, created_at, id) WHERE (format IS NOT NULL);
CREATE INDEX artifacts_release ON public.artifacts USING btree (release_id, kind, "position", id);
CREATE INDEX artifacts_text ON public.artifacts USING gin ((((name || '
'::text) || COALESCE(path, ''::text))) gin_trgm_ops) WITH (gin_pending_list_limit='64');
CREATE INDEX audit_logs_action ON public.audit_logs USING btree (action, created_at, id);
CREATE INDEX audit_logs_actor ON public.audit_logs USING btree (actor, created_at, id);
CREATE INDEX audit_logs_created ON public.audit_logs USING btree (created_at, id);
CREATE INDEX audit_logs_events ON public.audit_logs USING btree (repository, created_at, id) WHERE ((repository IS NOT NULL) AND (resource_type <> 'blob'::text) AND (action <> 'manifest.pull'::text));
CREATE INDEX audit_logs_repository ON public.audit_logs USING btree (repository, created_at, id) WHERE (repository IS NOT NULL);
CREATE INDEX audit_logs_resource ON public.audit_logs USING btree (resource_id, created_at, id);
CREATE INDEX audit_logs_resource_type ON public.audit_logs USING btree (resource_type, created_at, id);
CREATE INDEX blobs_quarantined ON public.blobs USING btree (digest) WHERE (quarantined_at IS NOT NULL);
CREATE INDEX deployment_events_deployment ON public.deployment_events USING btree (deployment_id, id);
CREATE INDEX deployments_by_environment ON public.deployments USING btree (environment, id);
CREATE INDEX deployments_by_status ON public.deployments USING btree (status, id);
CREATE INDEX deployments_created ON public.deployments USING btree (created_at, id);
CREATE INDEX deployments_environment ON public.deployments USING btree (environment, status, created_at, id);
CREATE INDEX deployments_model ON public.deployments USING btree (model_id, environment, status, deployed_at);
CREATE INDEX deployments_model_created ON public.deployments USING btree (model_id, created_at, id);
CREATE INDEX deployments_release ON public.deployments USING btree (release_id, created_at, id);
CREATE INDEX deployments_text ON public.deployments USING gin ((((COALESCE(endpoint, ''::text) || '
'::text) || environment)) COLLATE "default" gin_trgm_ops) WITH (gin_pending_list_limit='64');
CREATE INDEX deployments_updated ON public.deployments USING btree (updated_at, id);
CREATE INDEX idempotency_keys_created ON public.idempotency_keys USING btree (created_at);
CREATE INDEX manifest_references_blob ON public.manifest_references USING btree (repository, blob) WHERE (blob IS NOT NULL);
CREATE INDEX manifest_references_digest ON public.manifest_references USING btree (repository, digest);
CREATE INDEX manifests_subject ON public.manifests USING btree (repository, subject, digest) WHERE (subject IS NOT NULL);
CREATE INDEX models_base_model ON public.models USING btree (COALESCE(base_model, ''::text), id);
CREATE INDEX models_company ON public.models USING btree (COALESCE(company, ''::text), id);
CREATE INDEX models_created ON public.models USING btree (created_at, id);
CREATE INDEX models_parameter_count ON public.models USING btree (COALESCE(parameter_count, ('-1'::integer)::bigint), id);
CREATE INDEX models_tags ON public.models USING gin (tags);
CREATE INDEX models_text ON public.models USING gin ((((((((((name || '
'::text) || storage_path) || '
'::text) || COALESCE(company, ''::text)) || '
'::text) || COALESCE(base_model, ''::text)) || '
'::text) || COALESCE(description, ''::text))) COLLATE "default" gin_trgm_ops) WITH (gin_pending_list_limit='64');
CREATE INDEX models_updated ON public.models USING btree (updated_at, id);
CREATE INDEX policies_created ON public.policies USING btree (created_at, id);
CREATE INDEX rebuilt_needs_digest ON public.rebuilt_needs USING btree (digest);
CREATE INDEX rebuilt_objects_upload ON public.rebuilt_objects USING btree (upload, index);
CREATE INDEX rebuilt_things_order ON public.rebuilt_things USING btree (thing, generation, id);
CREATE INDEX releases_by_quantization ON public.releases USING btree (lower(COALESCE(quantization, ''::text)), id);
CREATE INDEX releases_by_status ON public.releases USING btree (status, id);
CREATE INDEX releases_created ON public.releases USING btree (created_at, id);
CREATE INDEX releases_digest ON public.releases USING btree (digest, model_id) WHERE (digest IS NOT NULL);
CREATE INDEX releases_facts ON public.releases USING btree (id) WHERE ((facts IS NULL) AND (digest IS NOT NULL));
CREATE INDEX releases_model_created ON public.releases USING btree (model_id, created_at, id);
CREATE INDEX releases_model_version ON public.releases USING btree (model_id, version_order, id);
CREATE INDEX releases_quantization ON public.releases USING btree (lower(COALESCE(quantization, ''::text)), model_id, version_order, id);
CREATE INDEX releases_size ON public.releases USING btree (size_bytes, id);
CREATE INDEX releases_text ON public.releases USING gin ((((tag || '
'::text) || COALESCE(release_notes, ''::text))) COLLATE "default" gin_trgm_ops) WITH (gin_pending_list_limit='64');
CREATE INDEX releases_unusual ON public.releases USING btree (status, created_at, id) WHERE (status <> 'published'::text);
CREATE INDEX releases_updated ON public.releases USING btree (updated_at, id);
CREATE INDEX releases_version ON public.releases USING btree (version_order, id);
CREATE INDEX removals_due ON public.removals USING btree (not_before);
CREATE INDEX repository_blobs_digest ON public.repository_blobs USING btree (digest, repository);
CREATE INDEX repository_usage_charged ON public.repository_usage USING btree (charged_bytes, repository);
CREATE INDEX repository_usage_named ON public.repository_usage USING btree (named_bytes, repository);
CREATE INDEX repository_usage_stored ON public.repository_usage USING btree (stored_bytes, repository);
CREATE INDEX review_requests_thing ON public.review_requests USING btree (kind, repository, digest);
CREATE INDEX reviews_due ON public.reviews USING btree (not_before, id);
CREATE INDEX sessions_expiry ON public.sessions USING btree (expires_at);
CREATE INDEX sessions_of_key ON public.sessions USING btree (key_prefix, created_at, id);
CREATE INDEX tag_events_tag ON public.tag_events USING btree (repository, name, id);
CREATE INDEX tags_digest ON public.tags USING btree (repository, digest);
CREATE INDEX tags_folded ON public.tags USING btree (repository, lower(name));
CREATE INDEX tags_words ON public.tags USING btree (repository, name) WHERE (name !~ '^[vV]?[0-9]'::text);
CREATE INDEX uploads_actor ON public.uploads USING btree (actor) WHERE (committed_digest IS NULL);
CREATE INDEX uploads_expiry ON public.uploads USING btree (expires_at);
CREATE INDEX usage_blobs_due_since ON public.usage_blobs_due USING btree (since, digest);
CREATE INDEX usage_repositories_due_since ON public.usage_repositories_due USING btree (since, repository);
CREATE UNIQUE INDEX artifacts_draft_path ON public.artifacts USING btree (release_id, sha256((path)::bytea)) WHERE (blob IS NOT NULL);
CREATE UNIQUE INDEX deployments_active ON public.deployments USING btree (model_id, environment) WHERE (status = 'active'::text);
CREATE UNIQUE INDEX releases_identity ON public.releases USING btree (model_id, lower(version), lower(COALESCE(quantization, ''::text)));
CREATE UNIQUE INDEX scrubs_under_way ON public.scrubs USING btree ((true)) WHERE (finished_at IS NULL);
