-- Paid payouts that are to be looked at once more, project by project, in the place of payouts_due_paid.
--
-- To be created by hand first in a large database that is in use, like 0012.
CREATE INDEX IF NOT EXISTS payouts_paid ON payouts (project_id, next_check_at)
    WHERE destination_secret IS NULL AND next_check_at IS NOT NULL;
