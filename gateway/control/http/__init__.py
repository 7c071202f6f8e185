"""The control listener: HTTP in, the domain service called, one shape of error out.

Imports aiohttp, ``core``, ``store`` and its own plane. The dialects declare endpoints; this room
reads requests for them, finds out who asks, and tells what came of it.
"""
