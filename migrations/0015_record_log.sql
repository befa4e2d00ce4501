-- How far this database has written down beside the bytes what it knows (src/gc/record-log.ts). A database that was restored
-- says here less than its store holds. `behind`: the store knows what this database doesn't, so nothing is removed from it.
create table record_log (
  generation integer not null check (generation >= 0),
  sequence bigint not null check (sequence >= 0),
  behind boolean not null default false,
  only_one boolean not null default true constraint record_log_pk primary key check (only_one)
);

-- What `weighhouse fsck --rebuild` works with; empty at other times. Of a link, a manifest or a tag the last that was written
-- down of it, of a blob every body.
create table rebuilt_things (
  thing text not null check (thing in ('link', 'manifest', 'tag')),
  repository text collate "C" not null,
  -- A digest, or a tag.
  name text collate "C" not null,
  generation integer not null,
  id bigint not null,
  at timestamptz not null,
  -- Of a link or manifest that is there its own, of a tag the manifest's; null: it was removed.
  digest text collate "C",
  media_type text,
  payload bytea,
  constraint rebuilt_things_pk primary key (thing, repository, name)
);
alter table rebuilt_things alter column payload set storage external;
create index rebuilt_things_order on rebuilt_things (thing, generation, id);
create table rebuilt_bodies (
  digest text collate "C" not null,
  fingerprint text collate "C" not null,
  generation integer not null,
  id bigint not null,
  at timestamptz not null,
  size bigint,
  -- Null: the blob was gone.
  segments jsonb,
  -- Whether its objects were found.
  whole boolean not null default false,
  constraint rebuilt_bodies_pk primary key (digest, fingerprint)
);
-- The blobs that a manifest can't be without.
create table rebuilt_needs (
  repository text collate "C" not null,
  manifest text collate "C" not null,
  digest text collate "C" not null,
  size bigint not null,
  constraint rebuilt_needs_pk primary key (repository, manifest, digest)
);
create index rebuilt_needs_digest on rebuilt_needs (digest);
-- Objects that nothing names. `digest`: they were read, and are what is there already.
create table rebuilt_objects (
  key text collate "C" not null constraint rebuilt_objects_pk primary key,
  upload text collate "C" not null,
  index integer not null,
  digest text collate "C"
);
create index rebuilt_objects_upload on rebuilt_objects (upload, index);
-- Uploads of which a record or a row names an object: what else they left is no blob.
create table rebuilt_uploads (
  upload text collate "C" not null constraint rebuilt_uploads_pk primary key
);
