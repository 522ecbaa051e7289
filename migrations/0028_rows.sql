-- The rows of a batch, as the writer of payouts gives them to the database: an array of one of these for each
-- table. A release that needs another column makes another type, as the release before still uses this one.

CREATE TYPE moved_row AS (
    payout_id          uuid,
    version            bigint,
    attempt            integer,
    state              text,
    status             text,
    since              timestamptz,
    updated_at         timestamptz,
    next_check_at      timestamptz,
    session_id         text,
    retry_at           timestamptz,
    hold_until         timestamptz,
    hold_cause         text,
    cancel_cause       text,
    failure_code       text,
    permit_kind        text,
    permit_hash        bytea,
    anomaly            text,
    raised             text[],
    provider_payout_id text,
    card_brand         text,
    card_last4         text,
    card_bin           text,
    card_id            text,
    card_country       text,
    rrn                text,
    auth_code          text,
    fee_minor          bigint,
    fee_currency       text,
    error_code         text,
    error_description  text,
    is_final           boolean,
    written_by         bigint
);

CREATE TYPE claim_row AS (
    payout_id uuid,
    id        bigint,
    fence     integer
);

CREATE TYPE kept_row AS (
    payout_id  uuid,
    project_id text,
    known_by   bytea,
    body       bytea,
    hash_alone bytea
);

CREATE TYPE told_row AS (
    payout_id  uuid,
    seq        bigint,
    at         timestamptz,
    event      text,
    decision   text,
    reason     text,
    from_state text,
    to_state   text,
    actor      text,
    detail     text
);

CREATE TYPE permitted_row AS (
    payout_id          uuid,
    kind               text,
    bound_to           bytea,
    rule_set           text,
    at                 timestamptz,
    project_id         text,
    customer_reference text,
    currency           text,
    amount_minor       bigint
);

CREATE TYPE judged_row AS (
    payout_id uuid,
    seq       bigint,
    at        timestamptz,
    rule_set  text,
    outcome   text,
    hits      text,
    inputs    text
);

CREATE TYPE noted_row AS (
    id         uuid,
    project_id text,
    payout_id  uuid,
    seq        bigint,
    kind       text,
    payload    text,
    at         timestamptz,
    lease      float8
);

CREATE TYPE voided_row AS (
    payout_id uuid,
    kind      text
);

CREATE TYPE wanted_row AS (
    payout_id   uuid,
    kind        text,
    permit_kind text,
    project_id  text,
    bound_to    bytea,
    lease       float8
);

CREATE TYPE ordered_row AS (
    id                      uuid,
    project_id              text,
    idempotency_key         text,
    request_fingerprint     bytea,
    amount_minor            bigint,
    currency                text,
    destination_kind        text,
    destination_secret      text,
    destination_fingerprint bytea,
    recipient_name          text,
    customer_reference      text,
    reference               text,
    metadata                text,
    created_by              text,
    lease                   float8
);

CREATE TYPE settled_row AS (
    id          uuid,
    fence       integer,
    delivered   boolean,
    retry_after float8,
    error       text
);
