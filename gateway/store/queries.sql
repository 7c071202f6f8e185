-- Every text that reads or changes a store, by name, for both engines.
-- Parameters are $1, $2, …; a text that must differ carries its engine: "-- name: x [sqlite]".
-- Where time is the store's own, it is its clock at that statement, in epoch milliseconds.

-- name: key
SELECT id, number, tenant_id, environment_id, subject_id, sub_type, created_by, created_by_key, name,
    description, role, permission, intended_use, prefix, last_four, hash_algo, created_at, updated_at,
    expires_at, revoked_at, revoked_by, replaces, last_used_at, digest, pepper_id, locator, verifier,
    root_id, removed_at, older_digest, older_pepper_id
FROM api_keys WHERE id = $1

-- name: key_by_number
SELECT id, number, tenant_id, environment_id, subject_id, sub_type, created_by, created_by_key, name,
    description, role, permission, intended_use, prefix, last_four, hash_algo, created_at, updated_at,
    expires_at, revoked_at, revoked_by, replaces, last_used_at, digest, pepper_id, locator, verifier,
    root_id, removed_at, older_digest, older_pepper_id
FROM api_keys WHERE tenant_id = $1 AND number = $2

-- name: key_by_digest
SELECT id, number, tenant_id, environment_id, subject_id, sub_type, created_by, created_by_key, name,
    description, role, permission, intended_use, prefix, last_four, hash_algo, created_at, updated_at,
    expires_at, revoked_at, revoked_by, replaces, last_used_at, digest, pepper_id, locator, verifier,
    root_id, removed_at, older_digest, older_pepper_id
FROM api_keys WHERE digest = $1 OR older_digest = $1

-- name: active_keys
SELECT COUNT(*) FROM api_keys
WHERE tenant_id = $1 AND root_id = $2 AND revoked_at IS NULL AND expires_at > $3

-- name: describe_key
UPDATE api_keys SET description = $2, updated_at = $3 WHERE id = $1

-- name: remove_key
UPDATE api_keys SET removed_at = $2 WHERE id = $1 AND removed_at IS NULL RETURNING id

-- name: standing
SELECT memberships.role FROM memberships JOIN users ON users.id = memberships.user_id
WHERE memberships.user_id = $1 AND memberships.tenant_id = $2
    AND users.disabled_at IS NULL AND users.removed_at IS NULL

-- name: key_page
SELECT id, number, tenant_id, environment_id, subject_id, sub_type, created_by, created_by_key, name,
    description, role, permission, intended_use, prefix, last_four, hash_algo, created_at, updated_at,
    expires_at, revoked_at, revoked_by, replaces, last_used_at, digest, pepper_id, locator, verifier,
    root_id, removed_at, older_digest, older_pepper_id
FROM api_keys
WHERE tenant_id = $1 AND removed_at IS NULL
    AND (CAST($2 AS TEXT) IS NULL OR created_by = $2)
    AND (CAST($3 AS TEXT) IS NULL OR subject_id = $3)
    AND (CAST($4 AS TEXT) IS NULL OR created_by = $4 OR subject_id = $4)
    AND (CAST($5 AS TEXT) IS NULL OR CASE
        WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= $6 THEN 'expired' ELSE 'active'
    END = $5)
    AND (CAST($7 AS TEXT) IS NULL
        OR (/*sort*/, id) /*beyond*/ (SELECT /*sort*/, id FROM api_keys WHERE id = $7))
ORDER BY /*sort*/ /*order*/, id /*order*/ LIMIT $8

-- name: keys
SELECT id, number, tenant_id, environment_id, subject_id, sub_type, created_by, created_by_key, name,
    description, role, permission, intended_use, prefix, last_four, hash_algo, created_at, updated_at,
    expires_at, revoked_at, revoked_by, replaces, last_used_at, digest, pepper_id, locator, verifier,
    root_id, removed_at, older_digest, older_pepper_id
FROM api_keys ORDER BY tenant_id, number

-- name: keys_of_tenant
SELECT id, number, tenant_id, environment_id, subject_id, sub_type, created_by, created_by_key, name,
    description, role, permission, intended_use, prefix, last_four, hash_algo, created_at, updated_at,
    expires_at, revoked_at, revoked_by, replaces, last_used_at, digest, pepper_id, locator, verifier,
    root_id, removed_at, older_digest, older_pepper_id
FROM api_keys WHERE tenant_id = $1 ORDER BY number

-- name: insert_key
INSERT INTO api_keys (id, number, tenant_id, environment_id, subject_id, sub_type, created_by,
    created_by_key, name, description, role, permission, intended_use, prefix, last_four, hash_algo,
    created_at, updated_at, expires_at, revoked_at, revoked_by, replaces, last_used_at, digest,
    pepper_id, locator, verifier, root_id, removed_at, older_digest, older_pepper_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)

-- name: take_key_numbers
UPDATE tenants SET last_number = last_number + $2 WHERE id = $1 RETURNING last_number

-- name: revoke_key
UPDATE api_keys SET revoked_at = $2, revoked_by = $3, updated_at = $2
WHERE id = $1 AND revoked_at IS NULL RETURNING id

-- name: end_key
UPDATE api_keys SET expires_at = $2, updated_at = $3 WHERE id = $1

-- name: successor
SELECT id FROM api_keys WHERE replaces = $1 AND revoked_at IS NULL

-- name: descendants
WITH RECURSIVE line (id) AS (
    SELECT id FROM api_keys WHERE created_by_key = $1
    UNION
    SELECT api_keys.id FROM api_keys
    JOIN line ON api_keys.created_by_key = line.id OR api_keys.replaces = line.id
)
SELECT id FROM line ORDER BY id

-- name: tenant
SELECT id, name, api_keys_enabled, max_keys_per_user, max_api_key_expiry, scim_client_expiry,
    created_at, updated_at
FROM tenants WHERE id = $1

-- name: tenants
SELECT id, name, api_keys_enabled, max_keys_per_user, max_api_key_expiry, scim_client_expiry,
    created_at, updated_at
FROM tenants ORDER BY id

-- name: tenants_of_user
SELECT tenants.id, tenants.name, tenants.api_keys_enabled, tenants.max_keys_per_user,
    tenants.max_api_key_expiry, tenants.scim_client_expiry, tenants.created_at, tenants.updated_at
FROM tenants JOIN memberships ON memberships.tenant_id = tenants.id
WHERE memberships.user_id = $1 ORDER BY tenants.id

-- name: insert_tenant
INSERT INTO tenants (id, name, api_keys_enabled, max_keys_per_user, max_api_key_expiry,
    scim_client_expiry, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING id

-- name: update_tenant
UPDATE tenants SET name = $2, api_keys_enabled = $3, max_keys_per_user = $4, max_api_key_expiry = $5,
    scim_client_expiry = $6, updated_at = $7
WHERE id = $1

-- name: environment
SELECT id, tenant_id, prefix, created_at, updated_at FROM environments WHERE tenant_id = $1 AND id = $2

-- name: environments
SELECT id, tenant_id, prefix, created_at, updated_at FROM environments ORDER BY tenant_id, id

-- name: environments_of_tenant
SELECT id, tenant_id, prefix, created_at, updated_at FROM environments WHERE tenant_id = $1 ORDER BY id

-- name: insert_environment
INSERT INTO environments (id, tenant_id, prefix, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING id

-- name: prefixes
SELECT DISTINCT prefix FROM environments ORDER BY prefix

-- name: insert_audit
INSERT INTO audit (id, at, actor, action, kind, entity, tenant_id, source, request_id, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: audit_tenant
SELECT tenant_id FROM audit WHERE id = $1

-- name: audit_page
SELECT id, at, actor, action, kind, entity, tenant_id, source, request_id, detail
FROM audit
WHERE (CAST($1 AS TEXT) IS NULL OR tenant_id = $1)
    AND (CAST($2 AS TEXT) IS NULL OR actor = $2)
    AND (CAST($3 AS TEXT) IS NULL OR action = $3 OR substr(action, 1, length($3) + 1) = $3 || '.')
    AND (CAST($4 AS TEXT) IS NULL OR entity = $4)
    AND (CAST($5 AS BIGINT) IS NULL OR at >= $5)
    AND (CAST($6 AS TEXT) IS NULL OR id < $6)
ORDER BY id DESC LIMIT $7

-- name: take_change_numbers
UPDATE change_counter SET number = number + $1 RETURNING number

-- name: insert_change [sqlite]
INSERT INTO changes (number, id, kind, entity, at)
VALUES ($1, $2, $3, $4, CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))

-- name: insert_change [postgres]
INSERT INTO changes (number, id, kind, entity, at)
VALUES ($1, $2, $3, $4, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT))

-- name: store_now [sqlite]
SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)

-- name: store_now [postgres]
SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)

-- name: canary
SELECT at FROM canary

-- name: mark_canary
UPDATE canary SET at = $1 WHERE at <= $1 - CAST($2 AS BIGINT) OR at > $1 RETURNING at

-- name: date_canary
UPDATE canary SET at = (SELECT at FROM changes WHERE number = $1) RETURNING at

-- name: oldest_changes
SELECT number, at FROM changes ORDER BY number LIMIT $1

-- name: trim_changes
DELETE FROM changes WHERE number <= $1

-- name: change_head
SELECT change_counter.number, changes.id FROM change_counter
LEFT JOIN changes ON changes.number = change_counter.number

-- Where the history stands, and the id that it has for a number.

-- name: change_head_and_id
SELECT change_counter.number, changes.id FROM change_counter LEFT JOIN changes ON changes.number = $1

-- name: changes_between
SELECT number, id, kind, entity, at FROM changes WHERE number > $1 AND number <= $2 ORDER BY number

-- A key is cold that has no digest, or one under a pepper that is retired; locator and verifier are NULL
-- in the load of all others.

-- name: live_keys_changed
SELECT digest, id, subject_id, tenant_id, environment_id, role, permission, expires_at, revoked_at,
    sub_type, pepper_id, older_digest, older_pepper_id, locator,
    CASE WHEN digest IS NULL OR pepper_id IN (SELECT id FROM peppers WHERE retired_at IS NOT NULL)
        THEN verifier END
FROM api_keys
WHERE id IN (SELECT entity FROM changes WHERE number > $1 AND number <= $2 AND kind = 'key')

-- name: live_keys
SELECT digest, id, subject_id, tenant_id, environment_id, role, permission, expires_at, revoked_at,
    sub_type, pepper_id, older_digest, older_pepper_id,
    CASE WHEN digest IS NULL OR pepper_id IN (SELECT id FROM peppers WHERE retired_at IS NOT NULL)
        THEN locator END,
    CASE WHEN digest IS NULL OR pepper_id IN (SELECT id FROM peppers WHERE retired_at IS NOT NULL)
        THEN verifier END
FROM api_keys
WHERE expires_at > $1 AND (revoked_at IS NULL OR revoked_at > $1)

-- name: note_use
UPDATE api_keys SET last_used_at = $2
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $3)

-- name: peppers
SELECT id, check_value, since, retired_at FROM peppers ORDER BY since, id

-- name: insert_pepper
INSERT INTO peppers (id, check_value, since) VALUES ($1, $2, $3)

-- name: retire_pepper
UPDATE peppers SET retired_at = $2 WHERE id = $1 AND retired_at IS NULL

-- name: retired_peppers_changed
SELECT id FROM peppers
WHERE retired_at IS NOT NULL
    AND id IN (SELECT entity FROM changes WHERE number > $1 AND number <= $2 AND kind = 'pepper')

-- name: active_keys_under
SELECT id, number, tenant_id, environment_id, subject_id, sub_type, created_by, created_by_key, name,
    description, role, permission, intended_use, prefix, last_four, hash_algo, created_at, updated_at,
    expires_at, revoked_at, revoked_by, replaces, last_used_at, digest, pepper_id, locator, verifier,
    root_id, removed_at, older_digest, older_pepper_id
FROM api_keys WHERE pepper_id = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY tenant_id, number

-- name: renew_digest
UPDATE api_keys SET digest = $2, pepper_id = $3, older_digest = $4, older_pepper_id = $5
WHERE id = $1 AND digest = $6
    AND NOT EXISTS (SELECT id FROM api_keys others WHERE others.digest = $2)
RETURNING id

-- name: keep_digest
UPDATE api_keys SET digest = $2, pepper_id = $3, older_digest = $4, older_pepper_id = $5
WHERE id = $1 AND verifier = $6
    AND (digest IS NULL OR pepper_id IN (SELECT id FROM peppers WHERE retired_at IS NOT NULL))
    AND NOT EXISTS (SELECT id FROM api_keys others WHERE others.digest = $2)
RETURNING id

-- name: key_at_locator
SELECT id, number, tenant_id, environment_id, subject_id, sub_type, created_by, created_by_key, name,
    description, role, permission, intended_use, prefix, last_four, hash_algo, created_at, updated_at,
    expires_at, revoked_at, revoked_by, replaces, last_used_at, digest, pepper_id, locator, verifier,
    root_id, removed_at, older_digest, older_pepper_id
FROM api_keys WHERE locator <= $1 ORDER BY locator DESC LIMIT 1

-- name: key_id_further
SELECT id FROM api_keys WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2

-- name: forget_digests
UPDATE api_keys SET digest = NULL, pepper_id = NULL WHERE id > $1 AND id <= $2 AND pepper_id = $3

-- name: forget_older_digests
UPDATE api_keys SET older_digest = NULL, older_pepper_id = NULL
WHERE id > $1 AND id <= $2 AND older_pepper_id = $3

-- name: schema_version
SELECT COALESCE(MAX(version), 0) FROM schema_migrations

-- name: create_schema_migrations
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL
)

-- name: insert_schema_migration
INSERT INTO schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)

-- name: user
SELECT id, email, password_hash, default_tenant_id, disabled_at, removed_at, created_at, updated_at,
    password_from
FROM users WHERE id = $1

-- name: user_by_email
SELECT id, email, password_hash, default_tenant_id, disabled_at, removed_at, created_at, updated_at,
    password_from
FROM users WHERE email = $1 AND removed_at IS NULL

-- name: users
SELECT id, email, password_hash, default_tenant_id, disabled_at, removed_at, created_at, updated_at,
    password_from
FROM users
WHERE removed_at IS NULL
    AND (CAST($1 AS TEXT) IS NULL OR id IN (SELECT user_id FROM memberships WHERE tenant_id = $1))
ORDER BY email

-- name: insert_user
INSERT INTO users (id, email, password_hash, default_tenant_id, disabled_at, removed_at, created_at,
    updated_at, password_from)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING id

-- name: update_user
UPDATE users SET email = $2, password_hash = $3, default_tenant_id = $4, disabled_at = $5, removed_at = $6,
    updated_at = $7, password_from = $8
WHERE id = $1

-- name: member
SELECT users.id, users.email, users.password_hash, users.default_tenant_id, users.disabled_at,
    users.removed_at, users.created_at, users.updated_at, users.password_from, memberships.tenant_id,
    memberships.role, memberships.created_at
FROM memberships JOIN users ON users.id = memberships.user_id
WHERE memberships.tenant_id = $1 AND memberships.user_id = $2 AND users.removed_at IS NULL

-- name: member_page
SELECT users.id, users.email, users.password_hash, users.default_tenant_id, users.disabled_at,
    users.removed_at, users.created_at, users.updated_at, users.password_from, memberships.tenant_id,
    memberships.role, memberships.created_at
FROM memberships JOIN users ON users.id = memberships.user_id
WHERE memberships.tenant_id = $1 AND users.removed_at IS NULL
    AND (CAST($2 AS TEXT) IS NULL OR users.email > (SELECT email FROM users WHERE id = $2))
ORDER BY users.email LIMIT $3

-- name: makers_of_keys
SELECT id, email FROM users
WHERE id IN (SELECT created_by FROM api_keys WHERE tenant_id = $1 AND number >= $2 AND number <= $3)
    OR id IN (SELECT root_id FROM api_keys WHERE tenant_id = $1 AND number >= $2 AND number <= $3)

-- name: memberships
SELECT user_id, tenant_id, role, created_at FROM memberships WHERE user_id = $1 ORDER BY created_at, tenant_id

-- name: all_memberships
SELECT user_id, tenant_id, role, created_at FROM memberships ORDER BY user_id, created_at, tenant_id

-- name: insert_membership
INSERT INTO memberships (user_id, tenant_id, role, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING user_id

-- name: update_membership
UPDATE memberships SET role = $3 WHERE user_id = $1 AND tenant_id = $2 RETURNING user_id

-- name: active_admins
SELECT COUNT(*) FROM memberships JOIN users ON users.id = memberships.user_id
WHERE memberships.tenant_id = $1 AND memberships.role = 'admin'
    AND users.disabled_at IS NULL AND users.removed_at IS NULL

-- name: delete_membership
DELETE FROM memberships WHERE user_id = $1 AND tenant_id = $2 RETURNING user_id

-- name: subject_page
SELECT id, kind, name, role, permission FROM (
    SELECT own.subject_id AS id, own.sub_type AS kind, own.name AS name, own.role AS role,
        own.permission AS permission
    FROM api_keys own
    JOIN (
        SELECT MAX(number) AS number FROM api_keys
        WHERE tenant_id = $1 AND subject_id > $3 AND sub_type <> 'user' AND removed_at IS NULL
            AND revoked_at IS NULL AND expires_at > $2
        GROUP BY tenant_id, subject_id ORDER BY tenant_id, subject_id LIMIT $4
    ) newest ON newest.number = own.number
    WHERE own.tenant_id = $1
    UNION ALL
    SELECT users.id, 'user', users.email, memberships.role, memberships.role
    FROM memberships JOIN users ON users.id = memberships.user_id
    WHERE memberships.tenant_id = $1 AND users.removed_at IS NULL AND users.id > $3
) subjects
ORDER BY id LIMIT $4

-- name: subject
SELECT subject_id, sub_type, name, role, permission FROM api_keys
WHERE tenant_id = $1 AND number = (
    SELECT MAX(number) FROM api_keys
    WHERE tenant_id = $1 AND subject_id = $3 AND sub_type <> 'user' AND removed_at IS NULL
        AND revoked_at IS NULL AND expires_at > $2
    GROUP BY subject_id
)
UNION ALL
SELECT users.id, 'user', users.email, memberships.role, memberships.role
FROM memberships JOIN users ON users.id = memberships.user_id
WHERE memberships.tenant_id = $1 AND users.removed_at IS NULL AND users.id = $3

-- name: subject_known
SELECT subject_id FROM api_keys WHERE tenant_id = $1 AND subject_id = $2
UNION SELECT user_id FROM memberships WHERE tenant_id = $1 AND user_id = $2

-- name: active_keys_of_subject
SELECT id, number, tenant_id, environment_id, subject_id, sub_type, created_by, created_by_key, name,
    description, role, permission, intended_use, prefix, last_four, hash_algo, created_at, updated_at,
    expires_at, revoked_at, revoked_by, replaces, last_used_at, digest, pepper_id, locator, verifier,
    root_id, removed_at, older_digest, older_pepper_id
FROM api_keys
WHERE tenant_id = $1 AND subject_id = $2 AND sub_type <> 'user' AND removed_at IS NULL
    AND revoked_at IS NULL AND expires_at > $3
ORDER BY number

-- name: give_key_role
UPDATE api_keys SET role = $2, permission = $3, updated_at = $4 WHERE id = $1

-- name: keys_acting_as
SELECT id FROM api_keys
WHERE subject_id = $1 AND sub_type = 'user' AND revoked_at IS NULL
    AND (CAST($2 AS TEXT) IS NULL OR tenant_id = $2)
ORDER BY id

-- name: standings
SELECT memberships.user_id, memberships.tenant_id, memberships.role FROM memberships
JOIN users ON users.id = memberships.user_id
WHERE users.disabled_at IS NULL AND users.removed_at IS NULL

-- name: standings_changed
SELECT memberships.user_id, memberships.tenant_id, memberships.role FROM memberships
JOIN users ON users.id = memberships.user_id
WHERE users.disabled_at IS NULL AND users.removed_at IS NULL
    AND users.id IN (SELECT entity FROM changes WHERE number > $1 AND number <= $2 AND kind = 'user')

-- name: signing_keys
SELECT kid, public_pem, sealed, pepper_id, created_at, retired_at FROM signing_keys ORDER BY created_at, kid

-- name: insert_signing_key
INSERT INTO signing_keys (kid, public_pem, sealed, pepper_id, created_at, retired_at)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: reseal_signing_key
UPDATE signing_keys SET sealed = $2, pepper_id = $3 WHERE kid = $1

-- name: retire_signing_keys_under
UPDATE signing_keys SET retired_at = $2 WHERE pepper_id = $1 AND retired_at IS NULL

-- name: retire_signing_keys
UPDATE signing_keys SET retired_at = $1 WHERE retired_at IS NULL

-- name: end_token
INSERT INTO ended_tokens (jti, user_id, expires_at, ended_at) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING jti

-- name: ended_token
SELECT jti FROM ended_tokens WHERE jti = $1

-- name: ended_tokens
SELECT jti, expires_at FROM ended_tokens

-- name: verifying_keys
SELECT kid, public_pem, retired_at FROM signing_keys ORDER BY created_at, kid

-- name: ended_tokens_changed
SELECT jti, expires_at FROM ended_tokens
WHERE jti IN (SELECT entity FROM changes WHERE number > $1 AND number <= $2 AND kind = 'ended_token')

-- name: prune_ended_tokens
DELETE FROM ended_tokens WHERE expires_at <= $1

-- name: take_login_turn
UPDATE login_turn SET number = number + 1

-- name: prune_login_attempts
DELETE FROM login_attempts WHERE expires_at <= $1

-- name: login_attempts_of_pair
SELECT COUNT(*), COUNT(failed_at), MIN(CASE WHEN failed_at IS NOT NULL THEN expires_at END)
FROM login_attempts WHERE pair = $1

-- name: login_attempts_of_address
SELECT COUNT(*), COUNT(failed_at), MIN(CASE WHEN failed_at IS NOT NULL THEN expires_at END)
FROM login_attempts WHERE address = $1

-- name: audited_login_attempts
SELECT COUNT(*) FROM login_attempts WHERE audited AND expires_at > $1

-- name: insert_login_attempt
INSERT INTO login_attempts (id, pair, address, failed_at, audited, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET failed_at = excluded.failed_at, audited = excluded.audited,
    expires_at = excluded.expires_at

-- name: delete_login_attempt
DELETE FROM login_attempts WHERE id = $1

-- name: forgive_login_attempts
DELETE FROM login_attempts WHERE pair = $1 AND failed_at IS NOT NULL

-- name: keys_with_digests
SELECT digest, older_digest, id, tenant_id, name, role, expires_at, verifier FROM api_keys
WHERE digest IN (/*places*/) OR older_digest IN (/*places*/)

-- name: keys_with_locators
SELECT locator, id, tenant_id, name, role, expires_at, verifier FROM api_keys WHERE locator IN (/*places*/)

-- name: locator_lengths
SELECT DISTINCT length(locator) FROM api_keys
