"""The embedded store: SQLite for items and vectors, and a cache of arrays and indexes for search."""

from lookalike.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
