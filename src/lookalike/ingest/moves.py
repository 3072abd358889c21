"""Moved files: new paths with the content of items whose files are gone."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath

from lookalike.ingest.known import Known
from lookalike.ingest.paths import is_missing
from lookalike.stores import Item

# Trailing parts of two paths that are compared, to tell copies of one content apart.
_PARTS = 6


class Moves:
    """The items of a store whose files are gone, by content; each is found once."""

    def __init__(self, known: Known) -> None:
        """Look for items among the known ones, at the first call of `find`."""
        self._known = known
        self._items: dict[str, list[Item]] | None = None

    def find(self, new: Sequence[Item]) -> dict[str, Item]:
        """Find the items whose files were moved.

        Args:
            new: items of new paths.

        Returns:
            Uri of a new path → the stored item of the same content whose file is gone.
        """
        if not new:
            return {}
        if self._items is None:
            self._items = defaultdict(list)
            for item in self._known.items.values():
                if Path(item.uri).is_absolute():
                    self._items[item.sha256].append(item)
            self._gone: dict[str, list[Item]] = {}
        uris: dict[str, list[str]] = defaultdict(list)
        for item in new:
            uris[item.sha256].append(item.uri)
        return {uri: item for content in uris for uri, item in self._pair(content, uris[content]).items()}

    def _pair(self, content: str, uris: Sequence[str]) -> dict[str, Item]:
        if content not in self._gone:
            items = (self._items or {}).pop(content, [])
            self._gone[content] = [item for item in items if is_missing(Path(item.uri))]
        gone = [item for item in self._gone[content] if self._known.items.get(item.id) is item]
        pairs = pair_paths(uris, [item.uri for item in gone])
        by_uri = {item.uri: item for item in gone}
        taken = set(pairs.values())
        self._gone[content] = [item for item in gone if item.uri not in taken]
        return {new: by_uri[old] for new, old in pairs.items()}


def pair_paths(new: Sequence[str], old: Sequence[str]) -> dict[str, str]:
    """Pair new paths with old ones: first those with the same name in the same folders, last the rest in their order.

    Example:
        >>> from lookalike.ingest.moves import pair_paths
        >>> pair_paths(["/b/x/1.jpg", "/b/y/1.jpg", "/b/3.jpg"], ["/a/y/1.jpg", "/a/x/1.jpg"])
        {'/b/x/1.jpg': '/a/x/1.jpg', '/b/y/1.jpg': '/a/y/1.jpg'}
    """
    pairs: dict[str, str] = {}
    left, rest = sorted(new), sorted(set(old))
    for size in range(_PARTS, -1, -1):
        if not left or not rest:
            break
        ends: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for path in reversed(rest):
            ends[_end(path, size)].append(path)
        for path in left:
            if same := ends.get(_end(path, size)):
                pairs[path] = same.pop()
        taken = set(pairs.values())
        left, rest = [path for path in left if path not in pairs], [path for path in rest if path not in taken]
    return pairs


def _end(path: str, size: int) -> tuple[str, ...]:
    """Return the last parts of a path; all of them if it has fewer."""
    return PurePath(path).parts[-size:] if size else ()
