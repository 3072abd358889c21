"""What every store can do, and the words it does it in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import ALL, Filter, Query, Vectors
from lookalike.stores.answer import Answer, Item


@dataclass(frozen=True)
class Snapshot:
    """All vectors of a store at one moment, memory-mapped where the store can, and their ids, ascending.

    Attributes:
        ids: of the items.
        vectors: of each.
        generation: another one after every write.
    """

    ids: Sequence[str]
    vectors: Vectors
    generation: str


def check(items: Iterable[Item]) -> None:
    """Refuse items that not every store can keep, or find again.

    Raises:
        UsageError: an id is empty, or a text is none, holds a NUL or half a surrogate pair.
    """
    for item in items:
        texts = (item.id, item.uri, item.label or "", item.sha256, item.signature)
        try:
            whole = "".join((*texts, *item.attributes.keys(), *item.attributes.values()))
            whole.encode()
        except (TypeError, UnicodeEncodeError) as e:
            raise UsageError(f"The item {item.id!r} holds something else than Unicode text: {e}.") from e
        if not item.id or "\0" in whole:
            raise UsageError(f"The item {item.id!r} needs an id, and texts without a NUL character.")


class Store(Protocol):
    """A place for items and their vectors.

    Ids are strings, see `check`. A write is all or nothing and survives ``kill -9``. Errors are those of `lookalike.errors`:
    ``UsageError`` for vectors of another dimension or kind, ``BusyError`` where another writer does not let go,
    ``StorageError`` for a disk that is full or damaged.
    """

    @property
    def metric(self) -> Metric:
        """The metric of a query that names none."""
        ...

    @property
    def dimension(self) -> int:
        """Floats of a vector, or bits of a code."""
        ...

    @property
    def codec(self) -> str:
        """What shortened the encoder's embeddings; ``none`` where nothing did."""
        ...

    def upsert(self, items: Sequence[Item], vectors: Vectors) -> None:
        """Write items, in place of those with the same ids. Doing it twice changes nothing."""
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items; returns how many there were. Ids that are not there are harmless."""
        ...

    def get(self, ids: Sequence[str]) -> dict[str, Item]:
        """Items by id; ids that are not there are left out."""
        ...

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """Vectors by id, in that order; NotFoundError where one is not there."""
        ...

    def count(self, where: Filter = ALL) -> int:
        """How many items."""
        ...

    def scan(self, where: Filter = ALL, *, after: str = "") -> Iterator[Item]:
        """Items in ascending order of id, those after an id only. Writes meanwhile do no harm."""
        ...

    def labels(self) -> dict[str, int]:
        """Each label with the number of its items."""
        ...

    def search(self, query: Query) -> list[Answer]:
        """Answer each of a query's vectors.

        With ``query.exact`` false an approximate index answers if there is one; if none is given, the store's budget
        decides. Each answer says whether it is exact.

        Raises:
            UsageError: the query has no vectors, or vectors or a metric that do not fit.
        """
        ...

    def stream(self, query: Query) -> Iterator[Answer]:
        """Answer a range query of one vector exactly, in parts of bounded size, nearest first.

        Items that are deleted meanwhile are left out.

        Raises:
            UsageError: the query has no distance range, or not one vector.
        """
        ...

    def snapshot(self) -> Snapshot:
        """Everything at one moment, for joins."""
        ...

    def size(self) -> int:
        """Bytes on disk."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
