"""The benchmark: ``python -m tests.bench`` prints one table, measured in one run on pinned cores."""
