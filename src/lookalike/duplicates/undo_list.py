"""The undo list of a trash folder: a line of JSON for each file, written before the file is moved.

A trash folder may come from a stranger: each line is checked, and no link inside the folder is followed.
"""

import json
import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path, PurePath
from typing import Annotated, BinaryIO, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lookalike import atomic
from lookalike.errors import AlreadyExistsError, NotFoundError, StorageError, plain_reason, reason_of
from lookalike.images.finding import TRASH_LIST
from lookalike.ingest import absolute_path
from lookalike.untrusted import parsing
from lookalike.untrusted.parsing import ParseError
from lookalike.untrusted.paths import resolve_inside

# Bytes of a line; paths have at most a few thousand.
_MAX_LINE = 1 << 20

# Characters of a path, and names in it: a deeper path costs time that grows with the square of its depth.
_MAX_PATH = 1 << 12
_MAX_DEPTH = 128

# The name of an incomplete copy.
_PART = re.compile(r"\..*\.[0-9a-f]{16}\.lookalike-part")


def _check_path(path: str) -> str:
    if not 0 < len(path) <= _MAX_PATH or "\0" in path:
        raise ValueError(f"a path has at most {_MAX_PATH:,} characters and no NUL")
    parts = PurePath(path).parts
    if len(parts) > _MAX_DEPTH or ".." in parts:
        raise ValueError(f"a path has at most {_MAX_DEPTH} names and no “..”")
    return path


def _check_absolute(path: str) -> str:
    if not PurePath(path).is_absolute():
        raise ValueError("the place of a file is an absolute path")
    return path


def _numbered(inside: PurePath, number: int) -> str:
    """Return a place in a trash folder: the whole path of a file without the root, with a number from 2 in its name."""
    return (inside.with_name(f"{inside.stem} ({number}){inside.suffix}") if number > 1 else inside).as_posix()


def _places(path: PurePath) -> Iterator[str]:
    """Yield the places of a file in a trash folder, in the order of their numbers."""
    inside = PurePath(*path.parts[1:])
    return (_numbered(inside, number) for number in count(1))


def _is_place(trashed: str, path: PurePath) -> bool:
    """Return whether a path inside a trash folder is one of the places of a file."""
    inside = PurePath(*path.parts[1:])
    found = re.search(r" \(([2-9]|[1-9][0-9]+)\)\Z", trashed.removesuffix(inside.suffix))
    numbers = (1, int(found[1])) if found else (1,)
    return bool(inside.parts) and any(trashed == _numbered(inside, number) for number in numbers)


_AnyPath = Annotated[str, AfterValidator(_check_path)]
_AbsolutePath = Annotated[_AnyPath, AfterValidator(_check_absolute)]


class Record(BaseModel):
    """A line of the undo list: the two places of a file, and the fields of its item.

    Attributes:
        collection: the path of the collection.
        identity: the identity of the collection, by which it is found after a move; none in lists of older versions.
        file: the path of the file before the move.
        trashed: the path inside the trash folder, which follows from ``file``, and may have a number.
        kept: the path of the image that was kept instead.
        sha256: the SHA-256 of the file.
        id: the item's id.
        uri: the item's uri.
        label: the item's label.
        attributes: the item's attributes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: _AbsolutePath
    identity: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}\z")
    file: _AbsolutePath
    trashed: _AnyPath
    kept: _AnyPath
    sha256: str = Field(pattern=r"^[0-9a-f]{64}\z")
    id: str = Field(min_length=1)
    uri: str
    label: str | None
    attributes: dict[str, str]

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if not _is_place(self.trashed, PurePath(self.file)):
            raise ValueError("the place in the trash is not that of the file")
        return self

    def find_trashed(self, trash: Path) -> Path:
        """Return the path of the file in a trash folder.

        Raises:
            OSError: a link is on the way.
        """
        return resolve_inside(trash, PurePath(self.trashed).as_posix())

    def to_line(self) -> bytes:
        """Return the line; a name that is not Unicode is escaped."""
        return json.dumps(self.model_dump(), separators=(",", ":")).encode() + b"\n"


class UndoList:
    """The list of a trash folder, open for appending."""

    def __init__(self, folder: Path) -> None:
        self.folder = absolute_path(folder)
        self._path = self.folder / TRASH_LIST

    def __enter__(self) -> Self:
        """Create the folder and open the list.

        Raises:
            AlreadyExistsError: the folder holds other files.
            StorageError: the folder cannot be written.
        """
        try:
            if self.folder.is_dir() and not os.path.lexists(self._path) and any(self.folder.iterdir()):
                raise AlreadyExistsError(
                    f"{self.folder} is not a trash folder: it holds other files. Give a new folder with --trash."
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = _open(self.folder, os.O_RDWR | os.O_APPEND | os.O_CREAT, "a+b")
            try:
                _drop_torn_line(self._file)
            except BaseException:
                self._file.close()
                raise
        except (OSError, ParseError) as e:
            raise StorageError(
                f"The trash folder {self.folder} cannot be written: {reason_of(e)}. Nothing was moved;"
                " give another folder with --trash."
            ) from e
        return self

    def __exit__(self, *_: object) -> None:
        """Close the list."""
        self._file.close()

    def place(self, path: Path) -> Path:
        """Return the target of a file: its whole path inside the trash, with a number if that path exists.

        Raises:
            OSError: a link is on the way.
        """
        targets = (resolve_inside(self.folder, name) for name in _places(path))
        return next(target for target in targets if not os.path.lexists(target))

    def add(self, record: Record) -> None:
        """Append a record, and sync it to the disk."""
        try:
            self._file.write(record.to_line())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as e:
            raise StorageError(
                f"{self._path} cannot be written: {e.strerror}. To restore the files that have been moved: lookalike"
                f" duplicates undo {shlex.quote(str(self.folder))}"
            ) from e


def _open(folder: Path, flags: int, mode: str) -> BinaryIO:
    """Open the list of a trash folder: a regular file, and no link.

    Raises:
        OSError: it cannot be opened, or is a link.
        ParseError: it is not a regular file.
    """
    path = resolve_inside(folder, TRASH_LIST)
    if path.exists() and not path.is_file():
        raise ParseError("its list is not a file")
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file: BinaryIO = os.fdopen(os.open(path, flags, 0o666), mode)  # type: ignore[assignment]  # the mode is binary
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ParseError("its list is not a file")
    return file


def _drop_torn_line(file: BinaryIO) -> None:
    """Remove an incomplete last line, which a kill left: its file was not moved yet."""
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - _MAX_LINE))
    end = file.read()
    if end.endswith(b"\n") or not end:
        return
    if start and b"\n" not in end:
        raise ParseError("its list has a line of more than a megabyte")
    file.truncate(start + end.rfind(b"\n") + 1)


def read_undo_list(trash: Path) -> list[Record]:
    """Read the records of a trash folder; if several have one place in the trash, the last one counts.

    Raises:
        NotFoundError: the folder is not a trash folder.
        StorageError: the list cannot be read.
    """
    path = trash / TRASH_LIST
    records: dict[str, Record] = {}
    try:
        with _open(trash, os.O_RDONLY, "rb") as file:
            for number, line in enumerate(_complete_lines(file), 1):
                record = _parse(line, f"{path}, line {number},")
                records[record.trashed] = record
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFoundError(f"{trash} is not a trash folder: it has no {TRASH_LIST}.") from e
    except (OSError, ValueError) as e:  # ParseError: not a regular file; ValueError: a name that no file can have
        raise StorageError(f"{path} cannot be read: {reason_of(e)}.") from e
    return list(records.values())


def _complete_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines; a line that is too long is cut, and a torn last line is left out."""
    while (line := file.readline(_MAX_LINE)).endswith(b"\n") or len(line) == _MAX_LINE:
        yield line


def _parse(line: bytes, where: str) -> Record:
    try:
        return Record.model_validate(parsing.parse_json(line, _MAX_LINE))
    except ParseError as e:
        reason = str(e)
    except ValidationError as e:
        first = e.errors()[0]
        reason = f"{'.'.join(map(repr, first['loc'][:1])) or 'the line'}: {plain_reason(first['msg'])}"
    raise StorageError(f"{where} is damaged, and nothing was restored: {reason}. Correct the line or delete it.")


def finish(trash: Path, records: Sequence[Record], remaining: Sequence[Record]) -> None:
    """Keep the records of remaining files; without any, remove the list. Remove the folders that are empty now.

    Args:
        trash: the trash folder.
        records: of the restored files.
        remaining: the records to keep.

    Raises:
        OSError: the list cannot be written.
    """
    path = trash / TRASH_LIST
    if remaining:
        atomic.write_bytes(path, *(record.to_line() for record in remaining))
    else:
        path.unlink()
    places = {PurePath(record.trashed).parent for record in records}
    while places:  # the deepest first; a parent follows only if its folder existed and is removed
        depth = max(len(place.parts) for place in places)
        deepest = {place for place in places if len(place.parts) == depth}
        places -= deepest
        places |= {place.parent for place in deepest if depth and _remove_if_empty(trash, place)}
    _remove_if_empty(trash, PurePath())


def _remove_if_empty(trash: Path, place: PurePath) -> bool:
    """Remove a folder of the trash if it holds nothing but incomplete copies; return whether it was removed."""
    try:
        folder = resolve_inside(trash, place.as_posix()) if place.parts else trash
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _PART.fullmatch(entry.name):
                    return False
                Path(entry.path).unlink()  # left by a kill; the file itself is in its place
        folder.rmdir()
    except OSError:
        return False
    return True
