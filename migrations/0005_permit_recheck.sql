-- What a confirm is about, looked at once more right before it is sent: the effect carries the hash of what
-- was decided about, and a permit is as old as the last time that it was decided or decided again.
ALTER TABLE effects ADD COLUMN bound_to bytea;
UPDATE effects e SET bound_to = m.bound_to FROM permits m
    WHERE m.payout_id = e.payout_id AND m.kind = e.permit_kind;
ALTER TABLE permits ADD COLUMN renewed_at timestamptz;
