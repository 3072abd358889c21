"""Pictures into a store: read and embedded in a thread for each core, written every few seconds.

A file whose size and times are as they were is not read. One whose content is as it was, or is that of another item, is
not embedded. So a run that was killed goes on where it was, and a folder that grew costs what it grew by.
"""

import csv
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from lookalike import images
from lookalike.embedding import BATCH, Embedder
from lookalike.errors import (
    BusyError,
    DataError,
    ImageError,
    LookalikeError,
    NotFoundError,
    StorageError,
    UnreadableImageError,
    UsageError,
)
from lookalike.parallel import available_cores, prefetch_map
from lookalike.stores import Item, Store
from lookalike.stores.protocol import check

# Pictures embedded together, and the batches for each core that wait for it or are at it: enough that no core waits while
# a transaction is written.
_BATCH = BATCH
_UNDER_WAY = 2

# The items and seconds after which what is embedded is written: few enough that a kill costs little work, enough that the
# disk is not what one waits for.
_WRITE_EVERY = 1024
_WRITE_AFTER = 5.0

# Files that a thread reads at a time, as tiny pictures would else be lost in the handing over.
_TASK = 8

# A file changed so shortly ago may change again without its times showing it (git's "racily clean").
_RACY_NS = 2 * 10**9


@dataclass(frozen=True)
class Entry:
    """A picture file to be added, and what is known of it.

    Where nothing is known, neither label nor attribute, an item that is there already keeps what it has. ``id`` is made of
    the path where none is given.
    """

    path: Path
    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far `Collection.add` is: each picture is counted once, in one of the last four."""

    total: int
    embedded: int = 0
    reused: int = 0
    unchanged: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Pictures that are dealt with."""
        return self.embedded + self.reused + self.unchanged + self.failed


@dataclass(frozen=True)
class Added:
    """What `Collection.add` did.

    Attributes:
        progress: the counts: embedded anew; reused, where the same bytes had been embedded before; unchanged; failed.
        failures: path and reason of each picture that was left out.
    """

    progress: Progress
    failures: tuple[tuple[Path, str], ...]


def identify(path: Path) -> str:
    """The id of a file: 20 hexadecimal digits that tell nothing of its path, the same each time."""
    return hashlib.blake2b(os.fsencode(absolute(path)), digest_size=10).hexdigest()


def absolute(path: Path) -> Path:
    """A path from the root, the same whichever way it is written: with ``..``, links on it are followed, else kept."""
    return Path(os.path.realpath(path)) if ".." in path.parts else path.absolute()


def entries(
    folder: Path,
    labels: Literal["folder"] | Path | None = None,
    on_error: Callable[[OSError], None] | None = None,
) -> list[Entry]:
    """The pictures under a folder, as entries.

    Args:
        folder: searched as `images.find` does.
        labels: ``"folder"`` labels each picture by the first folder on its way (``cat/sub/1.jpg`` is a cat); the path
            of a CSV names them: column ``path`` relative to the folder, ``label`` if there is one, and all other
            named columns become attributes. Pictures that the CSV does not name have neither.
        on_error: gets what could not be listed.

    Raises:
        NotFoundError: no such folder, or no such CSV.
        DataError: the CSV has no column ``path`` or two of one name, names a picture twice or one that is not there.
    """
    folder = absolute(folder)
    paths = images.find(folder, on_error)
    if labels is None:
        return [Entry(p) for p in paths]
    if labels == "folder":
        return [Entry(p, parts[0] if len(parts := p.relative_to(folder).parts) > 1 else None) for p in paths]
    known = _read_labels(Path(labels))
    if strange := sorted(set(known) - {p.relative_to(folder).as_posix() for p in paths}):
        raise DataError(f"{labels} names {len(strange)} pictures that are not under {folder}, “{strange[0]}” for one.")
    out = []
    for path in paths:
        row = dict(known.get(path.relative_to(folder).as_posix(), {}))
        out.append(Entry(path, row.pop("label", None) or None, row))
    return out


def _read_labels(path: Path) -> dict[str, dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name for name in reader.fieldnames or () if name]  # one without a name is often a mere number
            if "path" not in columns:
                raise DataError(f"{path} has no column “path”; its first line should read path,label or the like.")
            if len(set(columns)) < len(columns):
                raise DataError(f"{path} has two columns of one name; rename one.")
            known: dict[str, dict[str, str]] = {}
            for row in reader:
                key = Path(row.pop("path") or "").as_posix()
                if key in known:
                    raise DataError(f"{path} names “{key}” twice.")
                if None in row:
                    raise DataError(f"{path}, line {reader.line_num}: more values than there are columns.")
                known[key] = {k: v for k, v in row.items() if k and v}
            return known
    except OSError as e:
        raise NotFoundError(f"The labels {path} cannot be read: {e.strerror}.") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path} is no CSV in UTF-8: {e}.") from e


def add(
    store: Store, embedder: Embedder, new: Sequence[Entry], tell: Callable[[Progress], None] = lambda _: None
) -> Added:
    """Add pictures to a store, or bring them up to date.

    A picture that cannot be used is reported and left out; an item whose file has become unreadable stays as it was.
    When interrupted, what was embedded is still written.

    Args:
        store: where to.
        embedder: the one that made the store's vectors.
        new: the pictures; of those with the same id the last one counts.
        tell: hears how far it is, a few times a second.

    Raises:
        StorageError, BusyError: the store cannot be written; what was written before stays.
        EncoderError: the encoder fails.
    """
    return _Run(store, embedder, new, tell).run()


@dataclass(frozen=True)
class _Read:
    """What became of reading an entry: its item, and its picture where its content was not known."""

    item: Item
    picture: UInt8[np.ndarray, "s s 3"] | None


class _Run:
    """One call of `add`: a thread for each core reads and decodes ahead, and embeds; this one sorts and writes.

    Both kinds of work go through the same threads: where one of them takes most of the time it gets most of the cores.
    """

    def __init__(
        self, store: Store, embedder: Embedder, new: Sequence[Entry], tell: Callable[[Progress], None]
    ) -> None:
        self._store, self._embedder, self._tell = store, embedder, tell
        self._new = list({entry.id or str(absolute(entry.path)): entry for entry in new}.values())
        self._state = Progress(len(self._new))
        self._failures: list[tuple[Path, str]] = []
        # What the store has, and which of its items has the vector of a content.
        self._known = {item.id: item for item in store.scan()}
        self._source = {item.sha256: item.id for item in self._known.values()}
        # Vectors of contents that the store does not have, or no longer: an item had them before this run changed it.
        self._vectors: dict[str, np.ndarray] = {}
        # Contents to be handed to the threads, those that are with them, and both together.
        self._fresh: dict[str, np.ndarray] = {}
        self._under_way: deque[tuple[Sequence[str], Future[np.ndarray]]] = deque()
        self._coming: set[str] = set()
        # Items to be written, in the order in which they came, and how many of them the last write left.
        self._items: list[Item] = []
        self._left = 0
        self._wrote = time.monotonic()
        self._threads = ThreadPoolExecutor(available_cores())

    def run(self) -> Added:
        groups = [self._new[i : i + _TASK] for i in range(0, len(self._new), _TASK)]
        try:
            with closing(prefetch_map(self._read_all, groups, self._threads)) as read:
                for group, results in zip(groups, read, strict=True):
                    for entry, result in zip(group, results, strict=True):
                        self._take(entry, result)
                    self._tell(self._state)
            self._embed()
            self._gather(0)
        except (BusyError, StorageError):  # a second try would fail, or wait, as the first one did
            raise
        except BaseException:
            self._rescue()
            raise
        finally:
            self._threads.shutdown(cancel_futures=True)
        self._write()
        self._tell(self._state)
        return Added(self._state, tuple(self._failures))

    def _read_all(self, group: Sequence[Entry]) -> list[_Read | LookalikeError]:
        return [self._read(entry) for entry in group]

    def _read(self, entry: Entry) -> _Read | LookalikeError:
        """What an entry holds, or why it cannot be used; runs in several threads."""
        path = absolute(entry.path)
        try:
            uri = os.fsencode(path).decode()
        except UnicodeError:
            return UnreadableImageError(f"The name of {str(path)!r} is no UTF-8; rename the file.")
        item = Item(entry.id or identify(path), uri, entry.label, dict(entry.attributes))
        old = self._known.get(item.id)
        if old and item.label is None and not item.attributes:
            item = replace(item, label=old.label, attributes=old.attributes)
        try:
            check([item])
            signature = _signature(path)
            if old and signature and (signature, uri) == (old.signature, old.uri):
                return _Read(replace(item, sha256=old.sha256, signature=signature), None)
            data = images.read_bytes(path)
            item = replace(item, sha256=images.fingerprint(data), signature=signature)
            if item.sha256 in self._source or item.sha256 in self._vectors:
                return _Read(item, None)
            about = self._embedder.encoder.card.input
            return _Read(item, images.load(data, about.size, about.fit, name=repr(str(path))))
        except (ImageError, NotFoundError, StorageError, UsageError) as e:
            return e

    def _take(self, entry: Entry, result: _Read | LookalikeError) -> None:
        """Sort what was read: failed, unchanged, the same as another, or to be embedded."""
        if isinstance(result, LookalikeError):
            self._failures.append((entry.path, str(result)))
            self._count("failed")
            return
        item, old = result.item, self._known.get(result.item.id)
        if old and old.sha256 == item.sha256:
            self._count("unchanged")
        elif result.picture is None or any(item.sha256 in has for has in (self._coming, self._vectors, self._source)):
            self._count("reused")
        else:
            self._count("embedded")
            self._fresh[item.sha256] = result.picture
            self._coming.add(item.sha256)
        if item != old:  # which may be another label, or other times, alone
            self._items.append(item)
        if len(self._fresh) >= _BATCH:
            self._embed()
        if len(self._items) >= self._left + _WRITE_EVERY or time.monotonic() - self._wrote > _WRITE_AFTER:
            self._embed()
            self._write()

    def _count(self, what: Literal["embedded", "reused", "unchanged", "failed"], by: int = 1) -> None:
        self._state = replace(self._state, **{what: getattr(self._state, what) + by})

    def _embed(self) -> None:
        """Hand the fresh contents over; wait where the threads have enough to do."""
        if self._fresh:
            pictures = np.stack(list(self._fresh.values()))
            self._under_way.append((tuple(self._fresh), self._threads.submit(self._embedder.embed_batch, pictures)))
            self._fresh = {}
        self._gather(_UNDER_WAY * available_cores())

    def _gather(self, most: int) -> None:
        """Take back what is embedded until so many batches are left."""
        while len(self._under_way) > most or (self._under_way and self._under_way[0][1].done()):
            self._keep(*self._under_way[0])
            self._under_way.popleft()

    def _keep(self, contents: Sequence[str], vectors: "Future[np.ndarray]") -> None:
        self._vectors.update(zip(contents, vectors.result(), strict=True))
        self._coming.difference_update(contents)

    def _rescue(self) -> None:
        """When interrupted: write what is embedded or just being embedded, and drop the rest."""
        self._threads.shutdown(cancel_futures=True)
        for contents, vectors in self._under_way:
            if not vectors.cancelled() and vectors.exception() is None:
                self._keep(contents, vectors)
        self._coming.clear()
        self._write()

    def _write(self) -> None:
        """The items up to the first one whose vector is still to come, in one transaction."""
        ready = next((i for i, item in enumerate(self._items) if item.sha256 in self._coming), len(self._items))
        new = self._items[:ready]
        olds = [old for item in new if (old := self._known.get(item.id)) and old.sha256 != item.sha256]
        # A content that is about to be written over may come again, under another name.
        passing = {old.sha256 for old in olds if self._source.get(old.sha256) == old.id}
        wanted = {item.sha256 for item in new}.difference(self._vectors)
        vectors = self._vectors | self._stored(wanted | passing)
        self._vectors |= {sha256: vectors[sha256] for sha256 in passing & vectors.keys()}
        items = [item for item in new if item.sha256 in vectors or self._give_up(item)]
        if items:
            self._store.upsert(items, np.stack([vectors[item.sha256] for item in items]))
        for sha256 in passing:
            del self._source[sha256]
        for item in items:
            self._known[item.id] = item
            self._source[item.sha256] = item.id
            self._vectors.pop(item.sha256, None)
        self._items = self._items[ready:]  # not before they are written: one may be interrupted here too
        self._left, self._wrote = len(self._items), time.monotonic()

    def _stored(self, contents: AbstractSet[str]) -> dict[str, np.ndarray]:
        """Vectors of contents that the store has; other processes may take some of them away meanwhile."""
        holders = {self._source[sha256]: sha256 for sha256 in contents if sha256 in self._source}

        def left() -> dict[str, str]:
            there = self._store.get(list(holders))
            return {i: sha256 for i, sha256 in holders.items() if i in there and there[i].sha256 == sha256}

        while holders := left():
            with suppress(NotFoundError):  # deleted a moment ago
                vectors = dict(zip(holders, self._store.vectors(list(holders)), strict=True))
                return {sha256: vectors[i] for i, sha256 in left().items()}
        return {}

    def _give_up(self, item: Item) -> Literal[False]:
        """Report an item without a vector: its content was the store's when it was read, and is no longer."""
        old = self._known.get(item.id)
        self._count("unchanged" if old and old.sha256 == item.sha256 else "reused", -1)
        self._count("failed")
        reason = "another process took away a picture of the same content meanwhile; index again."
        self._failures.append((Path(item.uri), f"{item.uri!r}: {reason}"))
        return False


def _signature(path: Path) -> str:
    """A file's size and times; nothing where they would not show a change that comes soon after."""
    try:
        s = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ""
    if time.time_ns() - max(s.st_mtime_ns, s.st_ctime_ns) < _RACY_NS:
        return ""
    return f"{s.st_size}-{s.st_mtime_ns}-{s.st_ctime_ns}"
