-- Dead rows are cleaned up at a fixed number of them, however large the table is. As is Postgres' default, a
-- fifth of the table would have to be dead first: two million of ten million. Whoever looks for what is due
-- passes over the entries of what has ended, as these have the earliest times. Of a large table Postgres
-- leaves the indexes alone until one page in fifty has something dead, so a low number does not make it dear;
-- until then the entries stay.
--
-- Nobody who reads or writes waits for these.
ALTER TABLE payouts SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
ALTER TABLE notifications SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
ALTER TABLE told_sessions SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
-- A backlog makes this one large, and what is dead stands in front of it.
ALTER TABLE effects SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
