-- How many payouts are flagged is read all the time, and few are.
--
-- To be created by hand first in a large database that is in use, like 0012.
CREATE INDEX IF NOT EXISTS payouts_flagged ON payouts (anomaly) WHERE anomaly IS NOT NULL;
