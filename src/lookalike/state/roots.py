"""The folders of images that this user has indexed, remembered outside of their collections.

A collection may come from a stranger, and its catalogue may name any file of this machine. The server therefore serves
files only below folders that its user named or indexed. This module remembers the indexed ones in the user's own state
folder, by the path of the collection and by a random identity in the collection's folder. A collection that takes the
place of another one has another identity, so it does not inherit these folders.
"""

import os
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lookalike import atomic, locks
from lookalike.errors import BusyError, StorageError
from lookalike.state import create_state_folder, state_folder
from lookalike.untrusted.paths import read_inside, resolve_inside

_FILE = "roots.json"
_IDENTITY = "identity"

# Bytes of the state file, and the number of collections in it; the ones that were indexed last stay.
_MAX_BYTES = 2**24
_MAX_COLLECTIONS = 1000

# A source of more files than this is remembered by their folders.
_MAX_FILES = 64


class _Known(BaseModel):
    """The roots of one collection."""

    model_config = ConfigDict(frozen=True)

    collection: str
    identity: str
    roots: tuple[str, ...]


class _State(BaseModel):
    """The content of ``roots.json``: the collections, the one that was indexed last at the end."""

    model_config = ConfigDict(frozen=True)

    format: int = 1
    collections: tuple[_Known, ...] = ()


def known_roots(folder: Path) -> tuple[Path, ...]:
    """Return the folders and files that this user has indexed into a collection, as `record_roots` remembered them.

    Args:
        folder: of the collection.
    """
    identity, path = _read_identity(folder), _real(folder)
    if identity is None:
        return ()
    known = (k for k in _read(state_folder() / _FILE).collections if (k.collection, k.identity) == (path, identity))
    return tuple(Path(root) for each in known for root in each.roots)


def record_roots(folder: Path, roots: Iterable[Path]) -> None:
    """Remember that this user indexed folders and files into a collection.

    Of many files, it remembers their folders. It does nothing if the state or the collection cannot be written: the user
    can still name the folders to the server.

    Args:
        folder: of the collection.
        roots: absolute paths of folders and files.
    """
    with suppress(OSError, ValueError, StorageError, BusyError):  # ValueError: a name that no file can have
        known = known_roots(folder)
        new = [root for root in outermost(_name_folders(roots)) if root not in known]
        if {*outermost([*known, *new])} == {*known}:
            return
        path, identity = create_state_folder() / _FILE, _make_identity(folder)
        with locks.exclusive(path.with_suffix(".lock"), timeout=5):
            state = _with_roots(_read(path), _real(folder), identity, new)
            atomic.write_text(path, state.model_dump_json(indent=1) + "\n")


def is_below(path: Path, roots: Sequence[Path]) -> bool:
    """Return whether a file is one of some files, or lies in one of some folders, after all links are resolved.

    Example:
        >>> from lookalike.state.roots import is_below
        >>> is_below(Path("photos/mug.jpg"), [Path("photos")]), is_below(Path("photos/../mug.jpg"), [Path("photos")])
        (True, False)
    """
    try:
        real = os.path.realpath(path)
        return any(Path(real).is_relative_to(os.path.realpath(root)) for root in roots)
    except (OSError, ValueError):  # a name that no file can have
        return False


def _name_folders(paths: Iterable[Path]) -> list[Path]:
    """Replace files by their folders if there are many."""
    found = list(dict.fromkeys(paths))
    if len(found) <= _MAX_FILES:
        return found
    return [path if path.is_dir() else path.parent for path in found]


def outermost(roots: Iterable[Path]) -> list[Path]:
    """Sort paths, and leave out those below others."""
    kept: list[Path] = []
    for root in sorted(set(roots)):  # a folder comes directly before what lies below it
        if not kept or not root.is_relative_to(kept[-1]):
            kept.append(root)
    return kept


def _with_roots(state: _State, path: str, identity: str, roots: Sequence[Path]) -> _State:
    same = [k for k in state.collections if k.collection == path]
    before = [Path(root) for k in same if k.identity == identity for root in k.roots]
    all_roots = tuple(map(str, outermost([*before, *roots])))
    others = [k for k in state.collections if k.collection != path]
    known = _Known(collection=path, identity=identity, roots=all_roots)
    return _State(collections=(*others, known)[-_MAX_COLLECTIONS:])


def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def _read_identity(folder: Path) -> str | None:
    try:
        text = read_inside(folder, _IDENTITY, 64).decode("ascii").strip()
    except (OSError, ValueError):
        return None
    return text if re.fullmatch("[0-9a-f]{32}", text) else None


def _make_identity(folder: Path) -> str:
    """Read the identity of a collection, or make it."""
    with locks.exclusive(folder / "images.lock", timeout=5):
        identity = _read_identity(folder)
        if identity is None:
            identity = secrets.token_hex(16)
            atomic.write_text(resolve_inside(folder, _IDENTITY), f"{identity}\n")
    return identity


def _read(path: Path) -> _State:
    try:
        return _State.model_validate_json(read_inside(path.parent, path.name, _MAX_BYTES))
    except (OSError, ValidationError):
        return _State()
