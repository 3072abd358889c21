"""Moved files: paths with the content of items whose files are missing, or have the content of another item now."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lookalike.ingest.known import Known
from lookalike.ingest.paths import is_missing, signature
from lookalike.stores import Item

# Trailing parts of two paths that are compared, to tell copies of one content apart.
_PARTS = 6


class Exchanges(NamedTuple):
    """The result of `Moves.find_exchanges`.

    Attributes:
        moved: uri of an arrival → the stored item whose file it is.
        overwritten: id → path, for each item whose own file was overwritten. The file at that path, where the chain of renames
            began, is missing.
    """

    moved: dict[str, Item]
    overwritten: dict[str, str]


class Moves:
    """The items of a store whose files were moved, by content; each is found once.

    Attributes:
        contents: of the items before the run.
    """

    def __init__(self, known: Known) -> None:
        """Look for items among the known ones, at the first call of `find`."""
        self.contents = frozenset(known.holders)
        self._known = known
        self._items: dict[str, list[Item]] | None = None
        self._by_inode: dict[str, dict[tuple[int, int], list[str]]] = {}
        self._missing: dict[str, OldPaths] = {}
        self._may_have_departed: dict[str, bool] = {}

    def find(self, new: Sequence[Item]) -> dict[str, Item]:
        """Find the items whose files were moved.

        Args:
            new: items of new paths.

        Returns:
            Uri of a new path → the stored item of the same content whose file is missing.
        """
        uris: dict[str, list[str]] = defaultdict(list)
        for item in new:
            uris[item.sha256].append(item.uri)
        found: dict[str, Item] = {}
        for content, paths in uris.items():
            for path, old in self._missing_paths(content).pair(paths).items():
                ident = self._known.paths.get(old)
                if ident is not None and self._known.items[ident].sha256 == content:
                    found[path] = self._known.items[ident]
        return found

    def find_same_file(self, new: Item) -> Item | None:
        """Find the item of a file that a new path leads to through a linked folder, or on a disk that ignores case.

        A hard link, or a link to a file, is another file.
        """
        try:
            status = os.lstat(new.uri)
        except OSError:
            return None
        for uri in self._inodes(new.sha256).get((status.st_dev, status.st_ino), ()):
            ident = self._known.paths.get(uri)
            same = status.st_nlink == 1 or _resolve_folder(uri) == _resolve_folder(new.uri)
            if uri != new.uri and same and ident is not None and self._known.items[ident].sha256 == new.sha256:
                return self._known.items[ident]
        return None

    def may_have_departed(self, content: str) -> bool:
        """Return whether an item of a content has a file that is missing or may have changed; no file is read."""
        if content not in self._may_have_departed:
            items = self._with_content(content)
            self._may_have_departed[content] = any(signature(Path(item.uri)) != item.signature for item in items)
        return self._may_have_departed[content]

    def find_exchanges(self, arrivals: Mapping[str, str]) -> Exchanges:
        """Find the items whose files took the places of others: swapped files, and chains of renames.

        Args:
            arrivals: uri → content of the files of a run that are new or changed, and have one of the `contents`.
        """
        items, paths = self._known.items, self._known.paths
        replaced = {uri: items[paths[uri]] for uri in arrivals if uri in paths}
        origins = self._find_origins(arrivals)
        overwritten: dict[str, str] = {}
        vacated = set(origins.values())
        for end in [uri for uri in origins if uri in replaced and uri not in vacated]:
            start = _chain_start(end, origins)
            if start not in replaced:
                overwritten[replaced[end].id] = start
            else:  # another file was copied to where the chain began, so no path is left for the item
                uri = end
                while uri in origins:
                    uri = origins.pop(uri)
        return Exchanges({new: items[paths[old]] for new, old in origins.items()}, overwritten)

    def _find_origins(self, arrivals: Mapping[str, str]) -> dict[str, str]:
        """Return uri → old path of each arrival that is the file of an item.

        The file of an item has departed from its path if the path is missing, or is among the arrivals, with another content.
        """
        items = self._known.items
        places: dict[str, list[str]] = defaultdict(list)
        for uri, content in arrivals.items():
            places[content].append(uri)
        departed: dict[str, list[str]] = defaultdict(list)
        for uri, ident in self._known.paths.items():
            content = items[ident].sha256
            if content in places and Path(uri).is_absolute() and (uri in arrivals or is_missing(Path(uri))):
                departed[content].append(uri)
        return {
            new: old for content in departed for new, old in OldPaths(departed[content]).pair(places[content]).items()
        }

    def _inodes(self, content: str) -> dict[tuple[int, int], list[str]]:
        """Return device and inode → paths, of the items of a content."""
        if content not in self._by_inode:
            found: dict[tuple[int, int], list[str]] = defaultdict(list)
            for item in self._with_content(content):
                with suppress(OSError, ValueError):  # ValueError: a NUL in the path
                    status = os.lstat(item.uri)
                    found[status.st_dev, status.st_ino].append(item.uri)
            self._by_inode[content] = found
        return self._by_inode[content]

    def _missing_paths(self, content: str) -> "OldPaths":
        if content not in self._missing:
            items = self._with_content(content)
            self._missing[content] = OldPaths(item.uri for item in items if is_missing(Path(item.uri)))
        return self._missing[content]

    def _with_content(self, content: str) -> list[Item]:
        if self._items is None:
            self._items = defaultdict(list)
            for item in self._known.items.values():
                if Path(item.uri).is_absolute():
                    self._items[item.sha256].append(item)
        return self._items.get(content, [])


class OldPaths:
    """Paths of missing files of one content; each is paired once.

    Example:
        >>> from lookalike.ingest.moves import OldPaths
        >>> OldPaths(["/a/y/1.jpg", "/a/x/1.jpg"]).pair(["/b/x/1.jpg", "/b/y/1.jpg", "/b/3.jpg"])
        {'/b/x/1.jpg': '/a/x/1.jpg', '/b/y/1.jpg': '/a/y/1.jpg'}
    """

    def __init__(self, paths: Iterable[str]) -> None:
        """Sort paths by their last parts."""
        self._unpaired = set(paths)
        self._by_end: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for path in sorted(self._unpaired, reverse=True):
            for size in range(_PARTS + 1):
                self._by_end[_end(path, size)].append(path)

    def pair(self, new: Iterable[str]) -> dict[str, str]:
        """Pair new paths with old ones: first those with the same name in the same folders, last the rest in order."""
        pairs: dict[str, str] = {}
        rest = sorted(new)
        for size in range(_PARTS, -1, -1):
            if not self._unpaired:
                break
            for path in rest:
                if (old := self._take(_end(path, size))) is not None:
                    pairs[path] = old
            rest = [path for path in rest if path not in pairs]
        return pairs

    def _take(self, end: tuple[str, ...]) -> str | None:
        same = self._by_end.get(end, [])
        while same:
            if (path := same.pop()) in self._unpaired:
                self._unpaired.remove(path)
                return path
        return None


def _chain_start(uri: str, origins: Mapping[str, str]) -> str:
    """Follow a chain of renames back to the path where it began.

    Args:
        uri: the last path of the chain.
        origins: path → the path from which its file was renamed; without a circle that ``uri`` leads into.
    """
    while uri in origins:
        uri = origins[uri]
    return uri


def _resolve_folder(path: str) -> Path:
    """Resolve the links on the way to a file, but not the file itself."""
    folder, name = os.path.split(path)
    return Path(os.path.realpath(folder), name)


def _end(path: str, size: int) -> tuple[str, ...]:
    """Return the last parts of a path."""
    return tuple(path.rsplit(os.sep, size)[1:]) if size else ()
