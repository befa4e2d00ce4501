-- By which nodes know that they share a store: the name of a small object that whoever started last put into it.
-- Null where nobody has yet. Older versions don't look.
alter table installation add column beacon uuid, add column beacon_at timestamptz;
