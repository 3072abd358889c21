"""The protocol of a store, and the protocols of optional capabilities."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from lookalike.errors import UsageError
from lookalike.metric import VectorSpace
from lookalike.progress import SILENT, Progress
from lookalike.query import ALL, Filter, Query, Vectors
from lookalike.rows import RowFormat, Rows
from lookalike.search import CodedVectors
from lookalike.stores.answer import Answer, Item
from lookalike.stores.settings import IndexSettings, Status

Change = tuple[Item, Item | None]
"""An item as it was read, and its new values; None deletes it."""

_DIGEST = re.compile("[0-9a-zA-Z]{0,64}")


class Store(Protocol):
    """A place for items and their vectors.

    Ids are strings, see `check_items`. A write is all or nothing and survives ``kill -9``. Methods raise ``UsageError`` for
    vectors that do not fit, ``BusyError`` if another writer holds the store too long, and ``StorageError`` if a disk is
    full or data is damaged.
    """

    @property
    def space(self) -> VectorSpace:
        """Metric and dimension of the vectors."""
        ...

    def upsert(self, items: Sequence[Item], rows: Rows) -> None:
        """Write items and their rows; each replaces the item with the same id.

        Writing the same items again changes nothing. If an id occurs twice, the last item counts.

        Args:
            items: the items.
            rows: what the store keeps of each item's vector, see `lookalike.rows`; the vectors themselves without a codec.
        """
        ...

    def update(self, changes: Sequence[Change]) -> list[Item]:
        """Change items and keep their vectors, or delete them, in one transaction.

        An item is not changed if it is no longer the one that was read: if it has been deleted, or has another content, or
        another uri than before and after the change. So writers do not undo each other's changes.

        Returns:
            The items that were changed, as they were read.

        Raises:
            UsageError: a change gives an item another id or content.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items, and return the number of deleted ones. Unknown ids are ignored."""
        ...

    def get(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return items by id, without unknown ids."""
        ...

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """Return the vectors of items, in the order of the ids; those that codes stand for, if the store keeps codes.

        Raises:
            NotFoundError: an id is unknown.
        """
        ...

    def rows(self, ids: Sequence[str]) -> Rows:
        """Return the rows of items, which `upsert` takes; raises as `vectors`."""
        ...

    def count(self, where: Filter = ALL) -> int:
        """Count the items that pass a filter."""
        ...

    def scan(self, where: Filter = ALL, *, after: str = "") -> Iterator[Item]:
        """Iterate over the items that pass a filter and whose id is greater than ``after``, in ascending order of id.

        Other threads and processes may write meanwhile.
        """
        ...

    def labels(self) -> dict[str, int]:
        """Count the items of each label."""
        ...

    def search(self, query: Query) -> list[Answer]:
        """Search for each of a query's vectors.

        If ``query.exact`` is false, an approximate index answers if there is one. If it is none, the store's latency
        budget decides. If ``query.rescore`` is true, the vectors are embeddings, see `Query.rescore`.

        Raises:
            UsageError: the query has no vectors, its vectors or metric do not fit the store, or the store cannot re-score.
        """
        ...

    def find_uris(self, uris: Sequence[str]) -> set[str]:
        """Return those of the uris that items have."""
        ...

    def size(self) -> int:
        """Return the bytes on disk."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A store that answers range queries in parts."""

    def stream(self, query: Query) -> Iterator[Answer]:
        """Answer a range query of one vector exactly, in parts of bounded size, nearest first.

        It leaves out items that are deleted meanwhile.

        Raises:
            UsageError: the query has no distance range, or not exactly one vector.
        """
        ...


@dataclass(frozen=True)
class Snapshot:
    """All vectors of a store at one moment, and their ids.

    Attributes:
        ids: of the items, ascending.
        vectors: of each item, memory-mapped if the store supports it; in codes, if the store keeps codes.
        generation: a token that changes with every write.
    """

    ids: Sequence[str]
    vectors: Vectors | CodedVectors
    generation: str


@runtime_checkable
class Snapshotting(Protocol):
    """A store that returns all of its vectors at once, for joins."""

    def snapshot(self) -> Snapshot:
        """Return all vectors at one moment."""
        ...


@runtime_checkable
class Sampling(Protocol):
    """A store that returns the vectors of some items fast, to learn how distances are distributed."""

    def generation(self) -> str:
        """Return the generation of the latest search, see `Snapshot`."""
        ...

    def sample(self, count: int, *, originals: bool = False) -> Vectors:
        """Return the vectors of at most ``count`` items, spread evenly over the ids; or the embeddings beside their codes."""
        ...


@runtime_checkable
class Relative(Protocol):
    """A store in a folder that can hold the uris of files relative to this folder. Items always have absolute ones."""

    def add_relative_root(self, root: Path) -> None:
        """Hold the uris of all files below a folder relative to the store's folder, now and later.

        Raises:
            UsageError: the folder is in the store's folder, or on another drive.
        """
        ...

    def relative_roots(self) -> tuple[Path, ...]:
        """Return the relative roots, with all links resolved."""
        ...


@runtime_checkable
class Indexable(Protocol):
    """A store with an approximate index, which is built on request, and a latency budget, which decides when to use it."""

    def status(self) -> Status:
        """Return the settings, the estimated time of an exact query, and the state of the index."""
        ...

    def over_budget(self) -> bool:
        """Return whether the estimated time of an exact query exceeds the budget, faster than `status`."""
        ...

    def indexable(self) -> bool:
        """Return whether an index can be built: there are enough items, and their vectors are not bits."""
        ...

    def tune(self, change: Callable[[IndexSettings], IndexSettings]) -> IndexSettings:
        """Change the settings and return them.

        Raises:
            StorageError, BusyError: they cannot be written.
        """
        ...

    def build_index(self, progress: Progress = SILENT, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Build the index of the settings. Other threads and processes may search and write meanwhile.

        Args:
            progress: receives the stage ``"indexing"``.
            stopped: called about every second; the build ends if it returns true.

        Returns:
            Whether an index was built: false if the build was stopped or the settings disable the index. An earlier index
            then stays.

        Raises:
            UsageError: there are too few items, or their vectors are bits.
            StorageError, BusyError: the index cannot be written.
        """
        ...


@runtime_checkable
class Replaceable(Protocol):
    """A store whose vectors can all be replaced, by those of another encoder or by codes, while others read and write."""

    def embeddings(self, ids: Sequence[str]) -> Vectors:
        """Return the embeddings of items, in the order of the ids: their vectors, or those that are kept beside codes.

        Raises:
            NotFoundError: an id is unknown.
            UsageError: the store keeps codes without embeddings.
        """
        ...

    def replace_vectors(
        self, find: Callable[[Sequence[Item]], Mapping[str, np.ndarray]], manifest: str, rows: RowFormat
    ) -> None:
        """Give each item another row in one transaction; ids, labels and attributes stay.

        A store that others opened before neither reads nor writes vectors any longer: its methods raise a MismatchError.

        Args:
            find: returns the new rows of some items by id. It leaves out items that are to be deleted. Its exceptions
                leave the store unchanged.
            manifest: the description of the new rows, which `open_store` takes.
            rows: their format.

        Raises:
            MismatchError: the vectors were replaced after this store was opened.
            StorageError, BusyError: they cannot be written.
        """
        ...

    def compact(self) -> None:
        """Free the disk space of deleted rows, if nobody else writes and there is space for a copy of the database."""
        ...

    def replace_manifest(self, manifest: str) -> None:
        """Describe the same vectors otherwise, in one transaction; as `replace_vectors` for stores that others opened before."""
        ...


def take_snapshot(store: Store) -> Snapshot:
    """Return all vectors of a store at one moment.

    Raises:
        UsageError: the store does not support it.
    """
    if not isinstance(store, Snapshotting):
        raise UsageError("This collection's store does not support snapshots. Use a collection in a local folder.")
    return store.snapshot()


MAX_TEXT = 2**20
"""Maximum number of characters in all texts of an item."""


def check_items(items: Iterable[Item]) -> None:
    """Check that any store can keep and find items.

    Raises:
        UsageError: an id is empty, a text is not a `str`, or has a NUL or half a surrogate pair, the texts of an item are
            longer than `MAX_TEXT`, or a SHA-256 has other characters than letters and digits.
    """
    for item in items:
        texts = (item.id, item.uri, "" if item.label is None else item.label, item.sha256, item.signature)
        try:
            text = "".join((*texts, *item.attributes.keys(), *item.attributes.values()))
            text.encode()
        except (TypeError, UnicodeEncodeError) as e:
            raise UsageError(f"The item {item.id!r} holds something other than Unicode text: {e}.") from e
        if len(text) > MAX_TEXT:
            raise UsageError(
                f"The item {item.id[:80]!r} has {len(text):,} characters of label, attributes and other texts; at most"
                f" {MAX_TEXT:,} are possible."
            )
        if not item.id or "\0" in text:
            raise UsageError(f"The item {item.id!r} needs an id, and texts without a NUL character.")
        if not is_digest(item.sha256):
            raise UsageError(
                f"The sha256 of the item {item.id!r} is not hexadecimal: {item.sha256[:80]!r}. Leave it empty."
            )


def is_digest(sha256: str) -> bool:
    """Return whether a text can be part of a file name or of a header: at most 64 ASCII letters and digits, or nothing."""
    return _DIGEST.fullmatch(sha256) is not None


def check_changes(changes: Sequence[Change]) -> None:
    """Check the changes of `Store.update`.

    Raises:
        UsageError: a change gives an item another id or content, or a store cannot keep the item.
    """
    for old, new in changes:
        if new is not None and (new.id, new.sha256) != (old.id, old.sha256):
            raise UsageError(f"An update cannot change the id or the content of the item {old.id!r}. Use upsert.")
    check_items(new for _, new in changes if new is not None)
