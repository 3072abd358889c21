"""What is in a collection, each content once."""

from dataclasses import dataclass
from typing import Self

from lookalike.collection import Collection
from lookalike.query import Vectors
from lookalike.stores import Item


@dataclass(frozen=True, eq=False)
class Contents:
    """The contents of a collection at one moment, in the order of their SHA-256.

    So a thousand copies of a file are one row, and what is found does not depend on where files are.

    Attributes:
        digests: SHA-256, ascending; an item that has none stands for itself, by its id.
        items: those of each content, by uri.
        vectors: ``(n, c)``, a copy.
    """

    digests: tuple[str, ...]
    items: tuple[tuple[Item, ...], ...]
    vectors: Vectors

    @classmethod
    def of(cls, collection: Collection) -> Self:
        """Look through a collection."""
        snapshot = collection.store.snapshot()
        rows = {ident: row for row, ident in enumerate(snapshot.ids)}
        items: dict[str, list[Item]] = {}
        for item in collection.store.scan():
            if item.id in rows:  # else it was added a moment ago
                items.setdefault(item.sha256 or item.id, []).append(item)
        digests = tuple(sorted(items))
        for same in items.values():
            same.sort(key=lambda item: (item.uri, item.id))
        chosen = [rows[items[digest][0].id] for digest in digests]
        return cls(digests, tuple(tuple(items[digest]) for digest in digests), snapshot.vectors[chosen])

    def __len__(self) -> int:
        """How many contents."""
        return len(self.digests)

    @property
    def pictures(self) -> int:
        """How many items."""
        return sum(map(len, self.items))
