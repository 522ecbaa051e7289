-- Paid payouts that are to be looked at once more, project by project: each has a rate of its own for reads.
--
-- To be created by hand first in a large database that is in use, like 0012.
CREATE INDEX IF NOT EXISTS payouts_due_paid ON payouts (project_id, next_check_at)
    WHERE state = 'succeeded' AND next_check_at IS NOT NULL;
