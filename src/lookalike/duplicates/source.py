"""The part of a collection that the search for duplicates needs, and the distinct contents of its items."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from lookalike.embedding import Embedder
from lookalike.errors import NotFoundError
from lookalike.folder import Folder
from lookalike.query import Vectors
from lookalike.stores import Item, Store, take_snapshot

Failure = tuple[Path, str]
"""The path of a file, and why it was skipped."""


class Source(Protocol):
    """A store of items, the embedder that made its vectors, and the folder with its images; such as a `Collection`."""

    @property
    def store(self) -> Store:
        """The items and their vectors."""
        ...

    @property
    def embedder(self) -> Embedder:
        """The embedder that made the vectors."""
        ...

    @property
    def folder(self) -> Folder:
        """The images, thumbnails, decisions and cache."""
        ...


def content_digest(item: Item) -> str:
    """Return the SHA-256 of an item's content, or its id if the SHA-256 is unknown."""
    return item.sha256 or item.id


@dataclass(frozen=True, eq=False)
class Contents:
    """The distinct contents of a collection at one moment, in the order of their SHA-256.

    A thousand copies of a file are one content, and results do not depend on the paths of files. Pairs and groups refer to
    a content by its index.

    Attributes:
        source: the collection.
        digests: the digest of each content (see `content_digest`), ascending.
        items: the items of each content, sorted by uri.
        vectors: ``(n, c)``, a copy.
        refused: items that are left out, since their uris lead outside of the collection's folder.
    """

    source: Source
    digests: tuple[str, ...]
    items: tuple[tuple[Item, ...], ...]
    vectors: Vectors
    refused: tuple[Failure, ...] = ()

    @classmethod
    def of(cls, source: Source) -> Self:
        """Read the contents of a collection."""
        snapshot = take_snapshot(source.store)
        rows = {ident: row for row, ident in enumerate(snapshot.ids)}
        items: dict[str, list[Item]] = {}
        refused: list[Failure] = []
        for item in source.store.scan():
            if item.id not in rows:  # another process has added it after the snapshot
                continue
            try:
                source.folder.file(item)
            except NotFoundError as e:
                refused.append((Path(item.uri), str(e)))
            else:
                items.setdefault(content_digest(item), []).append(item)
        digests = tuple(sorted(items))
        for same in items.values():
            same.sort(key=lambda item: (item.uri, item.id))
        first_rows = [rows[items[digest][0].id] for digest in digests]
        listed = tuple(tuple(items[digest]) for digest in digests)
        return cls(source, digests, listed, snapshot.vectors[first_rows], tuple(refused))

    def __len__(self) -> int:
        """Count the contents."""
        return len(self.digests)

    @property
    def image_count(self) -> int:
        """The number of items."""
        return sum(map(len, self.items))

    def file(self, index: int) -> Path:
        """Return the first file of a content."""
        return self.source.folder.file(self.items[index][0])
