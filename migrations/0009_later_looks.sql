-- Anomalies raised on a payout since a person last took its flag off: each is recorded once, however many
-- reads show them in turn. The release before goes on writing only the first.
ALTER TABLE payouts ADD COLUMN raised text[] NOT NULL DEFAULT '{}';
