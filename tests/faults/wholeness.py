"""What may be found in no store, whoever died while keys were made in it."""

from __future__ import annotations

from tests.postgres import Server

IMPORTED = "imported"
"""The name of keys that are imported: there is one line in the audit for many, and no verifier need be."""

HALF_MADE = {
    "a key without its secret's digest, verifier or locator": (
        "SELECT count(*) FROM api_keys WHERE digest IS NULL OR locator = ''"
        f" OR (verifier = '' AND name <> '{IMPORTED}')"
    ),
    "a key without its line in the audit, or a line without its key": (
        f"SELECT count(*) FROM (SELECT * FROM api_keys WHERE name <> '{IMPORTED}') AS keys"
        " FULL JOIN (SELECT * FROM audit WHERE action = 'key.create') AS made"
        " ON keys.id = made.entity WHERE made.entity IS NULL OR keys.id IS NULL"
    ),
    "an import that is told of more keys, or of fewer, than there are": (
        f"SELECT (SELECT count(*) FROM api_keys WHERE name = '{IMPORTED}') - coalesce((SELECT"
        " sum(CAST(split_part(entity, ' ', 1) AS INTEGER)) FROM audit WHERE action = 'key.import'), 0)"
    ),
    "a key that was revoked without a line in the audit, or a line of one that was not": (
        "SELECT count(*) FROM (SELECT * FROM api_keys WHERE revoked_at IS NOT NULL) AS keys"
        " FULL JOIN (SELECT * FROM audit WHERE action = 'key.revoke') AS ended"
        " ON keys.id = ended.entity WHERE ended.entity IS NULL OR keys.id IS NULL"
    ),
    "a successor of a key that goes on, or a key that ends for no successor": (
        "SELECT count(*) FROM api_keys AS successors"
        " FULL JOIN (SELECT * FROM audit JOIN api_keys ON entity = api_keys.id WHERE action = 'key.rotate')"
        " AS rotated ON successors.replaces = rotated.entity"
        " WHERE (rotated.entity IS NULL AND successors.replaces IS NOT NULL) OR successors.id IS NULL"
        " OR rotated.expires_at > rotated.at + 86400000"
    ),
    "fewer changes than keys were made, revoked and ended": (
        "SELECT count(*) FROM api_keys WHERE (SELECT count(*) FROM changes WHERE entity = api_keys.id)"
        " < 1 + CAST(revoked_at IS NOT NULL AS INTEGER)"
    ),
    "a gap in the changes": (
        "SELECT change_counter.number - count(changes.number) FROM change_counter, changes"
        " GROUP BY change_counter.number"
    ),
    "a number that was given twice, or to nobody": (
        "SELECT max(last_number) - count(*) FROM tenants, api_keys WHERE tenants.id = tenant_id"
        " AND tenants.id = 'default'"
    ),
}


def half_made(server: Server, database: str) -> list[str]:
    """Return what is found in a database of keys of the tenant 'default' that may not be there."""
    return [what for what, question in HALF_MADE.items() if server.sql(question, database) != "0"]
