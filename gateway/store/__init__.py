"""Remembers keys, tenants and the numbered changes to them; imports ``core`` only."""
