"""Listing of the image files under a folder, and counts of the files that lookalike does not take."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lookalike.errors import NotFoundError, StorageError, UnreadableImageError, UsageError
from lookalike.images.formats import FORMATS, RAW, TGA, TIFF, media_type
from lookalike.images.kinds import HEAD_BYTES, KINDS, VIDEO, NotTaken, is_plain, kind_of
from lookalike.images.sources import quote

log = logging.getLogger(__name__)

SUFFIXES: frozenset[str] = frozenset(suffix for form in FORMATS.values() for suffix in form.suffixes)
"""Lower-case suffixes of image files, those included that only an extra reads."""

_DRAWING = ".json"

_MEDIA = {suffix: media for media, form in FORMATS.items() for suffix in form.suffixes}
_EXTRAS = {form.name: form.extra for form in FORMATS.values()}

TRASH_LIST = "lookalike-trash.jsonl"
"""A folder with this file is a trash of `lookalike.duplicates`; the file lists its contents."""

_SYSTEM_NAMES = frozenset({"@eadir", "__macosx", "#recycle", "$recycle.bin", "thumbs.db", "lost+found"})


OnError = Callable[[OSError], None]


@dataclass(frozen=True)
class Found:
    """The files under a folder.

    Attributes:
        paths: the image files, sorted by their parts.
        not_taken: the other files that show something, by kind, sorted by its name. Texts, sidecars, sound, archives
            and the like are not counted.
    """

    paths: tuple[Path, ...]
    not_taken: tuple[NotTaken, ...]


def describe_not_taken(not_taken: Sequence[NotTaken]) -> str:
    """Return a sentence, such as “Not taken: 4 HEIC, 2 videos.”; empty if all files were taken."""
    return f"Not taken: {', '.join(map(str, not_taken))}." if not_taken else ""


def find(folder: str | os.PathLike[str], on_error: OnError | None = None, *, drawings: bool = False) -> list[Path]:
    """List the image files under a folder: the paths of `survey`, which says more about the folder and the errors."""
    return list(survey(folder, on_error, drawings=drawings).paths)


def survey(folder: str | os.PathLike[str], on_error: OnError | None = None, *, drawings: bool = False) -> Found:
    """List the image files under a folder, and count the files of other kinds, such as videos.

    A file with the suffix of an image is taken unseen. The first bytes decide on a file with an unknown suffix, with none,
    or with the suffix of an image format that is not read: a JPEG named ``IMG_1.HEIC`` or ``photo.jpg_large`` is taken.

    It skips hidden files and folders (a leading dot), thumbnail and trash folders of operating systems, and lookalike's
    own collections and trash. It lists a folder once, even if several links or a loop of links lead to it, and under its
    real path if that lies in ``folder``. So a new link never changes the paths of other files. It lists a link to a file
    like a file.

    Args:
        folder: the folder; it may itself be hidden or a link. ``~`` is not expanded.
        on_error: called with the error (its `filename` is set) for each sub-folder that cannot be listed and each broken
            link; by default these are logged as warnings. Neither stops the search.
        drawings: also take JSON files, which may hold strokes; see `lookalike.images.strokes`.

    Returns:
        The files; their paths begin with ``folder``.

    Raises:
        NotFoundError: the folder does not exist.
        UsageError: it is a file.
        StorageError: the folder itself cannot be listed.
    """
    report = on_error or (lambda error: log.warning("Skipped: %s", error))
    images: list[Path] = []
    others: Counter[str] = Counter()
    for path in _files(Path(folder), report, drawings=drawings):
        kind = "image" if drawings and path.suffix.lower() == _DRAWING else _kind(path, report)
        if kind == "image":
            images.append(path)
        elif kind is not None:
            others[kind] += 1
    return Found(
        tuple(sorted(images)), tuple(NotTaken(kind, others[kind], _EXTRAS.get(kind)) for kind in sorted(others))
    )


def _files(folder: Path, report: OnError, *, drawings: bool) -> Iterator[Path]:
    """Yield the files under a folder that may be images, or drawings."""
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
            match _type(entry, report, drawings=drawings):
                case "folder":
                    folders.append(path)
                case "link":
                    links.append(path)
                case "file":
                    yield path


def _list(folder: Path, seen: set[tuple[int, int]], *, is_root: bool) -> list[os.DirEntry[str]]:
    """List a folder, or nothing if it was listed before or is a trash."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return []
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    return [] if not is_root and any(entry.name == TRASH_LIST for entry in entries) else entries


def _type(entry: os.DirEntry[str], report: OnError, *, drawings: bool) -> Literal["folder", "link", "file"] | None:
    name = entry.name.lower()
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 -- a Path takes longer, and there may be 100,000
    if name.startswith(".") or name in _SYSTEM_NAMES or name.endswith(".lookalike"):
        return None
    try:
        if entry.is_dir():
            return "link" if entry.is_symlink() else "folder"
        if is_plain(suffix) and not (drawings and suffix == _DRAWING):
            return None
        if entry.is_file():
            return "file"
        if entry.is_symlink() and suffix in SUFFIXES:
            Path(entry.path).stat()  # raises an error with the reason
    except OSError as error:  # a link to itself, for example
        report(error)
    return None


def _kind(path: Path, report: OnError) -> str | None:
    """Return “image”, the kind of a file that is not taken, or None for a file that shows nothing."""
    suffix = os.path.splitext(path.name)[1].lower()  # noqa: PTH122 -- as in `_type`
    media = _MEDIA.get(suffix)
    if media and FORMATS[media].is_readable:
        return "image"
    if KINDS.get(suffix) == VIDEO:
        return VIDEO
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        if media:  # the others are hardly images
            report(error)
        return None
    try:
        found = media_type(head)
    except UnreadableImageError:
        return kind_of(path.name, head) or (FORMATS[media].name if media else None)
    if found == TGA:  # bytes that are probable in other files, too
        return None
    if found == TIFF and media == RAW:
        found = RAW
    return "image" if FORMATS[found].is_readable else FORMATS[found].name


def _translate_error(folder: Path, error: OSError) -> NotFoundError | UsageError | StorageError:
    name = quote(folder)
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"There is no folder and no file {name}. Check the path.")
    if isinstance(error, NotADirectoryError):
        return UsageError(f"{name} is a file, not a folder. Give the folder that it is in.")
    return StorageError(f"The folder {name} cannot be listed: {error.strerror}. Check its permissions.")
