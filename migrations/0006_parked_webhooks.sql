-- Webhooks that cannot be worked on are parked after some failures, so that they neither come back for ever
-- nor get lost. A parked one is due at no time, which also keeps the release before from claiming it.
ALTER TABLE inbox ADD COLUMN failures integer NOT NULL DEFAULT 0;
ALTER TABLE inbox ADD COLUMN last_error text;
ALTER TABLE inbox ADD COLUMN parked_at timestamptz;
ALTER TABLE inbox ADD CONSTRAINT inbox_parked_is_due_never CHECK (parked_at IS NULL OR due_at = 'infinity');
CREATE INDEX inbox_parked ON inbox (parked_at) WHERE parked_at IS NOT NULL;
