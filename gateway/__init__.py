"""An authenticating reverse proxy, and the keys it asks for.

core       what is true without a socket: grammar, routes, the decision (pure)
dataplane  moves bytes between callers and backends
keys       knows which credentials live: the table and the feed that keeps it
store      remembers: SQLite and PostgreSQL behind one Protocol
control    lets people change things: the domain service, the ops listener
cli        the commands, thin over the control plane
app        introduces them to one another
"""

__version__ = "0.1.0"
