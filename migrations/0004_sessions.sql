-- Browsers that are signed in (src/auth/sessions.ts). What their cookies hold is not here: `id` is its sha256.
create table sessions (
  id text collate "C" not null constraint sessions_pk primary key,
  -- Whose key was shown, and with which secret: it ends with either.
  key_prefix text collate "C" not null constraint sessions_key references api_keys (key_prefix) on delete cascade,
  fingerprint text collate "C" not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  seen_at timestamptz not null default now()
);
create index sessions_of_key on sessions (key_prefix, created_at, id);
create index sessions_expiry on sessions (expires_at);
