-- The tables of a payout's life. One writer (engine::apply) changes payouts, history, effects, permits,
-- decisions and notifications, always in one transaction. The named CHECKs repeat the invariants that the
-- decisions rely on, so that a mistake stops at the database.

CREATE TABLE payouts (
    id                      uuid PRIMARY KEY,
    project_id              text NOT NULL,
    -- What was asked. Never updated, except that the destination's secret is erased when it is of no more
    -- use.
    idempotency_key         text NOT NULL,
    request_fingerprint     bytea NOT NULL,
    amount_minor            bigint NOT NULL,
    currency                text NOT NULL,
    destination_kind        text NOT NULL,
    destination_secret      text,
    destination_fingerprint bytea NOT NULL,
    recipient_name          text NOT NULL,
    customer_reference      text NOT NULL,
    reference               text,
    metadata                text NOT NULL,
    created_by              text NOT NULL,
    created_at              timestamptz NOT NULL,
    -- Where it stands. Written by the engine alone.
    version                 bigint NOT NULL,
    attempt                 integer NOT NULL,
    state                   text NOT NULL,
    status                  text NOT NULL,
    since                   timestamptz NOT NULL,
    updated_at              timestamptz NOT NULL,
    next_check_at           timestamptz,
    session_id              text,
    hold_until              timestamptz,
    hold_cause              text,
    cancel_cause            text,
    failure_code            text,
    permit_kind             text,
    permit_hash             bytea,
    anomaly                 text,
    -- What Pike told.
    provider_payout_id      text,
    card_brand              text,
    card_last4              text,
    card_bin                text,
    card_id                 text,
    card_country            text,
    rrn                     text,
    auth_code               text,
    fee_minor               bigint,
    fee_currency            text,
    error_code              text,
    error_description       text,

    CONSTRAINT payouts_amount_positive CHECK (amount_minor BETWEEN 1 AND 1000000000000),
    CONSTRAINT payouts_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT payouts_destination_kind CHECK (
        destination_kind IN ('tokenized_card', 'encrypted_card', 'recurrent')),
    CONSTRAINT payouts_state_known CHECK (state IN (
        'accepted', 'starting', 'start_unknown', 'processing', 'on_hold', 'confirming', 'confirm_unknown',
        'settling', 'cancelling', 'cancel_unknown', 'cancel_sent', 'unknown', 'succeeded', 'returned',
        'failed', 'cancelled')),
    -- Nothing that is not final may be without a time at which somebody looks at it again.
    CONSTRAINT payouts_never_stuck CHECK (
        state IN ('succeeded', 'returned', 'failed', 'cancelled') OR next_check_at IS NOT NULL),
    CONSTRAINT payouts_session_stored_before_start CHECK (
        state IN ('accepted', 'cancelled') OR session_id IS NOT NULL),
    CONSTRAINT payouts_hold_ends CHECK (
        (state = 'on_hold') = (hold_until IS NOT NULL AND hold_cause IS NOT NULL)),
    CONSTRAINT payouts_confirm_permitted CHECK (
        state NOT IN ('confirming', 'confirm_unknown', 'settling')
        OR permit_kind IS NOT DISTINCT FROM 'confirm'),
    CONSTRAINT payouts_cancel_permitted CHECK (
        state NOT IN ('cancelling', 'cancel_unknown', 'cancel_sent')
        OR permit_kind IS NOT DISTINCT FROM 'cancel'),
    CONSTRAINT payouts_cancel_has_cause CHECK (
        state NOT IN ('cancelling', 'cancel_unknown', 'cancel_sent', 'cancelled')
        OR cancel_cause IS NOT NULL),
    CONSTRAINT payouts_failed_has_code CHECK ((state = 'failed') = (failure_code IS NOT NULL))
);

-- Idempotency without expiry: a key means the same payout for ever.
CREATE UNIQUE INDEX payouts_idempotency ON payouts (project_id, idempotency_key);
CREATE UNIQUE INDEX payouts_reference ON payouts (project_id, reference) WHERE reference IS NOT NULL;
-- A session belongs to one payout; this is also how webhooks find it.
CREATE UNIQUE INDEX payouts_session ON payouts (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX payouts_by_project ON payouts (project_id, id);
CREATE INDEX payouts_due ON payouts (next_check_at) WHERE next_check_at IS NOT NULL;

-- A payout's story: one row per recorded event, numbered without gaps by the payout's version.
CREATE TABLE history (
    payout_id  uuid NOT NULL REFERENCES payouts (id),
    seq        bigint NOT NULL,
    at         timestamptz NOT NULL,
    event      text NOT NULL,
    decision   text NOT NULL,
    reason     text NOT NULL,
    from_state text,
    to_state   text NOT NULL,
    actor      text,
    detail     text,
    PRIMARY KEY (payout_id, seq)
);

CREATE FUNCTION history_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'history is append-only';
END $$;

CREATE TRIGGER history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON history
    FOR EACH STATEMENT EXECUTE FUNCTION history_is_append_only();

-- The one decision about a payout's money, for good: at most one row per payout, of one kind, bound to the
-- hash of what was decided about.
CREATE TABLE permits (
    payout_id          uuid PRIMARY KEY REFERENCES payouts (id),
    kind               text NOT NULL,
    bound_to           bytea NOT NULL,
    rule_set           text NOT NULL,
    decided_at         timestamptz NOT NULL,
    -- Copied for the recipient's daily total, which is read under a lock on the recipient.
    project_id         text NOT NULL,
    customer_reference text NOT NULL,
    currency           text NOT NULL,
    amount_minor       bigint NOT NULL,
    -- Set when the payout ended provably unpaid, so that it no longer counts.
    released_at        timestamptz,
    CONSTRAINT permits_kind_known CHECK (kind IN ('confirm', 'cancel')),
    UNIQUE (payout_id, kind)
);
CREATE INDEX permits_recipient ON permits (project_id, customer_reference, currency, decided_at)
    WHERE kind = 'confirm' AND released_at IS NULL;

-- Rows to lock while a recipient's daily total is read and added to.
CREATE TABLE recipients (
    project_id         text NOT NULL,
    customer_reference text NOT NULL,
    PRIMARY KEY (project_id, customer_reference)
);

-- Calls to Pike that are to be made. A row is deleted by whoever records the call's outcome; `fence` makes
-- sure that this is the one who holds the lease.
CREATE TABLE effects (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payout_id   uuid NOT NULL REFERENCES payouts (id),
    kind        text NOT NULL,
    permit_kind text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    run_at      timestamptz NOT NULL DEFAULT now(),
    fence       integer NOT NULL DEFAULT 0,
    not_sent    integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    CONSTRAINT effects_kind_known CHECK (
        kind IN ('create_session', 'start_payout', 'confirm', 'cancel', 'read_status')),
    -- A confirm or cancel cannot exist without the permit of its kind.
    CONSTRAINT effects_confirm_needs_permit CHECK (
        permit_kind IS NOT DISTINCT FROM (CASE WHEN kind IN ('confirm', 'cancel') THEN kind END)),
    CONSTRAINT effects_permit FOREIGN KEY (payout_id, permit_kind) REFERENCES permits (payout_id, kind)
);
CREATE UNIQUE INDEX effects_one_live_of_a_kind ON effects (payout_id, kind);
-- In the order in which they are claimed: reads can wait for calls that move something on.
CREATE INDEX effects_runnable ON effects ((kind = 'read_status'), run_at);

-- What the rules said, with what they looked at.
CREATE TABLE decisions (
    payout_id uuid NOT NULL REFERENCES payouts (id),
    seq       bigint NOT NULL,
    at        timestamptz NOT NULL,
    rule_set  text NOT NULL,
    outcome   text NOT NULL,
    hits      text NOT NULL,
    inputs    text NOT NULL,
    PRIMARY KEY (payout_id, seq)
);

CREATE TABLE rule_sets (
    version       text PRIMARY KEY,
    body          text NOT NULL,
    first_used_at timestamptz NOT NULL DEFAULT now()
);

-- The switch for confirms: the row '*' for all, others per project. Off anywhere is off.
CREATE TABLE switches (
    scope      text PRIMARY KEY,
    confirms   boolean NOT NULL,
    changed_by text NOT NULL,
    reason     text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO switches (scope, confirms, changed_by, reason) VALUES ('*', true, 'migration', 'initial');
CREATE TABLE switch_changes (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope      text NOT NULL,
    confirms   boolean NOT NULL,
    changed_by text NOT NULL,
    reason     text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
