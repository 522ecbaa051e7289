-- What every step of every payout paid for and nothing needs.

-- The release before looks for what is due by the indexes on payouts: without them it reads the whole table
-- each time. Who goes back to it builds them again first, as the runbook says.
DROP INDEX payouts_due, payouts_due_open, payouts_due_paid, payouts_unfinished, payouts_changed;
DROP INDEX effects_runnable;

-- Each row was checked against its payout by a query and a lock of its own. The one writer adds these rows
-- in the transaction that inserts their payout or holds its lock, and payouts are never deleted. What ties
-- a confirm to its permit stays.
ALTER TABLE history DROP CONSTRAINT history_payout_id_fkey;
ALTER TABLE permits DROP CONSTRAINT permits_payout_id_fkey;
ALTER TABLE effects DROP CONSTRAINT effects_payout_id_fkey;
ALTER TABLE decisions DROP CONSTRAINT decisions_payout_id_fkey;
ALTER TABLE notifications DROP CONSTRAINT notifications_payout_id_fkey;

-- What is open is found by its secret.
ALTER TABLE payouts ADD CONSTRAINT payouts_open_has_secret CHECK (
    (state IN ('succeeded', 'returned', 'failed', 'cancelled')) = (destination_secret IS NULL)) NOT VALID;

-- Room on the page for the next versions of a row.
ALTER TABLE payouts SET (fillfactor = 60);
ALTER TABLE notifications SET (fillfactor = 80);
