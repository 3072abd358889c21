"""Where collections live. One protocol, a file for each kind of store."""

from pathlib import Path

from lookalike.errors import UsageError
from lookalike.stores.answer import Answer, Hit, Item
from lookalike.stores.protocol import Snapshot, Store
from lookalike.stores.sqlite import SQLiteStore

__all__ = ["Answer", "Hit", "Item", "SQLiteStore", "Snapshot", "Store", "open_store"]


def open_store(url: str | Path) -> Store:
    """Open the store that a URL or a path names.

    Args:
        url: the path of a ``NAME.lookalike`` folder.

    Raises:
        NotFoundError: nothing is there.
        MismatchError: it was written by an incompatible version.
        UsageError: a kind of store that this version does not know.
    """
    if isinstance(url, str) and "://" in url:
        raise UsageError(f"“{url}” is no store that this version knows; give the path of a NAME.lookalike folder.")
    return SQLiteStore.open(Path(url))
