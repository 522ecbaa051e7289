-- What the background checker works with: what Pike has told about each session, read from the signed bytes
-- in the inbox and from nothing of ours; what it has found; and how far it has come.

CREATE TABLE told_sessions (
    project_id   text NOT NULL,
    session_id   text NOT NULL,
    -- The metadata that Pike shows, and the payout that they name, whether or not we have one of that name.
    tag          text,
    payout_id    uuid,
    payouts      integer NOT NULL,
    amount_minor bigint,
    currency     text,
    -- Once told, always told.
    ready        boolean NOT NULL,
    paid_payouts integer NOT NULL,
    paid_minor   bigint NOT NULL,
    -- The newest thing told, by Pike's clock.
    newest       text NOT NULL,
    newest_at    timestamptz NOT NULL,
    inbox_id     bigint NOT NULL,
    received_at  timestamptz NOT NULL,
    CONSTRAINT told_newest_known CHECK (
        newest IN ('working', 'ready', 'paid', 'returned', 'unpaid', 'error', 'unreadable')),
    PRIMARY KEY (project_id, session_id)
);
CREATE INDEX told_by_payout ON told_sessions (payout_id) WHERE payout_id IS NOT NULL;
CREATE INDEX told_for_nobody ON told_sessions (project_id, session_id)
    WHERE payout_id IS NULL AND paid_payouts > 0;

-- What is not as promised. One that is not found any more stays, with the time since.
CREATE TABLE findings (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    check_name      text NOT NULL,
    -- The payout, or the session, effect or webhook if there is none.
    subject         text NOT NULL,
    payout_id       uuid,
    project_id      text NOT NULL,
    words           text NOT NULL,
    found_at        timestamptz NOT NULL DEFAULT now(),
    seen_at         timestamptz NOT NULL DEFAULT now(),
    gone_at         timestamptz,
    -- A person has looked and says that it may stay as it is.
    accepted_at     timestamptz,
    accepted_reason text,
    UNIQUE (check_name, subject)
);
CREATE INDEX findings_open ON findings (seen_at) WHERE gone_at IS NULL;

-- One row: whose turn it is, and how far the checks have come.
CREATE TABLE checker (
    one_row       boolean PRIMARY KEY DEFAULT true,
    due_at        timestamptz NOT NULL DEFAULT now(),
    fence         bigint NOT NULL DEFAULT 0,
    lease_until   timestamptz,
    inbox_after   bigint NOT NULL DEFAULT 0,
    -- Payouts that have changed since are looked at first; those from before come round with the sweep.
    changed_since timestamptz NOT NULL DEFAULT now(),
    sweep_after   uuid,
    swept_at      timestamptz,
    finished_at   timestamptz,
    took_seconds  double precision,
    CONSTRAINT checker_one_row CHECK (one_row)
);
INSERT INTO checker DEFAULT VALUES;
