"""Contents with known vectors, from the store or from this run."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Self

import numpy as np

from lookalike.errors import NotFoundError
from lookalike.ingest.paths import file_id
from lookalike.stores import Item, Store


@dataclass
class Known:
    """The items of a store, and the contents with known vectors; threads may read it while one writes.

    A content is identified by its SHA-256.

    Attributes:
        items: id → item, as in the store.
        holders: content → id of an item in the store that has the content's vector.
        rows: content → row of its vector in the store (see `lookalike.rows`), for contents that the store never had or lost in
            this run.
        paths: uri → id of the item of this file.
    """

    items: dict[str, Item]
    holders: dict[str, str]
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    paths: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the paths."""
        self.paths = {item.uri: item.id for item in self.items.values()}

    @classmethod
    def of(cls, store: Store) -> Self:
        """Read the items of a store."""
        items = {item.id: item for item in store.scan()}
        return cls(items, {item.sha256: item.id for item in items.values()})

    def __contains__(self, content: str) -> bool:
        """Return whether the vector of a content is known."""
        return content in self.holders or content in self.rows

    def id_of(self, path: Path, uri: str) -> str:
        """Return the id of the item of a file, or the one that its new item gets.

        A file that moved keeps its id, which is the hash of an earlier path (see `file_id`).
        """
        ident = file_id(path)
        item = self.items.get(ident)
        if item is not None and item.uri == uri:
            return ident
        if item is None or uri in self.paths:
            return self.paths.get(uri, ident)
        others = (file_id(path, number) for number in count(1))
        return next(other for other in others if other not in self.items)

    def load_rows(self, store: Store, contents: AbstractSet[str]) -> dict[str, np.ndarray]:
        """Read the rows of contents from the store, without those that other processes remove meanwhile."""
        holders = {self.holders[content]: content for content in contents if content in self.holders}

        def current_holders() -> dict[str, str]:
            items = store.get(list(holders))
            return {i: content for i, content in holders.items() if i in items and items[i].sha256 == content}

        while holders := current_holders():
            with suppress(NotFoundError):  # deleted since `get`
                rows = dict(zip(holders, store.rows(list(holders)), strict=True))
                return {content: rows[i] for i, content in current_holders().items()}
        return {}

    def record(self, items: Iterable[Item], overwritten: AbstractSet[str]) -> None:
        """Record written items, and the contents that lost their holder by the write."""
        for content in overwritten:
            del self.holders[content]
        for item in items:
            old = self.items.get(item.id)
            if old is not None and old.uri != item.uri and self.paths.get(old.uri) == old.id:
                del self.paths[old.uri]
            self.paths[item.uri] = item.id
            self.items[item.id] = item
            self.holders[item.sha256] = item.id
            self.rows.pop(item.sha256, None)  # last, so that other threads always find the content
