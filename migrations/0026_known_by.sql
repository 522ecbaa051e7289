-- From now on the bytes of a webhook are known by the payout that they name and their hash. Ids are ordered
-- by time, so the index over all webhooks there ever were is written at its end; by the hash alone each
-- insert changed a page anywhere in it. What the release before keeps by the hash alone is known still; it
-- does not know what this one keeps.
COMMENT ON COLUMN inbox.body_hash IS
    'SHA-256 of body, behind the 16 bytes of the id of the payout that body names, if it names one';
