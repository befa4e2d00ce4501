-- The bytes of a small segment, which has no object then: it is sealed and in its place from the beginning.
-- Null: they are in the store under its key.
alter table segments add column bytes bytea
  constraint segments_bytes check (bytes is null or (length(bytes) = length and object_size = length and position is not null));
