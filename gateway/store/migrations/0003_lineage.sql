-- Who stands at the root of a key's lineage, so that caps count; and keys that were removed by their owner.

ALTER TABLE api_keys ADD COLUMN root_id TEXT;
ALTER TABLE api_keys ADD COLUMN removed_at BIGINT;
CREATE INDEX api_keys_by_root ON api_keys (tenant_id, root_id);
CREATE INDEX api_keys_by_maker ON api_keys (created_by_key);
CREATE INDEX api_keys_by_predecessor ON api_keys (replaces);
