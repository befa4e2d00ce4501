-- Rules by which releases go, and what is known of pulls (decision 0031).

-- Null: this policy says nothing. Otherwise {"keep": true}, or what keeps a release; one that nothing keeps goes.
alter table policies add column retention jsonb constraint policies_retention check (jsonb_typeof(retention) = 'object');
-- Instead of what policies say.
alter table models add column retention jsonb constraint models_retention check (jsonb_typeof(retention) = 'object');

-- How often a manifest was pulled, and when last. Written in the background, some seconds after.
create table manifest_pulls (
  repository bigint not null,
  digest text collate "C" not null,
  pulls bigint not null check (pulls >= 0),
  pulled_at timestamptz not null,
  constraint manifest_pulls_pk primary key (repository, digest),
  constraint manifest_pulls_manifest foreign key (repository, digest) references manifests on delete cascade
);

-- Since when pulls are known without a gap: before, everything may have been pulled.
alter table installation add column pulls_since timestamptz not null default now();
