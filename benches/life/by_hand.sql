CREATE TABLE payouts (
    id                 uuid PRIMARY KEY,
    idempotency_key    text NOT NULL UNIQUE,
    amount             bigint NOT NULL,
    currency           text NOT NULL,
    token              text,
    recipient_name     text NOT NULL,
    customer_reference text NOT NULL,
    reference          text NOT NULL UNIQUE,
    status             text NOT NULL,
    step               integer NOT NULL,
    session_id         text UNIQUE,
    rrn                text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE history (
    payout_id uuid NOT NULL REFERENCES payouts,
    step      integer NOT NULL,
    status    text NOT NULL,
    detail    text,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (payout_id, step)
);
CREATE TABLE permits (
    payout_id  uuid PRIMARY KEY REFERENCES payouts,
    decided_at timestamptz NOT NULL DEFAULT now(),
    rule       text NOT NULL
);
CREATE TABLE inbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body_hash   bytea NOT NULL UNIQUE,
    body        bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    done_at     timestamptz
);
CREATE TABLE notifications (
    payout_id    uuid PRIMARY KEY REFERENCES payouts,
    payload      text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz
);
CREATE TABLE bare (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
