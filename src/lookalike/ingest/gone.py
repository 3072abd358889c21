"""Items whose files are missing, and folders that are gone as a whole, such as disks that are not connected."""

import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import takewhile
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
    """Split items whose files do not exist by whether their folder is gone or empty, too.

    A folder that is gone or empty may have been renamed, or its disk may not be connected.

    Args:
        missing: items whose files do not exist.
        roots: folders that were indexed, as far as they are known.

    Returns:
        The items whose folders have other files, and the outermost folders that are gone or empty. A folder above an indexed
        one is not named.
    """
    has_entries = cache(_has_entries)
    existing: list[Item] = []
    gone: Counter[Path] = Counter()
    for item in missing:
        path = Path(item.uri)
        root = min((r for r in roots if r != path and path.is_relative_to(r)), key=lambda r: len(r.parts), default=None)
        folders = [parent for parent in path.parents if root is None or parent.is_relative_to(root)]
        empty = list(takewhile(lambda folder: not has_entries(folder), folders))
        if empty:
            gone[empty[-1]] += 1
        else:
            existing.append(item)
    return existing, [GoneFolder(path, gone[path]) for path in sorted(gone)]


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
