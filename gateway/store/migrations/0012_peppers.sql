-- The peppers that digests are made with: each with a check value, the newest of those in use is the one
-- that is written under. A record that has a digest under two is found by gateways that know either.

CREATE TABLE peppers (
    id TEXT PRIMARY KEY,
    check_value BYTEA NOT NULL,
    since BIGINT NOT NULL,
    retired_at BIGINT
);
INSERT INTO peppers (id, check_value, since)
SELECT used.pepper_id, facts.value, 0 FROM facts, (
    SELECT pepper_id FROM api_keys WHERE pepper_id IS NOT NULL UNION SELECT pepper_id FROM signing_keys
) used
WHERE facts.name = 'pepper_check';
DROP TABLE facts;

ALTER TABLE api_keys ADD COLUMN older_digest BYTEA;
ALTER TABLE api_keys ADD COLUMN older_pepper_id TEXT;
CREATE UNIQUE INDEX api_keys_by_older_digest ON api_keys (older_digest) WHERE older_digest IS NOT NULL;
