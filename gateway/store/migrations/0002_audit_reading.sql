-- The audit is read by tenant, newest first.

CREATE INDEX audit_by_tenant ON audit (tenant_id, id);
