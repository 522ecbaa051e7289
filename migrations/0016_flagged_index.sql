-- How many payouts are flagged is read all the time, and few are. On a large database that is in use, make it
-- by hand first (CREATE INDEX CONCURRENTLY, under this name; docs/runbook.md).
CREATE INDEX IF NOT EXISTS payouts_flagged ON payouts (anomaly) WHERE anomaly IS NOT NULL;
