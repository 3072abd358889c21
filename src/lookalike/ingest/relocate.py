"""Relocation of items: the paths below one folder become paths below another."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PureWindowsPath
from unicodedata import normalize

from lookalike.ingest.paths import absolute_path, is_missing
from lookalike.ingest.read import keep_labels
from lookalike.stores import Change, Item


@dataclass(frozen=True)
class Relocation:
    """The changes that give items below a folder paths below another.

    Attributes:
        changes: the changes of items.
        relocated: number of items that get a new path.
        existing: number of them whose files exist there.
        example: the first new path without a file; none if all files exist.
        merged: number of items that had been added at the new paths with the same content. They are removed; the relocated
            items keep their ids, and take over labels and attributes if they have none.
        conflicts: items that stay, since items with other contents have the new paths.
    """

    changes: tuple[Change, ...]
    relocated: int = 0
    existing: int = 0
    example: Path | None = None
    merged: int = 0
    conflicts: tuple[Item, ...] = ()


def plan_relocation(items: Iterable[Item], old: str | os.PathLike[str], new: str | os.PathLike[str]) -> Relocation:
    """Plan the relocation of items.

    Args:
        items: all items of a store.
        old: a folder or a file, which need not exist; also a Windows path on another system.
        new: the folder or file that takes its place.
    """
    everything = list(items)
    at = {item.uri: item for item in everything}
    target, match = absolute_path(Path(new)), _Below(old)
    paths = {item.id: str(target / rest) for item in everything if (rest := match.rest(item.uri)) is not None}
    changes: list[Change] = []
    conflicts: list[Item] = []
    missing: list[str] = []
    merged = 0
    for item in everything:
        if item.id not in paths:
            continue
        uri = paths[item.id]
        moved, there = replace(item, uri=uri), at.get(uri)
        if there is not None and there.id not in paths:
            if there.sha256 != item.sha256:
                conflicts.append(item)
                continue
            moved = keep_labels(moved, there)
            changes.append((there, None))
            merged += 1
        changes.append((item, moved))
        if is_missing(Path(uri)):
            missing.append(uri)
    relocated = len(paths) - len(conflicts)
    example = Path(min(missing)) if missing else None
    return Relocation(tuple(changes), relocated, relocated - len(missing), example, merged, tuple(conflicts))


def is_windows_path(text: str) -> bool:
    """Return whether a path is an absolute one of Windows, on another system."""
    return os.name != "nt" and bool(re.match(r"[A-Za-z]:[\\/]|\\\\", text))


def relocator(relocations: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    """Return a function that returns where a file is after relocations from one folder to another, in their order.

    Example:
        >>> from lookalike.ingest import relocator
        >>> relocator([("/photos", "/pictures"), ("/pictures/x", "/y")])("/photos/x/1.jpg")
        '/y/1.jpg'
    """
    steps = [(_Below(old), Path(new)) for old, new in relocations]

    def follow(path: str) -> str:
        for old, new in steps:
            rest = old.rest(path)
            path = path if rest is None else str(new / rest)
        return path

    return follow


class _Below:
    """A test whether a path is a folder or below it, in any Unicode form."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        text = os.fspath(folder)
        self._windows = is_windows_path(text)
        here = absolute_path(Path(text))
        paths = [PureWindowsPath(text)] if self._windows else [here, Path(os.path.realpath(here))]
        self._folders = [self._forms(path) for path in paths]

    def rest(self, uri: str) -> Path | None:
        """Return the path below the folder; none if it is elsewhere."""
        path = PureWindowsPath(uri) if self._windows else PurePath(uri)
        forms = self._forms(path) if path.is_absolute() else ()
        for folder in self._folders:
            if forms[: len(folder)] == folder:
                return Path(*path.parts[len(folder) :])
        return None

    def _forms(self, path: PurePath) -> tuple[str, ...]:
        parts = tuple(normalize("NFC", part) for part in path.parts)
        return tuple(part.casefold() for part in parts) if self._windows else parts
