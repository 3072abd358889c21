"""Names that differ only in their Unicode form: among texts, and as paths on a disk.

macOS writes “é” as two characters (NFD) in the names of files, and most keyboards as one (NFC). They look the same, so a user
who types one means the other if only that one exists.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize

from lookalike.errors import UsageError


def find_names(wanted: str, names: Iterable[str]) -> list[str]:
    """Find a name among others: the name itself, or else all that differ from it only in their Unicode form.

    Example:
        >>> from lookalike.unicode_forms import find_names
        >>> find_names("caf\u00e9", ["cafe\u0301", "tea"]) == ["cafe\u0301"], find_names("caf", ["cafe\u0301"])
        (True, [])
    """
    form = normalize("NFC", wanted)
    same = [name for name in names if name == wanted or (not name.isascii() and normalize("NFC", name) == form)]
    return [wanted] if wanted in same else same


def find_existing(path: Path) -> Path:
    """Find the file or folder that a path names in any Unicode form; the path itself if it exists, or if none or several fit.

    Example:
        >>> from lookalike.unicode_forms import find_existing
        >>> Path("cafe\u0301").touch()
        >>> find_existing(Path("caf\u00e9")) == Path("cafe\u0301"), find_existing(Path("t\u00e9")) == Path("t\u00e9")
        (True, True)
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if os.path.lexists(found / part):
            found /= part
            continue
        try:
            alike = find_names(part, (each.name for each in found.iterdir()))
        except (OSError, ValueError):  # ValueError: a NUL in the path
            return path
        if len(alike) != 1:
            return path
        found /= alike[0]
    return found


def to_path(path: object) -> Path:
    """Convert a path that a user gives to a `Path`, which names an existing file or folder in any Unicode form.

    Raises:
        UsageError: it is neither a str nor path-like.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"A path is a str or a Path, not {type(path).__name__}.")
    if not os.fspath(path):
        raise UsageError("The path is empty. Give the path of a file or a folder.")
    try:
        if b"\0" in os.fsencode(path):
            raise UsageError(f"The path {str(path)!r} holds a NUL character. Check it.")
        return find_existing(Path(path))
    except UnicodeEncodeError as e:
        raise UsageError(f"The path {str(path)!r} is not the name of a file. Check it.") from e
