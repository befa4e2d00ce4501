-- The registry's half of the data model: which bytes are which blob, and who may see them under which name.
-- Names are in byte order (COLLATE "C"), as the specification sorts them. Constraints are named: errors are told apart by them.

-- One row: the marker that the store's folder or bucket prefix carries too, so that the two are never mixed up.
create table installation (
  id uuid not null constraint installation_pk primary key,
  created_at timestamptz not null default now(),
  only_one boolean not null default true constraint installation_only_one unique check (only_one)
);

create table repositories (
  id bigint generated always as identity constraint repositories_pk primary key,
  name text collate "C" not null constraint repositories_name unique check (length(name) <= 255),
  created_at timestamptz not null default now()
);

-- A body is an ordered list of segments. It is named by an upload while it grows and by a blob once it is committed.
create table bodies (
  id bigint generated always as identity constraint bodies_pk primary key,
  created_at timestamptz not null default now()
);

-- A segment is an object under a key that is used once. Its row exists before the object; the row alone decides the length.
-- position null: a spare, which nothing reads: the segment of a request at work has no place before the first record of
-- its bytes. object_size null: not sealed, or not known; then the segment is ragged.
create table segments (
  id bigint generated always as identity constraint segments_pk primary key,
  body bigint not null constraint segments_body references bodies,
  position integer check (position >= 0),
  key text collate "C" not null constraint segments_key unique,
  length bigint not null default 0 check (length >= 0),
  object_size bigint check (object_size >= length),
  state jsonb,
  -- When somebody last set out to seal the object; until the store's settleSeconds have passed nobody else does.
  sealing_since timestamptz,
  constraint segments_place unique (body, position),
  constraint segments_not_empty check (position is null or length > 0)
);

-- Keys whose last name was taken away by a committed transaction; one job empties this table, and bytes leave by no other way.
create table removals (
  key text collate "C" not null constraint removals_pk primary key,
  not_before timestamptz not null,
  absent_since timestamptz,
  queued_at timestamptz not null default now()
);
create index removals_due on removals (not_before);

-- Objects that no row named when they were seen; a safety net. `cluster` tells a restored database from the one that saw them.
create table orphans (
  key text collate "C" not null constraint orphans_pk primary key,
  first_seen timestamptz not null default now(),
  cluster text not null
);

create table blobs (
  digest text collate "C" not null constraint blobs_pk primary key,
  size bigint not null check (size >= 0),
  body bigint not null constraint blobs_body_one unique constraint blobs_body references bodies,
  created_at timestamptz not null default now(),
  condemned_at timestamptz,
  quarantined_at timestamptz
);

create table repository_blobs (
  repository bigint not null constraint repository_blobs_repository references repositories,
  digest text collate "C" not null constraint repository_blobs_blob references blobs,
  linked_at timestamptz not null default now(),
  constraint repository_blobs_pk primary key (repository, digest)
);
create index repository_blobs_digest on repository_blobs (digest, repository);

create table manifests (
  repository bigint not null constraint manifests_repository references repositories,
  digest text collate "C" not null,
  media_type text not null,
  artifact_type text,
  subject text collate "C",
  size bigint not null check (size >= 0),
  payload bytea not null,
  -- json, not jsonb: it keeps what was pushed, also \u0000.
  annotations json,
  created_at timestamptz not null default now(),
  constraint manifests_pk primary key (repository, digest)
);
-- Payloads do not compress well enough to pay for it on every read.
alter table manifests alter column payload set storage external;
create index manifests_subject on manifests (repository, subject, digest) where subject is not null;

-- What a manifest names. `blob` repeats the digest where it must be in the repository: its foreign key is what keeps a
-- DELETE of a blob and a PUT of a manifest that names it apart.
create table manifest_references (
  repository bigint not null,
  manifest text collate "C" not null,
  digest text collate "C" not null,
  kind text not null check (kind in ('config', 'layer', 'manifest')),
  media_type text not null,
  size bigint not null check (size >= 0),
  blob text collate "C",
  constraint manifest_references_pk primary key (repository, manifest, digest),
  constraint manifest_references_manifest foreign key (repository, manifest) references manifests on delete cascade,
  constraint manifest_references_blob foreign key (repository, blob) references repository_blobs (repository, digest)
);
create index manifest_references_blob on manifest_references (repository, blob) where blob is not null;
create index manifest_references_digest on manifest_references (repository, digest);

create table tags (
  repository bigint not null,
  name text collate "C" not null check (length(name) <= 128),
  digest text collate "C" not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint tags_pk primary key (repository, name),
  constraint tags_manifest foreign key (repository, digest) references manifests
);
create index tags_digest on tags (repository, digest);

-- What a tag meant, when, by whom. Append-only; digest null: removed.
create table tag_events (
  id bigint generated always as identity constraint tag_events_pk primary key,
  repository bigint not null constraint tag_events_repository references repositories,
  name text collate "C" not null,
  digest text collate "C",
  previous text collate "C",
  actor text not null,
  at timestamptz not null default now()
);
create index tag_events_tag on tag_events (repository, name, id);

-- An upload session. `epoch` is raised by whoever takes it; `rewound_epoch` is the last one in which bytes lost their names.
-- (algorithm, prefix_size, prefix_digest) is the digest of the first prefix_size bytes. body null: committed.
create table uploads (
  id uuid not null constraint uploads_pk primary key,
  repository bigint not null constraint uploads_repository references repositories,
  body bigint constraint uploads_body_one unique constraint uploads_body references bodies,
  epoch integer not null default 0,
  rewound_epoch integer not null default 0,
  "offset" bigint not null default 0 check ("offset" >= 0),
  told_offset bigint not null default 0 check (told_offset >= 0),
  algorithm text not null,
  prefix_size bigint not null default 0,
  prefix_digest text collate "C",
  committed_digest text collate "C",
  actor text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint uploads_told check (told_offset <= "offset"),
  constraint uploads_committed check ((body is null) = (committed_digest is not null))
);
create index uploads_expiry on uploads (expires_at);
create index uploads_actor on uploads (actor) where committed_digest is null;

-- The collector's queue: what may have lost its last name, written in the transaction that took it.
create table reviews (
  id bigint generated always as identity constraint reviews_pk primary key,
  kind text not null check (kind in ('blob', 'manifest')),
  repository bigint,
  digest text collate "C" not null,
  not_before timestamptz not null default now(),
  constraint reviews_once unique nulls not distinct (kind, repository, digest)
);

-- bcrypt keeps only the secret of a key; the id finds it.
create table api_keys (
  id uuid not null default gen_random_uuid() constraint api_keys_pk primary key,
  name text not null check (length(name) <= 255),
  key_prefix text collate "C" not null constraint api_keys_prefix unique,
  key_hash text not null constraint api_keys_hash unique,
  grants jsonb not null default '[]',
  read_only boolean not null default false,
  is_active boolean not null default true,
  expires_at timestamptz,
  last_used_at timestamptz,
  created_at timestamptz not null default now()
);
create index api_keys_created on api_keys (created_at, id);

-- Which repositories everybody may pull from, or only those with a grant; the most specific pattern decides.
create table visibility (
  pattern text collate "C" not null constraint visibility_pk primary key check (length(pattern) <= 255),
  is_public boolean not null,
  created_at timestamptz not null default now()
);

-- What signs tokens, on every node. `id` is the `kid` of a token.
create table signing_keys (
  id text collate "C" not null constraint signing_keys_pk primary key,
  secret bytea not null,
  created_at timestamptz not null default now()
);

-- What is still to be written down beside the bytes (src/gc/records.ts), in order; emptied seconds later.
create table records (
  id bigint generated always as identity constraint records_pk primary key,
  kind text not null check (kind in ('blob', 'link', 'unlink', 'manifest', 'manifest-removed', 'tag', 'tag-removed')),
  repository text collate "C",
  digest text collate "C",
  tag text collate "C",
  at timestamptz not null default now()
);
