-- Which payouts have changed lately. At the right end of the index, so an update pays little for it.
--
-- Nobody writes to payouts while it is built: in a large database that is in use, create it by hand first, as
-- the runbook says. It is found here then.
CREATE INDEX IF NOT EXISTS payouts_changed ON payouts (updated_at);
