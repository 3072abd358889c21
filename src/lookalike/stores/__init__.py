"""Stores of items and vectors: their protocols, their answers, and a module or package for each kind of store."""

import os
from pathlib import Path

from lookalike.errors import UsageError
from lookalike.metric import VectorSpace
from lookalike.rows import RowFormat
from lookalike.stores import filters
from lookalike.stores.answer import Answer, Hit, Item
from lookalike.stores.protocol import (
    Change,
    Indexable,
    Relative,
    Replaceable,
    Sampling,
    Snapshot,
    Snapshotting,
    Store,
    Streaming,
    take_snapshot,
)
from lookalike.stores.settings import IndexSettings, Status
from lookalike.stores.sqlite import SQLiteStore

__all__ = [
    "Answer",
    "Change",
    "Hit",
    "IndexSettings",
    "Indexable",
    "Item",
    "Relative",
    "Replaceable",
    "SQLiteStore",
    "Sampling",
    "Snapshot",
    "Snapshotting",
    "Status",
    "Store",
    "Streaming",
    "filters",
    "open_store",
    "take_snapshot",
]


def open_store(url: str | os.PathLike[str], rows: VectorSpace | RowFormat, manifest: str | None = None) -> Store:
    """Open a store by its URL or path.

    Args:
        url: the path of a folder with an embedded store.
        rows: what it keeps of each vector; metric and dimension if it keeps the vectors themselves.
        manifest: the manifest in the store, if its vectors were ever replaced; other vectors are neither read nor written.

    Raises:
        StorageError: the store is missing or damaged.
        UsageError: this version does not know that kind of store.
    """
    if isinstance(url, str) and "://" in url:
        raise UsageError(f"“{url}” names an unknown kind of store; give the path of a NAME.lookalike folder.")
    return SQLiteStore.open(Path(url), rows, manifest)
