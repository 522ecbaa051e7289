-- Which payouts have changed lately, in the place of payouts_changed: every change has its entry. An index
-- on the payouts themselves would have to be written with every step, and all others with it.
--
-- To be created by hand first in a large database that is in use, like 0012.
CREATE INDEX IF NOT EXISTS history_at ON history (at);
