"""Lets people change things: one domain service, and the operator's own listener."""
