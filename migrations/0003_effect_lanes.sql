-- Effects are claimed project by project, status reads apart from other calls: each has a rate of its own,
-- and a project whose calls pause must not be scanned past by everybody else's claims.

ALTER TABLE effects ADD COLUMN project_id text;
UPDATE effects e SET project_id = p.project_id FROM payouts p WHERE p.id = e.payout_id;

-- The release before this one goes on inserting without the column.
CREATE FUNCTION effects_know_their_project() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT p.project_id INTO NEW.project_id FROM payouts p WHERE p.id = NEW.payout_id;
    RETURN NEW;
END $$;
CREATE TRIGGER effects_project BEFORE INSERT ON effects
    FOR EACH ROW WHEN (NEW.project_id IS NULL) EXECUTE FUNCTION effects_know_their_project();
ALTER TABLE effects ALTER COLUMN project_id SET NOT NULL;

-- Takes the place of effects_runnable, which the release before still claims by.
CREATE INDEX effects_by_lane ON effects (project_id, (kind = 'read_status'), run_at);
