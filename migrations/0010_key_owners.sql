-- Whose an API key is, a person or a team: nobody with two keys approves what they ordered themselves.
-- The release before knows nothing of owners: keys that it makes have none.
ALTER TABLE api_keys ADD COLUMN owner text;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_owner_is_a_name CHECK (
    owner ~ '\S' AND char_length(owner) <= 100);
