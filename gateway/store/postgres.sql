-- The texts that PostgreSQL alone needs: how transactions begin and end, and what the server is asked of itself.
-- Settings are those of a transaction, in milliseconds, for a session may be shared by way of a pooler. Locks
-- are waited for longer than a frozen gateway can hold one in its idleness.

-- name: begin_write
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = 10000;
SET LOCAL lock_timeout = 6000;
SET LOCAL idle_in_transaction_session_timeout = 3000;
SELECT set_config('synchronous_commit', 'on', TRUE) WHERE current_setting('synchronous_commit') = 'off';
SELECT number FROM change_counter FOR UPDATE

-- name: begin_write_beside
-- Gives up before the server looks for deadlocks (1 s), so that of two it is the other that goes on.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = 10000;
SET LOCAL lock_timeout = 800;
SET LOCAL idle_in_transaction_session_timeout = 3000;
SELECT set_config('synchronous_commit', 'on', TRUE) WHERE current_setting('synchronous_commit') = 'off'

-- name: begin_read
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = 10000;
SET LOCAL idle_in_transaction_session_timeout = 3000

-- name: begin_look
BEGIN READ ONLY;
SET LOCAL statement_timeout = 5000

-- name: begin_poll
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = 3000;
SET LOCAL idle_in_transaction_session_timeout = 3000

-- name: begin_load
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = 10000;
SET LOCAL idle_in_transaction_session_timeout = 60000

-- name: begin_migration
-- Whoever comes second waits here, and then finds nothing left to do.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = 600000;
SET LOCAL lock_timeout = 600000;
SET LOCAL idle_in_transaction_session_timeout = 60000;
SELECT pg_advisory_xact_lock(7449363285160552569)

-- name: commit
COMMIT

-- name: commit_and_notify
SELECT pg_notify('gateway_changes', '');
COMMIT

-- name: server_state
SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
    current_setting('server_encoding')

-- name: schema_columns
SELECT COUNT(*), COUNT(*) FILTER (WHERE attname IN ('version', 'name', 'applied_at'))
FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident(current_schema()) || '.schema_migrations')
    AND attnum > 0 AND NOT attisdropped

-- How many of the tables that a key table is read from are whole: a dump that is being restored gives a table
-- its primary key when all of its rows are there.

-- name: whole_tables
SELECT COUNT(*) FILTER (WHERE indexrelid IS NOT NULL), COUNT(*)
FROM (VALUES ('api_keys'), ('canary'), ('change_counter'), ('changes'), ('ended_tokens'), ('environments'),
    ('memberships'), ('peppers'), ('signing_keys'), ('tenants'), ('users')) AS ours (name)
LEFT JOIN pg_index ON indisprimary
    AND indrelid = to_regclass(quote_ident(current_schema()) || '.' || ours.name)

-- name: follow_head
SELECT change_counter.number, changes.id, pg_is_in_recovery(),
    current_setting('default_transaction_read_only') = 'on',
    CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)
FROM change_counter LEFT JOIN changes ON changes.number = $1
