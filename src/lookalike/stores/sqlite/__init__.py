"""The embedded store: SQLite for items and vectors, a cache of arrays and indexes for searching."""

from lookalike.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
