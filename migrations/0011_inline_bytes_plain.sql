-- Weights don't compress, and whether they do costs time to find out.
alter table segments alter column bytes set storage external;
