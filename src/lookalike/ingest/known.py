"""Known contents: those whose vectors are in the store, or were embedded in this run."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from lookalike.errors import NotFoundError
from lookalike.stores import Item, Store


@dataclass
class Known:
    """Items of a store and the contents whose vectors are known; threads may read it while one writes.

    A content is named by its SHA-256.

    Attributes:
        items: id → item, as in the store.
        holders: content → id of an item whose vector in the store is the content's.
        vectors: content → vector, of contents that the store does not have, or no longer since this run.
    """

    items: dict[str, Item]
    holders: dict[str, str]
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store) -> Self:
        """List what a store has."""
        items = {item.id: item for item in store.scan()}
        return cls(items, {item.sha256: item.id for item in items.values()})

    def __contains__(self, content: str) -> bool:
        """Return whether the vector of a content is known."""
        return content in self.holders or content in self.vectors

    def load_vectors(self, store: Store, contents: AbstractSet[str]) -> dict[str, np.ndarray]:
        """Read vectors of contents from the store; other processes may remove some of them meanwhile."""
        holders = {self.holders[content]: content for content in contents if content in self.holders}

        def still_there() -> dict[str, str]:
            items = store.get(list(holders))
            return {i: content for i, content in holders.items() if i in items and items[i].sha256 == content}

        while holders := still_there():
            with suppress(NotFoundError):  # deleted a moment ago
                vectors = dict(zip(holders, store.vectors(list(holders)), strict=True))
                return {content: vectors[i] for i, content in still_there().items()}
        return {}

    def record(self, items: Iterable[Item], overwritten: AbstractSet[str]) -> None:
        """Note what was written: items, and contents that lost their holder thereby."""
        for content in overwritten:
            del self.holders[content]
        for item in items:
            self.items[item.id] = item
            self.holders[item.sha256] = item.id
            self.vectors.pop(item.sha256, None)  # after its holder is set: other threads look here meanwhile
