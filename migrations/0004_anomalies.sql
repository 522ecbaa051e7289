-- Anomalies, in the transaction that records them on their payout: how many a project had lately decides
-- whether its confirms are switched off, in that same transaction.
CREATE TABLE anomalies (
    payout_id  uuid NOT NULL REFERENCES payouts (id),
    -- The history entry that tells it.
    seq        bigint NOT NULL,
    project_id text NOT NULL,
    anomaly    text NOT NULL,
    -- Whether it counts towards stopping the line.
    counts     boolean NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (payout_id, seq)
);
CREATE INDEX anomalies_counted ON anomalies (project_id, at) WHERE counts;
