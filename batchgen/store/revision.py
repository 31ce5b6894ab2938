"""Which schema this version writes; apart from the tables, whose import takes a while."""

REVISION = "0007"
"""Alembic's newest revision; a test compares it with `migrations/`."""
