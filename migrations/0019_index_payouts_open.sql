-- What is open is looked at when its time has come. A payout has its destination's secret for as long as it
-- is open: the secret goes when nothing can be sent any more, and changes at no other time. So an update
-- that moves a payout on touches no index, and its row finds room beside the version before (HOT). An index
-- on the state, or with the state in its condition, would be written anew for every step of every payout,
-- and all others with it.
--
-- To be created by hand first in a large database that is in use, like 0012.
CREATE INDEX IF NOT EXISTS payouts_open ON payouts (next_check_at) WHERE destination_secret IS NOT NULL;
