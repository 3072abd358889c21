"""Moved files: paths with the content of items whose files are gone, or have the content of another item now."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lookalike.ingest.known import Known
from lookalike.ingest.paths import is_missing, signature
from lookalike.stores import Item

# Trailing parts of two paths that are compared, to tell copies of one content apart.
_PARTS = 6


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
        self._gone: dict[str, OldPaths] = {}
        self._may_have_left: dict[str, bool] = {}

    def find(self, new: Sequence[Item]) -> dict[str, Item]:
        """Find the items whose files were moved.

        Args:
            new: items of new paths.

        Returns:
            Uri of a new path → the stored item of the same content whose file is gone.
        """
        uris: dict[str, list[str]] = defaultdict(list)
        for item in new:
            uris[item.sha256].append(item.uri)
        found: dict[str, Item] = {}
        for content, paths in uris.items():
            for path, old in self._gone_paths(content).pair(paths).items():
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

    def may_have_left(self, content: str) -> bool:
        """Return whether an item of a content has a file that is gone or may have changed; no file is read."""
        if content not in self._may_have_left:
            items = self._with_content(content)
            self._may_have_left[content] = any(signature(Path(item.uri)) != item.signature for item in items)
        return self._may_have_left[content]

    def find_exchanges(self, arrivals: Mapping[str, str]) -> tuple[dict[str, Item], dict[str, str]]:
        """Find the items whose files took the places of others: swapped files, and chains of renames.

        The file of an item has left its path if the path is gone, or is among the arrivals, with another content.

        Args:
            arrivals: uri → content of the files of a run that are new or changed, and have one of the `contents`.

        Returns:
            Uri of an arrival → the stored item whose file it is; and id → path for each item whose own file was overwritten.
            The path is the one where the chain of renames began, and is gone.
        """
        items, paths = self._known.items, self._known.paths
        replaced = {uri: items[paths[uri]] for uri in arrivals if uri in paths}
        places: dict[str, list[str]] = defaultdict(list)
        for uri, content in arrivals.items():
            places[content].append(uri)
        left: dict[str, list[str]] = defaultdict(list)
        for uri, ident in paths.items():
            content = items[ident].sha256
            if content in places and Path(uri).is_absolute() and (uri in replaced or is_missing(Path(uri))):
                left[content].append(uri)
        origins = {new: old for content in left for new, old in OldPaths(left[content]).pair(places[content]).items()}
        overwritten: dict[str, str] = {}
        left_paths = set(origins.values())
        for uri in [uri for uri in origins if uri in replaced and uri not in left_paths]:
            chain = [uri]
            while chain[-1] in origins:
                chain.append(origins[chain[-1]])
            if chain[-1] not in replaced:
                overwritten[replaced[uri].id] = chain[-1]
            else:  # another file was copied to where the chain began, so no path is left for the item
                for path in chain[:-1]:
                    del origins[path]
        return {new: items[paths[old]] for new, old in origins.items()}, overwritten

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

    def _gone_paths(self, content: str) -> "OldPaths":
        if content not in self._gone:
            items = self._with_content(content)
            self._gone[content] = OldPaths(item.uri for item in items if is_missing(Path(item.uri)))
        return self._gone[content]

    def _with_content(self, content: str) -> list[Item]:
        if self._items is None:
            self._items = defaultdict(list)
            for item in self._known.items.values():
                if Path(item.uri).is_absolute():
                    self._items[item.sha256].append(item)
        return self._items.get(content, [])


class OldPaths:
    """Paths of files of one content that are gone; each is paired once.

    Example:
        >>> from lookalike.ingest.moves import OldPaths
        >>> OldPaths(["/a/y/1.jpg", "/a/x/1.jpg"]).pair(["/b/x/1.jpg", "/b/y/1.jpg", "/b/3.jpg"])
        {'/b/x/1.jpg': '/a/x/1.jpg', '/b/y/1.jpg': '/a/y/1.jpg'}
    """

    def __init__(self, paths: Iterable[str]) -> None:
        """Sort paths by their last parts."""
        self._left = set(paths)
        self._by_end: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for path in sorted(self._left, reverse=True):
            for size in range(_PARTS + 1):
                self._by_end[_end(path, size)].append(path)

    def pair(self, new: Iterable[str]) -> dict[str, str]:
        """Pair new paths with old ones: first those with the same name in the same folders, last the rest in order."""
        pairs: dict[str, str] = {}
        rest = sorted(new)
        for size in range(_PARTS, -1, -1):
            if not self._left:
                break
            for path in rest:
                if (old := self._take(_end(path, size))) is not None:
                    pairs[path] = old
            rest = [path for path in rest if path not in pairs]
        return pairs

    def _take(self, end: tuple[str, ...]) -> str | None:
        same = self._by_end.get(end, [])
        while same:
            if (path := same.pop()) in self._left:
                self._left.remove(path)
                return path
        return None


def _resolve_folder(path: str) -> Path:
    """Resolve the links on the way to a file, but not the file itself."""
    folder, name = os.path.split(path)
    return Path(os.path.realpath(folder), name)


def _end(path: str, size: int) -> tuple[str, ...]:
    """Return the last parts of a path."""
    return tuple(path.rsplit(os.sep, size)[1:]) if size else ()
