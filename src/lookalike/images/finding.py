"""Listing of the image files under a folder."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lookalike.errors import NotFoundError, StorageError, UsageError
from lookalike.images.sources import quote

log = logging.getLogger(__name__)

SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"},
)
"""Lower-case suffixes of the files that `find` lists."""

TRASH_LIST = "lookalike-trash.jsonl"
"""A folder with this file is a trash of `lookalike.duplicates`; the file lists its contents."""

_SYSTEM_NAMES = frozenset({"@eadir", "__macosx", "#recycle", "$recycle.bin", "thumbs.db", "lost+found"})


def find(folder: str | os.PathLike[str], on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """List the image files under a folder, by their suffixes.

    It skips hidden files and folders (a leading dot), thumbnail and trash folders of operating systems, and lookalike's
    own collections and trash. It lists a folder once, even if several links or a loop of links lead to it, and under its
    real path if that lies in ``folder``. So a new link never changes the paths of other files. It lists a link to a file
    like a file.

    Args:
        folder: the folder; it may itself be hidden or a link. ``~`` is not expanded.
        on_error: called with the error (its `filename` is set) for each sub-folder that cannot be listed and each broken
            link; by default these are logged as warnings. Neither stops the search.

    Returns:
        Paths that begin with ``folder``, sorted by their parts.

    Raises:
        NotFoundError: the folder does not exist.
        UsageError: it is a file.
        StorageError: the folder itself cannot be listed.
    """
    folder = Path(folder)
    report = on_error or (lambda error: log.warning("Skipped: %s", error))
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    # Links come after all real folders, so that a folder gets its real path.
    folders, links = [folder], list[Path]()
    while folders or links:
        current = folders.pop() if folders else links.pop(0)
        try:
            entries = _list(current, seen, is_root=current == folder)
        except ValueError as error:  # a NUL, or half a surrogate pair
            raise NotFoundError(f"There is no folder {quote(current)}. Check the path.") from error
        except OSError as error:
            if current == folder:
                raise _translate_error(folder, error) from error
            report(error)
            continue
        for entry in entries:
            path = current / entry.name
            match _kind(entry, report):
                case "folder":
                    folders.append(path)
                case "link":
                    links.append(path)
                case "image":
                    files.append(path)
    return sorted(files)


def _list(folder: Path, seen: set[tuple[int, int]], *, is_root: bool) -> list[os.DirEntry[str]]:
    """List a folder, or nothing if it was listed before or is a trash."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return []
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    return [] if not is_root and any(entry.name == TRASH_LIST for entry in entries) else entries


def _kind(entry: os.DirEntry[str], report: Callable[[OSError], None]) -> Literal["folder", "link", "image"] | None:
    name = entry.name.lower()
    if name.startswith(".") or name in _SYSTEM_NAMES or name.endswith(".lookalike"):
        return None
    try:
        if entry.is_dir():
            return "link" if entry.is_symlink() else "folder"
        if Path(name).suffix not in SUFFIXES:
            return None
        if entry.is_file():
            return "image"
        if entry.is_symlink():
            Path(entry.path).stat()  # raises an error with the reason
    except OSError as error:  # a link to itself, for example
        report(error)
    return None


def _translate_error(folder: Path, error: OSError) -> NotFoundError | UsageError | StorageError:
    name = quote(folder)
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"There is no folder and no file {name}. Check the path.")
    if isinstance(error, NotADirectoryError):
        return UsageError(f"{name} is a file, not a folder. Give the folder that it is in.")
    return StorageError(f"The folder {name} cannot be listed: {error.strerror}. Check its permissions.")
