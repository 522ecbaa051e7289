-- The edges: what came in from Pike, what goes out to callers, who may call.

-- Verified webhooks, as the bytes that were signed. The same bytes for the same project are one row for ever,
-- so that a replay has no effect however late it comes.
CREATE TABLE inbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id  text NOT NULL,
    body_hash   bytea NOT NULL,
    body        bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    due_at      timestamptz NOT NULL DEFAULT now(),
    fence       integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    done_at     timestamptz,
    outcome     text
);
CREATE UNIQUE INDEX inbox_once ON inbox (project_id, body_hash);
CREATE INDEX inbox_due ON inbox (due_at) WHERE done_at IS NULL;

-- Messages to callers, written in the transaction that made them true.
CREATE TABLE notifications (
    id           uuid PRIMARY KEY,
    project_id   text NOT NULL,
    payout_id    uuid NOT NULL REFERENCES payouts (id),
    seq          bigint NOT NULL,
    kind         text NOT NULL,
    payload      text NOT NULL,
    created_at   timestamptz NOT NULL,
    due_at       timestamptz,
    attempts     integer NOT NULL DEFAULT 0,
    fence        integer NOT NULL DEFAULT 0,
    lease_until  timestamptz,
    delivered_at timestamptz,
    last_error   text,
    UNIQUE (payout_id, seq),
    -- Delivered, given up (visible by its error), or due at a known time.
    CONSTRAINT notifications_never_stuck CHECK (
        due_at IS NOT NULL OR delivered_at IS NOT NULL OR last_error IS NOT NULL)
);
CREATE INDEX notifications_due ON notifications (due_at) WHERE due_at IS NOT NULL;

-- API keys: only the hash of the secret part is kept.
CREATE TABLE api_keys (
    id          text PRIMARY KEY,
    project_id  text NOT NULL,
    name        text NOT NULL,
    secret_hash bytea NOT NULL,
    scopes      text[] NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    CONSTRAINT api_keys_scopes_known CHECK (scopes <@ ARRAY['read', 'write', 'approve', 'operate'])
);
