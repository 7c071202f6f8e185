-- Portable to both engines: times are BIGINT epoch milliseconds, ids are TEXT.
-- A setting of a tenant that is NULL is left to the gateway's own policy.

CREATE TABLE tenants (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    api_keys_enabled BOOLEAN,
    max_keys_per_user INTEGER,
    max_api_key_expiry TEXT,
    scim_client_expiry TEXT,
    last_number BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE environments (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    prefix TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    environment_id TEXT,
    subject_id TEXT NOT NULL,
    sub_type TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_by_key TEXT,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    role TEXT NOT NULL,
    permission TEXT NOT NULL,
    intended_use TEXT,
    prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    hash_algo TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT,
    revoked_by TEXT,
    replaces TEXT,
    last_used_at BIGINT,
    digest BYTEA UNIQUE,
    pepper_id TEXT,
    locator TEXT NOT NULL UNIQUE,
    verifier TEXT NOT NULL,
    UNIQUE (tenant_id, number),
    FOREIGN KEY (tenant_id, environment_id) REFERENCES environments (tenant_id, id)
);

CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    entity TEXT NOT NULL,
    tenant_id TEXT,
    source TEXT NOT NULL,
    request_id TEXT,
    detail TEXT
);

-- One row: every writer takes its numbers here, so they become visible in order and without gaps.
CREATE TABLE change_counter (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number BIGINT NOT NULL
);
INSERT INTO change_counter (one, number) VALUES (1, 0);

CREATE TABLE changes (
    number BIGINT PRIMARY KEY,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    entity TEXT NOT NULL,
    at BIGINT NOT NULL
);

-- What holds of the store as a whole: the check value of the pepper it is tied to.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);
