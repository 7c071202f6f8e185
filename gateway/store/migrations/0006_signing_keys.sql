-- The keys that sign tokens: the public half as it is, the private one sealed under a key of the pepper.

CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    public_pem TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    pepper_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);
