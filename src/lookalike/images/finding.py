"""Pictures under a folder."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lookalike.errors import (
    NotFoundError,
    StorageError,
    UsageError,
)

log = logging.getLogger(__name__)

SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"},
)
"""Lower-case endings of the files that `find` lists."""

TRASH_LIST = "lookalike-trash.jsonl"
"""A folder with this file is a trash of `lookalike.duplicates`, and lists what is in it."""

_NOT_PICTURES = frozenset({"@eadir", "__macosx", "#recycle", "$recycle.bin", "thumbs.db", "lost+found"})


def find(folder: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """List the pictures under a folder, by their endings.

    Left out are hidden files and folders (a leading dot), the thumbnails and waste that systems leave about, and
    lookalike's own collections and trash. A folder reached in several ways, by links or by a loop of links, is listed once,
    under its real path if that lies in `folder`; so a new link never changes the paths of what was there. A link to a
    file is listed like a file.

    Args:
        folder: Where to begin; it may itself be hidden or a link.
        on_error: Called with the error (its `filename` is set) for each sub-folder that cannot be listed and each link
            that leads nowhere; by default these are logged as warnings. Neither stops the search.

    Returns:
        Paths that begin with `folder`, sorted part by part.

    Raises:
        NotFoundError: There is no such folder.
        UsageError: It is a file.
        StorageError: The folder itself cannot be listed.
    """
    report = on_error or (lambda error: log.warning("Left out: %s", error))
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    # Real folders first, links to folders only when no real one is left.
    folders, links = [folder], list[Path]()
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            if here != folder and any(entry.name == TRASH_LIST for entry in entries):
                continue
        except OSError as error:
            if here == folder:
                raise _no_folder(folder, error) from error
            report(error)
            continue
        for entry in entries:
            path = here / entry.name
            match _kind(entry, report):
                case "folder":
                    folders.append(path)
                case "link":
                    links.append(path)
                case "picture":
                    found.append(path)
    return sorted(found)


def _kind(entry: os.DirEntry[str], report: Callable[[OSError], None]) -> Literal["folder", "link", "picture"] | None:
    name = entry.name.lower()
    if name.startswith(".") or name in _NOT_PICTURES or name.endswith(".lookalike"):
        return None
    try:
        if entry.is_dir():
            return "link" if entry.is_symlink() else "folder"
        if Path(name).suffix not in SUFFIXES:
            return None
        if entry.is_file():
            return "picture"
        if entry.is_symlink():
            Path(entry.path).stat()  # raises, and says why the link leads nowhere
    except OSError as error:  # a link to itself, for one
        report(error)
    return None


def _no_folder(folder: Path, error: OSError) -> NotFoundError | UsageError | StorageError:
    quoted = repr(str(folder))
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"There is no folder {quoted}. Check the path.")
    if isinstance(error, NotADirectoryError):
        return UsageError(f"{quoted} is a file, not a folder. Give the folder that it is in.")
    return StorageError(f"The folder {quoted} cannot be listed: {error.strerror}. Check its permissions.")
