"""Items whose files are gone, and folders that are gone as a whole, such as disks that are not connected."""

import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lookalike.stores import Item


class GoneFolder(NamedTuple):
    """A folder that does not exist or is empty, though images in it were indexed.

    Attributes:
        path: of the folder.
        items: number of items whose files were in it.
    """

    path: Path
    items: int


def split_gone(missing: Sequence[Item], roots: Sequence[Path]) -> tuple[list[Item], list[GoneFolder]]:
    """Split items whose files do not exist by whether the folder that was indexed still exists.

    If it does not exist or is empty, it may have been renamed, or its disk may not be connected.

    Args:
        missing: items whose files do not exist.
        roots: folders that were indexed, as far as they are known. For files elsewhere, their own folders count.

    Returns:
        The items whose folders exist, and the folders that do not.
    """
    has_entries = cache(_has_entries)
    existing: list[Item] = []
    gone: Counter[Path] = Counter()
    for item in missing:
        path = Path(item.uri)
        root = max((r for r in roots if r != path and path.is_relative_to(r)), key=lambda r: len(r.parts), default=None)
        folder = root or path.parent
        if has_entries(folder):
            existing.append(item)
        else:
            gone[folder if root else _topmost_missing(folder)] += 1
    return existing, [GoneFolder(path, gone[path]) for path in sorted(gone)]


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _topmost_missing(folder: Path) -> Path:
    """Return the first folder on the way to a folder that does not exist; the folder itself if it exists."""
    for parent in reversed(folder.parents):
        if not os.path.lexists(parent):
            return parent
    return folder
