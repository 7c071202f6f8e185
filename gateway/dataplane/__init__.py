"""Moves bytes between callers and backends; imports ``core`` and ``observe`` only."""
