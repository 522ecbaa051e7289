-- Dead rows are cleaned up when there are so many, however large the table is. As is Postgres' default, a
-- fifth of the table would have to be dead: two million of ten, and whoever looks for what is due passes over
-- their entries first, as these have the earliest times. Where few pages have any, Postgres does not go
-- through the indexes, so a large table does not make this dear.
ALTER TABLE payouts SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);
ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);
ALTER TABLE notifications SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);
ALTER TABLE told_sessions SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);
