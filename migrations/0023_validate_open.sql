-- Reads all payouts, and keeps nobody from them.
ALTER TABLE payouts VALIDATE CONSTRAINT payouts_open_has_secret;
