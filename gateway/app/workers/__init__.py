"""Several processes that serve callers, and the supervisor that keeps them running.

The supervisor has the listening sockets and never serves a caller; each worker has an event loop, a
key table and connections to backends of its own, and accepts from the sockets that the supervisor
names. They talk by a pair of sockets, whose end tells each that the other is gone.
"""
