-- Keys are listed by tenant, newest first unless asked otherwise.

CREATE INDEX api_keys_by_age ON api_keys (tenant_id, created_at, id);
