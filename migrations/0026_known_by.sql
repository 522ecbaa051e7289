-- From now on the bytes of a webhook are known by the payout that they name and their hash. Ids are ordered
-- by time, so the index over all webhooks there ever were is written at its end; by the hash alone each
-- insert changed a page anywhere in it. The release before goes on by the hash alone, and both find those.
COMMENT ON COLUMN inbox.body_hash IS
    'SHA-256 of body, behind the 16 bytes of the id of the payout that body names, if it names one';
