-- The texts that SQLite alone needs.

-- name: table_names
SELECT name FROM sqlite_master WHERE type = 'table'
