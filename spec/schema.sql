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

create table installation (
  id uuid not null,
  created_at timestamp with time zone default now() not null,
  only_one boolean default true not null
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
  created_at timestamp with time zone default now() not null
);

create table orphans (
  key text collate "C" not null,
  first_seen timestamp with time zone default now() not null,
  cluster text not null
);

create table records (
  id bigint generated always as identity not null,
  kind text not null,
  repository text collate "C",
  digest text collate "C",
  tag text collate "C",
  at timestamp with time zone default now() not null
);

create table removals (
  key text collate "C" not null,
  not_before timestamp with time zone not null,
  absent_since timestamp with time zone,
  queued_at timestamp with time zone default now() not null
);

create table repositories (
  id bigint generated always as identity not null,
  name text collate "C" not null,
  created_at timestamp with time zone default now() not null
);

create table repository_blobs (
  repository bigint not null,
  digest text collate "C" not null,
  linked_at timestamp with time zone default now() not null
);

create table reviews (
  id bigint generated always as identity not null,
  kind text not null,
  repository bigint,
  digest text collate "C" not null,
  not_before timestamp with time zone default now() not null
);

create table segments (
  id bigint generated always as identity not null,
  body bigint not null,
  "position" integer,
  key text collate "C" not null,
  length bigint default 0 not null,
  object_size bigint,
  state jsonb,
  sealing_since timestamp with time zone
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
  updated_at timestamp with time zone default now() not null
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
  expires_at timestamp with time zone not null
);

create table visibility (
  pattern text collate "C" not null,
  is_public boolean not null,
  created_at timestamp with time zone default now() not null
);

alter table api_keys add constraint api_keys_pk PRIMARY KEY (id);
alter table blobs add constraint blobs_pk PRIMARY KEY (digest);
alter table bodies add constraint bodies_pk PRIMARY KEY (id);
alter table installation add constraint installation_pk PRIMARY KEY (id);
alter table manifest_references add constraint manifest_references_pk PRIMARY KEY (repository, manifest, digest);
alter table manifests add constraint manifests_pk PRIMARY KEY (repository, digest);
alter table orphans add constraint orphans_pk PRIMARY KEY (key);
alter table records add constraint records_pk PRIMARY KEY (id);
alter table removals add constraint removals_pk PRIMARY KEY (key);
alter table repositories add constraint repositories_pk PRIMARY KEY (id);
alter table repository_blobs add constraint repository_blobs_pk PRIMARY KEY (repository, digest);
alter table reviews add constraint reviews_pk PRIMARY KEY (id);
alter table segments add constraint segments_pk PRIMARY KEY (id);
alter table signing_keys add constraint signing_keys_pk PRIMARY KEY (id);
alter table tag_events add constraint tag_events_pk PRIMARY KEY (id);
alter table tags add constraint tags_pk PRIMARY KEY (repository, name);
alter table uploads add constraint uploads_pk PRIMARY KEY (id);
alter table visibility add constraint visibility_pk PRIMARY KEY (pattern);
alter table api_keys add constraint api_keys_hash UNIQUE (key_hash);
alter table api_keys add constraint api_keys_name_check CHECK ((length(name) <= 255));
alter table api_keys add constraint api_keys_prefix UNIQUE (key_prefix);
alter table blobs add constraint blobs_body_one UNIQUE (body);
alter table blobs add constraint blobs_size_check CHECK ((size >= 0));
alter table installation add constraint installation_only_one UNIQUE (only_one);
alter table installation add constraint installation_only_one_check CHECK (only_one);
alter table manifest_references add constraint manifest_references_kind_check CHECK ((kind = ANY (ARRAY['config'::text, 'layer'::text, 'manifest'::text])));
alter table manifest_references add constraint manifest_references_size_check CHECK ((size >= 0));
alter table manifests add constraint manifests_size_check CHECK ((size >= 0));
alter table records add constraint records_kind_check CHECK ((kind = ANY (ARRAY['blob'::text, 'link'::text, 'unlink'::text, 'manifest'::text, 'manifest-removed'::text, 'tag'::text, 'tag-removed'::text])));
alter table repositories add constraint repositories_name UNIQUE (name);
alter table repositories add constraint repositories_name_check CHECK ((length(name) <= 255));
alter table reviews add constraint reviews_kind_check CHECK ((kind = ANY (ARRAY['blob'::text, 'manifest'::text])));
alter table reviews add constraint reviews_once UNIQUE NULLS NOT DISTINCT (kind, repository, digest);
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
alter table blobs add constraint blobs_body FOREIGN KEY (body) REFERENCES bodies(id);
alter table manifest_references add constraint manifest_references_blob FOREIGN KEY (repository, blob) REFERENCES repository_blobs(repository, digest);
alter table manifest_references add constraint manifest_references_manifest FOREIGN KEY (repository, manifest) REFERENCES manifests(repository, digest) ON DELETE CASCADE;
alter table manifests add constraint manifests_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table repository_blobs add constraint repository_blobs_blob FOREIGN KEY (digest) REFERENCES blobs(digest);
alter table repository_blobs add constraint repository_blobs_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table segments add constraint segments_body FOREIGN KEY (body) REFERENCES bodies(id);
alter table tag_events add constraint tag_events_repository FOREIGN KEY (repository) REFERENCES repositories(id);
alter table tags add constraint tags_manifest FOREIGN KEY (repository, digest) REFERENCES manifests(repository, digest);
alter table uploads add constraint uploads_body FOREIGN KEY (body) REFERENCES bodies(id);
alter table uploads add constraint uploads_repository FOREIGN KEY (repository) REFERENCES repositories(id);

CREATE INDEX manifest_references_blob ON public.manifest_references USING btree (repository, blob) WHERE (blob IS NOT NULL);
CREATE INDEX manifest_references_digest ON public.manifest_references USING btree (repository, digest);
CREATE INDEX manifests_subject ON public.manifests USING btree (repository, subject, digest) WHERE (subject IS NOT NULL);
CREATE INDEX removals_due ON public.removals USING btree (not_before);
CREATE INDEX repository_blobs_digest ON public.repository_blobs USING btree (digest, repository);
CREATE INDEX tag_events_tag ON public.tag_events USING btree (repository, name, id);
CREATE INDEX tags_digest ON public.tags USING btree (repository, digest);
CREATE INDEX uploads_actor ON public.uploads USING btree (actor) WHERE (committed_digest IS NULL);
CREATE INDEX uploads_expiry ON public.uploads USING btree (expires_at);
