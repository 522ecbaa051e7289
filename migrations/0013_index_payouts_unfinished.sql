-- A paid payout is looked at a few more times, so that a return is learnt of without a webhook: it may have a
-- time for that, and what is not final has to be found without passing over these.
--
-- To be created by hand first in a large database that is in use, like the one before.
CREATE INDEX IF NOT EXISTS payouts_unfinished ON payouts (state, since)
    WHERE state NOT IN ('succeeded', 'returned', 'failed', 'cancelled');
