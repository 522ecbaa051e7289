-- What is due and not final is found without passing over paid payouts that are due: of these there may be as
-- many as were paid in a day. In the place of payouts_due, which the release before still sweeps by.
--
-- To be created by hand first in a large database that is in use, like 0012.
CREATE INDEX IF NOT EXISTS payouts_due_open ON payouts (next_check_at)
    WHERE state NOT IN ('succeeded', 'returned', 'failed', 'cancelled');
