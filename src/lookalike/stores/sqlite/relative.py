"""Uris relative to the collection's folder, for files below the relative roots in the catalogue.

In memory all uris of files are absolute. The catalogue holds ``../photos/mug.jpg`` for a file below a relative root
``../photos``, so that a collection and its images can be moved together.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from lookalike.errors import UsageError
from lookalike.stores.answer import Item
from lookalike.untrusted.databases import Connection

# Created with the first root.
ROOTS_SCHEMA = "CREATE TABLE IF NOT EXISTS roots (path TEXT NOT NULL UNIQUE) STRICT"

_MAX_ROOTS = 1000


@dataclass(frozen=True)
class RelativeRoots:
    """The relative roots of a collection.

    Attributes:
        prefixes: of uris below a root, as the catalogue holds them and in memory; deeper roots come first.
    """

    prefixes: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, sql: Connection, folder: Path) -> Self:
        """Read the roots from a catalogue; one that is not a path outside of the folder is ignored."""
        if not sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'roots'").fetchone():
            return cls(())
        paths = [row[0] for row in sql.execute(f"SELECT path FROM roots LIMIT {_MAX_ROOTS}")]
        valid = [
            path for path in paths if isinstance(path, str) and path.partition("/")[0] == ".." and "\0" not in path
        ]
        real = os.path.realpath(folder)
        prefixes = ((f"{path}/", _prefix(os.path.normpath(Path(real, path)))) for path in valid)
        return cls(tuple(sorted(prefixes, key=lambda pair: len(pair[1]), reverse=True)))

    @property
    def folders(self) -> tuple[Path, ...]:
        """The roots."""
        return tuple(Path(absolute) for _, absolute in self.prefixes)

    def to_absolute(self, uri: str) -> str:
        """Return the absolute path of a relative uri below a root; another uri is returned unchanged."""
        return self._replace(uri, [(relative, absolute) for relative, absolute in self.prefixes], "/", os.sep)

    def to_relative(self, uri: str) -> str:
        """Return the relative uri of an absolute path below a root; another uri is returned unchanged."""
        return self._replace(uri, [(absolute, relative) for relative, absolute in self.prefixes], os.sep, "/")

    @staticmethod
    def _replace(uri: str, prefixes: Sequence[tuple[str, str]], separator: str, other: str) -> str:
        for old, new in prefixes:
            if uri.startswith(old):
                parts = uri[len(old) :].split(separator)
                return uri if {"", ".", ".."}.intersection(parts) else new + other.join(parts)
        return uri


def resolve_items(sql: Connection, folder: Path, items: Sequence[Item]) -> list[Item]:
    """Make the uris of items from a catalogue absolute, if they are below a relative root."""
    if not any(item.uri.startswith("..") for item in items):
        return list(items)
    roots = RelativeRoots.read(sql, folder)
    return [replace(i, uri=roots.to_absolute(i.uri)) if i.uri.startswith("..") else i for i in items]


def add_root(sql: Connection, folder: Path, root: Path) -> None:
    """Add a root to a catalogue, and make the uris below it relative.

    Raises:
        UsageError: the root is in the collection's folder, or on another drive.
    """
    real, target = os.path.realpath(folder), os.path.realpath(root)
    try:
        path = os.path.relpath(target, real).replace(os.sep, "/")
    except ValueError:
        path = ""
    if path.partition("/")[0] != "..":
        raise UsageError(f"{root} cannot be relative to {folder}: it is in that folder, or on another drive.")
    sql.execute(ROOTS_SCHEMA)
    sql.execute("INSERT OR IGNORE INTO roots VALUES (?)", [path])
    roots, absolute = RelativeRoots.read(sql, folder), _prefix(target)
    below = "SELECT seq, uri FROM items WHERE substr(uri, 1, ?) = ?"
    rows = sql.execute(below, [len(absolute), absolute]).fetchall()
    sql.executemany("UPDATE items SET uri = ? WHERE seq = ?", [(roots.to_relative(uri), seq) for seq, uri in rows])


def _prefix(folder: str) -> str:
    return folder.rstrip(os.sep) + os.sep
