-- What 0008 left to be looked at: every row, once, while everybody goes on reading and writing.
ALTER TABLE payouts
    VALIDATE CONSTRAINT payouts_state_known,
    VALIDATE CONSTRAINT payouts_failed_has_code,
    VALIDATE CONSTRAINT payouts_retry_has_time;
