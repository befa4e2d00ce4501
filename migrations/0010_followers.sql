-- Which process keeps the running digest of an open session and reads what others write, so that they need not: a name
-- that it drew at its start. `followed_at`: when it last was at the session's end, or showed that it is on its way there.
-- Null where nobody is. Older versions don't look: each of their processes reads for itself.
alter table uploads add column follower uuid, add column followed_at timestamptz;
