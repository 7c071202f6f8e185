-- The identities of keys are listed by tenant, and found by it.

CREATE INDEX api_keys_by_tenant_subject ON api_keys (tenant_id, subject_id);
