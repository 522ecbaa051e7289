-- What ends a statement that would write steps upon rows that are no longer as its process wrote them. The
-- code is the service's own: nothing else raises it.
CREATE FUNCTION steps_stale() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a payout or a claim is not as it was' USING ERRCODE = 'PO001';
END $$;
