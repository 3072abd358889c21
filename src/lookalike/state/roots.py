"""The folders of images that this user has indexed, remembered outside of their collections.

A collection may come from a stranger, and its catalogue may name any file of this machine. The server therefore serves
files only below folders that its user named or indexed. This module remembers the indexed ones in the user's own state
folder, by the path of the collection and by a random identity in the collection's folder. A collection that takes the
place of another one has another identity, so it does not inherit these folders.

A collection that was moved together with its images is known by its identity, if none is left at any of its old paths; from
then on it is remembered at its new path, too. Only folders beside it, or inside those, are known then: a stranger who returns a
changed copy of the collection reaches no other ones.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
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

# Relocations of a collection; the last ones stay.
_MAX_RELOCATIONS = 100

# A source of more files than this is remembered by their folders.
_MAX_FILES = 64


class _Known(BaseModel):
    """The roots of one collection, and its relocations from a folder to another, in their order."""

    model_config = ConfigDict(frozen=True)

    collection: str
    identity: str
    roots: tuple[str, ...] = ()
    relocations: tuple[tuple[str, str], ...] = ()


class _State(BaseModel):
    """The content of ``roots.json``: the collections, the one that was indexed last at the end."""

    model_config = ConfigDict(frozen=True)

    format: int = 1
    collections: tuple[_Known, ...] = ()


def known_roots(folder: Path) -> tuple[Path, ...]:
    """Return the folders and files that this user has indexed into a collection, as `record_roots` remembered them.

    A collection that was moved is remembered at its new path, so that a later copy of it is not taken for it.

    Args:
        folder: of the collection.
    """
    known = _find(_read(state_folder() / _FILE), folder)
    _change(folder, lambda known: known)
    return tuple(map(Path, known.roots))


def known_relocations(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the old and the new folder of each relocation that `record_relocation` remembered, in their order.

    A folder that was moved together with the collection is the last one.

    Args:
        folder: of the collection.
    """
    return _find(_read(state_folder() / _FILE), folder).relocations


def read_identity(folder: Path) -> str | None:
    """Return the random identity of a collection; none if this user has never indexed into it."""
    try:
        text = read_inside(folder, _IDENTITY, 64).decode("ascii").strip()
    except (OSError, ValueError):
        return None
    return text if re.fullmatch("[0-9a-f]{32}", text) else None


def find_collection(folder: Path, identity: str | None, near: Path) -> Path:
    """Return where a collection is now: the path itself if it is there, or if it is found nowhere else.

    Args:
        folder: of the collection, before it was moved.
        identity: of the collection; none if only the state of this user may tell it.
        near: a folder that may hold the collection now, besides the places that the state of this user has.
    """
    known = _read(state_folder() / _FILE).collections
    if identity is None:
        identity = next((each.identity for each in known if each.collection == _real(folder)), None)
    if identity is None or read_identity(folder) == identity:
        return folder
    places = [Path(each.collection) for each in reversed(known) if each.identity == identity]
    with suppress(OSError), os.scandir(near) as entries:
        places += sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    return next((place for place in places if read_identity(place) == identity), folder)


def record_roots(folder: Path, roots: Iterable[Path]) -> None:
    """Remember that this user indexed folders and files into a collection.

    Of many files, it remembers their folders. It forgets relocations from folders that are in use again. It does nothing if the
    state or the collection cannot be written: the user can still name the folders to the server.

    Args:
        folder: of the collection.
        roots: absolute paths of folders and files.
    """
    new = _name_folders(roots)
    _change(folder, lambda known: _add_roots(known, new))


def record_relocation(folder: Path, old: str, new: Path) -> None:
    """Remember that the images of a collection are in another folder now; it does nothing if that cannot be written.

    Args:
        folder: of the collection.
        old: where they were: an absolute path, also of another system.
        new: the absolute path of the folder, or file, where they are now.
    """

    def add(known: _Known) -> _Known:
        known = _add_roots(known, [new])
        relocations = (*known.relocations, (old, str(new)))[-_MAX_RELOCATIONS:]
        return known.model_copy(update={"relocations": relocations})

    _change(folder, add)


def _add_roots(known: _Known, new: Sequence[Path]) -> _Known:
    """Add roots to a collection, and drop its relocations from folders that are in use again."""
    before = [Path(root) for root in known.roots]
    relocations = tuple(pair for pair in known.relocations if not _is_in_use(Path(pair[0]), new))
    added = tuple(map(str, outermost([*before, *(root for root in new if root not in before)])))
    return known.model_copy(update={"roots": added, "relocations": relocations})


def _is_in_use(folder: Path, roots: Sequence[Path]) -> bool:
    """Return whether one of some indexed folders is in a folder or around it, and the folder exists."""
    return any(root.is_relative_to(folder) or folder.is_relative_to(root) for root in roots) and os.path.lexists(folder)


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


def _find(state: _State, folder: Path) -> _Known:
    """Return what is known of a collection, under its path or, if it was moved, under its old path."""
    identity, path = read_identity(folder), _real(folder)
    known = _Known(collection=path, identity=identity or "")
    if identity is None:
        return known
    same = {each.collection: each for each in state.collections if each.identity == identity}
    if path in same:
        return same[path]
    if not same or any(read_identity(Path(old)) == identity for old in same):
        return known
    return _move(list(same.values())[-1], path)


def _move(old: _Known, path: str) -> _Known:
    """Return what is known of a collection that was moved to another path: the roots beside it that were moved with it."""
    roots: list[str] = []
    relocations = list(old.relocations)
    for root in old.roots:
        with suppress(OSError, ValueError):  # it is not beside the collection, or a link is on the way
            name = Path(root).relative_to(Path(old.collection).parent).as_posix()
            new = str(resolve_inside(Path(path).parent, name))
            roots.append(new)
            if os.path.lexists(new) and not os.path.lexists(root):
                relocations.append((root, new))
    update = {"collection": path, "roots": tuple(roots), "relocations": tuple(relocations[-_MAX_RELOCATIONS:])}
    return old.model_copy(update=update)


def _change(folder: Path, change: Callable[[_Known], _Known]) -> None:
    """Change what is known of a collection, if that is a change and the state and the collection can be written."""
    with suppress(OSError, ValueError, StorageError, BusyError):  # ValueError: a name that no file can have
        state = _read(state_folder() / _FILE)
        new = change(_find(state, folder))
        if not new.roots or new in state.collections:
            return
        path, identity = create_state_folder() / _FILE, read_identity(folder) or _make_identity(folder)
        with locks.exclusive(path.with_suffix(".lock"), timeout=5):
            state = _read(path)
            known = change(_find(state, folder)).model_copy(update={"identity": identity})
            others = [
                each
                for each in state.collections
                if (each.collection, each.identity) != (known.collection, known.identity)
            ]
            state = _State(collections=(*others, known)[-_MAX_COLLECTIONS:])
            atomic.write_text(path, state.model_dump_json(indent=1) + "\n")


def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def _make_identity(folder: Path) -> str:
    """Read the identity of a collection, or make it."""
    with locks.exclusive(folder / "images.lock", timeout=5):
        identity = read_identity(folder)
        if identity is None:
            identity = secrets.token_hex(16)
            atomic.write_text(resolve_inside(folder, _IDENTITY), f"{identity}\n")
    return identity


def _read(path: Path) -> _State:
    try:
        return _State.model_validate_json(read_inside(path.parent, path.name, _MAX_BYTES))
    except (OSError, ValidationError):
        return _State()
