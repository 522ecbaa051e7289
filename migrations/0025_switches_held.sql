-- Holds the switches until the transaction ends, and says what time it is if they are as the caller thought;
-- nothing if not. In one call, so that a decision that stands on them is one statement: the function looks
-- once it has the lock, whatever the statement saw when it began. Who has to wait for the lock is told
-- nothing either: the rest of the decision bears an earlier time.
CREATE FUNCTION switches_held(seen text) RETURNS timestamptz VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE switches IN ROW SHARE MODE;
    IF seen IS DISTINCT FROM
        (SELECT string_agg(scope || ' ' || confirms, ',' ORDER BY scope COLLATE "C") FROM switches) THEN
        RETURN NULL;
    END IF;
    IF clock_timestamp() > statement_timestamp() + interval '50 milliseconds' THEN
        RETURN NULL;
    END IF;
    RETURN clock_timestamp();
END $$;
