"""The image files of items: which a server may show, and how it opens them.

The catalogue of a collection may come from a stranger and name any file of this machine. A server shows images in the
collection's folder, and files below the folders that its user named or has indexed.
"""

import hashlib
import os
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from stat import S_ISREG

from fastapi import HTTPException

from lookalike.collection import Collection
from lookalike.errors import NotFoundError, UnreadableImageError, UsageError
from lookalike.images import DEFAULT_LIMITS, fingerprint, read_bytes
from lookalike.ingest.paths import format_signature
from lookalike.stores import Item
from lookalike.tables import plural

# Seconds after which the folders that the user has indexed are read again, for an item outside of those that are known.
_REFRESH = 2.0

# Maximum number of items whose places are checked when a server starts.
_MAX_CHECKED = 100_000

# Share of images whose common folder is suggested, and the number of folders that are suggested if there is none.
_NEARLY_ALL = 0.9
_SUGGESTED = 3

# O_NONBLOCK: opening a pipe does not wait. O_PATH: a folder on the way need not be readable.
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True)
class OpenFile:
    """An open image file.

    Attributes:
        descriptor: of the file.
        status: its status when it was opened.
    """

    descriptor: int
    status: os.stat_result

    @property
    def version(self) -> str:
        """A text that changes with the file: a hash of its place, size and times."""
        s = self.status
        fields = (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        return hashlib.blake2b(repr(fields).encode(), digest_size=16).hexdigest()

    def is_unchanged(self, item: Item) -> bool:
        """Return whether the file certainly has the content that was indexed."""
        return item.signature == format_signature(self.status)

    @cached_property
    def content(self) -> bytes:
        """The content of the file.

        Raises:
            ImageError: it is empty, or exceeds the limits of images.
        """
        limit = DEFAULT_LIMITS.file_bytes + 1
        with os.fdopen(os.dup(self.descriptor), "rb", buffering=0) as file:
            return read_bytes(file.read(min(self.status.st_size, limit)) or b"")

    def sha256(self, item: Item) -> str:
        """Return the fingerprint of the content, which is read only if it may have changed."""
        return item.sha256 if self.is_unchanged(item) else fingerprint(self.content)


class FileAccess:
    """The image files of a collection that a server may show."""

    def __init__(self, collection: Collection, named: Sequence[Path] = ()) -> None:
        """Keep the folders that the user named.

        Raises:
            UsageError: one of them does not exist.
        """
        for root in named:
            if not root.exists():
                raise UsageError(f"--root {root} does not exist. Name a folder of images.")
        self.collection = collection
        self._named = _with_real(named)
        self._roots, self._known_since = self._named, -_REFRESH

    def allows(self, item: Item) -> bool:
        """Return whether the name of an item's file lies where the server may show files; links are not resolved."""
        folder = self.collection.folder
        try:
            return folder.owns(item) or self._find_root(os.path.normpath(folder.file(item))) is not None
        except (NotFoundError, ValueError):  # ValueError: a name that no file can have
            return False

    def is_missing(self, item: Item) -> bool | None:
        """Return whether the file of an item is missing; None if the server may not look there."""
        return self.collection.is_missing(item) if self.allows(item) else None

    def path(self, item: Item) -> str | None:
        """Return the path of an item's file; None if its uri is not one that an item may have."""
        try:
            return str(self.collection.folder.file(item).absolute())
        except NotFoundError:
            return None

    @contextmanager
    def open(self, item: Item) -> Iterator[OpenFile]:
        """Open the image file of an item while the block runs.

        Links are resolved first, and none is followed when the resolved path is opened. So the open file lies where the
        path did, even if someone changes links meanwhile.

        Raises:
            NotFoundError: the file does not exist.
            HTTPException: 403: it lies outside of the folders of this server.
            UnreadableImageError: it is not a regular file, or its permissions forbid reading.
        """
        folder = self.collection.folder
        try:
            path = folder.file(item)
        except NotFoundError as e:  # its message names the file
            raise NotFoundError(
                "The item has no file that can be shown: its uri is not a path. Choose another item."
            ) from e
        try:
            real = os.path.realpath(path)
            root = os.path.realpath(folder.path) if folder.owns(item) else self._find_root(real)
            if root is None or not _is_below(real, root):
                raise _outside()
            descriptor = _open_below(root, real)
        except (FileNotFoundError, NotADirectoryError, ValueError) as e:
            raise NotFoundError("The item exists, but its file is missing. Choose another item.") from e
        except OSError as e:
            raise UnreadableImageError(f"The image cannot be read: {e.strerror}. Choose another item.") from e
        try:
            status = os.fstat(descriptor)
            if not S_ISREG(status.st_mode):
                raise UnreadableImageError("The image is a folder or a device, not an image file. Choose another item.")
            yield OpenFile(descriptor, status)
        finally:
            os.close(descriptor)

    def describe_outside(self) -> str | None:
        """Describe the items whose files the server may not show, and how to name their folders or relocate them; None if there are none."""
        checked, outside = 0, list[Item]()
        for item in islice(self.collection, _MAX_CHECKED):
            checked += 1
            if not self.allows(item):
                outside.append(item)
        if not outside:
            return None
        first = "first " if checked == _MAX_CHECKED else ""
        suggested = _suggest(item.uri for item in outside)
        folders = " ".join(f"--root {shlex.quote(folder)}" for folder in suggested)
        advice = f"If you trust the collection: {folders}" if folders else "Remove them."
        if gone := next((folder for folder in suggested if not os.path.isdir(folder)), None):  # noqa: PTH112 -- any name
            place = shlex.join([str(self.collection.path), gone])
            advice = f"The folder {gone} is gone. If it was moved: lookalike relocate {place} NEW"
        return (
            f"{len(outside):,} of the {first}{plural(checked, 'image')} of {self.collection.name} cannot be shown: they lie"
            f" outside of the folders that you indexed. {advice}"
        )

    def _find_root(self, path: str) -> str | None:
        """Return the folder or file of this server that a path lies below."""
        for _ in range(2):
            for root in self._roots:
                if _is_below(path, root):
                    return root
            if time.monotonic() - self._known_since < _REFRESH:
                return None
            # Another process may have indexed another folder since.
            self._known_since = time.monotonic()
            self._roots = self._named + _with_real(self.collection.known_roots())
        return None


def _with_real(roots: Iterable[Path]) -> list[str]:
    """Return absolute paths, as they were given and with their links resolved."""
    return [
        path for root in roots for path in dict.fromkeys((os.path.normpath(root.absolute()), os.path.realpath(root)))
    ]


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _open_below(root: str, real: str) -> int:
    """Open a resolved path below a resolved folder, or the folder's own path, without following a link."""
    parts = Path(real).relative_to(root).parts
    if os.open not in os.supports_dir_fd or not parts:
        return os.open(real, _FILE)
    *folders, name = parts
    place = os.open(root, _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=place)
            os.close(place)
            place = below
        return os.open(name, _FILE, dir_fd=place)
    finally:
        os.close(place)


def _suggest(uris: Iterable[str]) -> list[str]:
    """Return the folder that nearly all of some files lie in, or else those that directly hold most of them."""
    folders = Counter(Path(uri).parent for uri in uris if Path(uri).is_absolute())
    counts = Counter[Path]()
    for folder, count in folders.items():
        for path in (folder, *folder.parents):
            if len(path.parts) > 2:  # noqa: PLR2004 -- neither / nor a folder in it
                counts[path] += count
    if covering := [path for path, count in counts.items() if count >= _NEARLY_ALL * folders.total()]:
        return [str(max(covering, key=lambda path: len(path.parts)))]
    most = folders.most_common(_SUGGESTED)
    return [str(folder) for folder, count in most if counts[folder] and count >= most[0][1] / 10]


def _outside() -> HTTPException:
    return HTTPException(
        403,
        "The file of this item lies outside of the folders that this server may show. Ask the server's owner to add the"
        " file's folder (--root).",
    )
