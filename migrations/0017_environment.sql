-- To which of Pike's environments everything in this database belongs: one row, bound by the first payout.
CREATE TABLE environment (
    one   boolean PRIMARY KEY DEFAULT true,
    name  text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT environment_is_one CHECK (one),
    CONSTRAINT environment_known CHECK (name IN ('live', 'demo', 'elsewhere'))
);
