-- Attempts: a payout that Pike closed unpaid may get a new session. The old one is remembered, so that
-- whatever is told about it later finds its payout.

CREATE TABLE attempts (
    payout_id  uuid NOT NULL REFERENCES payouts (id),
    attempt    integer NOT NULL,
    session_id text NOT NULL,
    ended_as   text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payout_id, attempt),
    CONSTRAINT attempts_ended_as_known CHECK (ended_as IN ('unpaid', 'paid', 'returned'))
);
-- As with payouts: a session belongs to one payout.
CREATE UNIQUE INDEX attempts_session ON attempts (session_id);

-- What was permitted in attempts that are over. A permit moves here when the next attempt begins, so that the
-- table of permits goes on holding at most one for each payout, and effects can only stand on that one.
CREATE TABLE past_permits (
    payout_id   uuid NOT NULL,
    attempt     integer NOT NULL,
    kind        text NOT NULL,
    bound_to    bytea NOT NULL,
    rule_set    text NOT NULL,
    decided_at  timestamptz NOT NULL,
    renewed_at  timestamptz,
    released_at timestamptz,
    PRIMARY KEY (payout_id, attempt),
    CONSTRAINT past_permits_attempt FOREIGN KEY (payout_id, attempt) REFERENCES attempts,
    CONSTRAINT past_permits_kind_known CHECK (kind IN ('confirm', 'cancel'))
);

-- One more state. Each of these lets in what the one before did, so no row has to be looked at again.
ALTER TABLE payouts ADD COLUMN retry_at timestamptz;
ALTER TABLE payouts DROP CONSTRAINT payouts_state_known;
ALTER TABLE payouts ADD CONSTRAINT payouts_state_known CHECK (state IN (
    'accepted', 'starting', 'start_unknown', 'processing', 'on_hold', 'confirming', 'confirm_unknown',
    'settling', 'cancelling', 'cancel_unknown', 'cancel_sent', 'unknown', 'retrying', 'succeeded', 'returned',
    'failed', 'cancelled')) NOT VALID;
ALTER TABLE payouts DROP CONSTRAINT payouts_failed_has_code;
ALTER TABLE payouts ADD CONSTRAINT payouts_failed_has_code CHECK (
    (state IN ('failed', 'retrying')) = (failure_code IS NOT NULL)) NOT VALID;
ALTER TABLE payouts ADD CONSTRAINT payouts_retry_has_time CHECK (
    (state = 'retrying') = (retry_at IS NOT NULL)) NOT VALID;
