-- Anomalies raised on a payout since a person last took its flag off: each is recorded once, however many
-- reads show them in turn. The release before goes on writing only the first.
ALTER TABLE payouts ADD COLUMN raised text[] NOT NULL DEFAULT '{}';

-- A paid payout is looked at a few more times, so that a return is learnt of without a webhook: it may have a
-- time for that, and what is not final has to be found without passing over these.
CREATE INDEX payouts_unfinished ON payouts (state, since)
    WHERE state NOT IN ('succeeded', 'returned', 'failed', 'cancelled');
