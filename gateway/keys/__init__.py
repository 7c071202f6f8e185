"""Knows which credentials live; imports ``core`` and ``store``."""
