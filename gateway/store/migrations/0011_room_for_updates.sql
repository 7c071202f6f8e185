-- When a key was last used is written often. PostgreSQL does that within the row's page, and leaves the
-- indexes alone, where the page has room.

-- [postgres]
ALTER TABLE api_keys SET (fillfactor = 85);
