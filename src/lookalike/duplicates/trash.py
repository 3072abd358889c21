"""Move the surplus of groups into a trash folder, and restore it.

Before each move, a record is written into the trash's undo list and synced to the disk. So the list names every file that has
been moved, even after a kill. A file is unlinked only when its content is in the trash, and no file is ever overwritten.
"""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from lookalike import atomic, images, ingest
from lookalike.duplicates.result import Group, Member
from lookalike.duplicates.source import Failure, Source
from lookalike.errors import AlreadyExistsError, LookalikeError, NotFoundError, StorageError
from lookalike.images.finding import TRASH_LIST
from lookalike.ingest import Entry, absolute_path
from lookalike.progress import SILENT, Progress
from lookalike.stores import Item

# The name of an incomplete copy.
_PART = re.compile(r"\..*\.[0-9a-f]{16}\.lookalike-part")


class Record(BaseModel):
    """A line of the undo list: the two places of a file, and the fields of its item.

    Attributes:
        collection: the path of the collection.
        file: the path of the file before the move.
        trashed: the path inside the trash folder.
        kept: the path of the image that was kept instead.
        sha256: the SHA-256 of the file.
        id: the item's id.
        uri: the item's uri.
        label: the item's label.
        attributes: the item's attributes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str
    file: str
    trashed: str
    kept: str
    sha256: str
    id: str
    uri: str
    label: str | None
    attributes: dict[str, str]

    @field_validator("trashed")
    @classmethod
    def _check_inside(cls, path: str) -> str:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ValueError("a file in the trash is inside the trash folder")
        return path


@dataclass(frozen=True)
class Moved:
    """The files that were moved into a trash folder, or restored from it.

    Attributes:
        files: their paths outside the trash folder.
        size: the sum of their sizes, in bytes.
        failures: path and reason of each file that was not moved.
    """

    files: tuple[Path, ...]
    size: int
    failures: tuple[Failure, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold."""
        return {
            "files": [str(path) for path in self.files],
            "bytes": self.size,
            "failures": [{"path": str(path), "reason": reason} for path, reason in self.failures],
        }


# ---- move


def move_to_trash(
    source: Source, groups: Iterable[Group], trash: str | os.PathLike[str], progress: Progress = SILENT
) -> Moved:
    """Move the surplus of groups into a trash folder, and remove it from the collection.

    A file stays in its place if the file, or the image that is kept instead, is missing or has changed since it was
    indexed.

    Args:
        source: the collection of the groups.
        groups: groups that `find_duplicates` returned.
        trash: the folder; it is created if it does not exist, and may hold files of earlier moves.
        progress: receives the stage ``"moving"``.

    Raises:
        AlreadyExistsError: the folder holds other files.
        StorageError: the trash cannot be written, or is full. The undo list names the files that have been moved.
    """
    with_surplus = [group for group in groups if group.surplus]
    if not with_surplus:
        return Moved((), 0, ())
    total = sum(len(group.surplus) for group in with_surplus)
    moved: list[Member] = []
    failures: list[Failure] = []
    with UndoList(Path(trash)) as undo:
        for group in with_surplus:
            already = len(moved)
            try:
                for member, failure in _move_group(source, group, undo):
                    if failure:
                        failures.append((member.path, failure))
                    else:
                        moved.append(member)
                    progress.advance("moving", len(moved) + len(failures), total)
            finally:  # also after an interrupt, the collection must not hold files that have been moved
                _remove(source, moved[already:])
    return Moved(tuple(member.path for member in moved), sum(member.facts.size for member in moved), tuple(failures))


def _move_group(source: Source, group: Group, undo: "UndoList") -> Iterator[tuple[Member, str | None]]:
    """Move the surplus of a group; yield each member, with the reason if its file stays."""
    kept = group.members[0]
    kept_problem = _problem(kept.path, kept.item.sha256)
    for member in group.surplus:
        if kept_problem:
            yield member, f"the image to keep, {kept.path}: {kept_problem}"
        elif problem := _problem(member.path, member.item.sha256):
            yield member, problem
        else:
            yield member, _move_member(source, member, kept.path, undo)


def _remove(source: Source, moved: Sequence[Member]) -> None:
    """Remove the items of moved files, and their thumbnails, from the collection."""
    source.store.delete([member.item.id for member in moved])
    source.folder.discard_images(member.item for member in moved)


def _move_member(source: Source, member: Member, kept: Path, undo: "UndoList") -> str | None:
    """Record a move and make it; return the reason if the file stays."""
    path, item = absolute_path(member.path), member.item
    target = undo.place(path)
    undo.add(
        Record(
            collection=str(absolute_path(source.folder.path)),
            file=str(path),
            trashed=str(target.relative_to(undo.folder)),
            kept=str(absolute_path(kept)),
            sha256=item.sha256,
            id=item.id,
            uri=item.uri,
            label=item.label,
            attributes=dict(item.attributes),
        )
    )
    try:
        move(path, target, item.sha256)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) and not _is_writable(undo.folder):
            raise StorageError(
                f"{undo.folder} cannot take {path}: {e.strerror}. To restore the files that have been moved: lookalike"
                f" duplicates undo {undo.folder}"
            ) from e
        return f"it cannot be moved: {e.strerror}"
    return None


def _problem(path: Path, sha256: str) -> str | None:
    """Return the reason if a file does not have the content that was indexed."""
    try:
        if path.is_symlink():
            return "it has become a link"
        return None if images.fingerprint(images.read_bytes(path)) == sha256 else "it has changed since it was indexed"
    except NotFoundError:
        return "it is missing"
    except LookalikeError as e:
        return str(e)


def _is_writable(folder: Path) -> bool:
    """Return whether a small file can be written into a folder."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        with probe.open("xb") as file:
            file.write(bytes(1 << 16))
        atomic.sync(probe)
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


# ---- restore

OpenSource = Callable[[Path], AbstractContextManager[Source]]
"""A function that opens a collection by its folder, such as `Collection.open`."""


def restore(trash: str | os.PathLike[str], open_source: OpenSource, progress: Progress = SILENT) -> Moved:
    """Move all files of a trash folder back to their places, and add them to their collections again.

    A file stays in the trash, and in its list, if another file has taken its place. An empty trash folder is removed.

    Args:
        trash: the trash folder.
        open_source: a function that opens a collection by its folder.
        progress: receives the stage ``"restoring"``.

    Raises:
        NotFoundError: the folder is not a trash folder.
        StorageError: the undo list cannot be read or written.
    """
    trash = Path(trash)
    records = read_undo_list(trash)
    restored: list[Record] = []
    failures: list[Failure] = []
    for i, record in enumerate(
        reversed(records)
    ):  # of several files with one place, the last one moved comes back first
        if problem := _restore_file(trash, record):
            failures.append((Path(record.file), problem))
        else:
            restored.append(record)
        progress.advance("restoring", i + 1, len(records))
    size = sum(Path(record.file).stat().st_size for record in restored)
    for folder in dict.fromkeys(record.collection for record in restored):
        failures += _add_again(Path(folder), [r for r in restored if r.collection == folder], open_source)
    done = {record.trashed for record in restored}
    _finish(trash, [record for record in records if record.trashed not in done])
    return Moved(tuple(Path(record.file) for record in restored), size, tuple(failures))


def _restore_file(trash: Path, record: Record) -> str | None:
    """Move a file back; return the reason if it stays in the trash."""
    trashed, target = trash / record.trashed, Path(record.file)
    if not trashed.exists():
        # A kill prevented the move, or an earlier call restored the file.
        return None if not _problem(target, record.sha256) else "it is neither in the trash nor in its place"
    try:
        if target.exists() and not _problem(target, record.sha256):
            trashed.unlink()  # a kill came after the file was linked and before it was unlinked
            return None
        move(trashed, target, record.sha256)
    except FileExistsError:
        return f"another file has taken its place; it stays at {trashed}"
    except OSError as e:
        return f"it cannot be restored: {e.strerror}; it stays at {trashed}"
    return None


def _add_again(folder: Path, records: Sequence[Record], open_source: OpenSource) -> list[Failure]:
    """Add restored files to their collection; return path and reason of each file that could not be added."""
    try:
        with open_source(folder) as source:
            entries = []
            for record in records:
                if Path(record.uri).is_absolute():
                    entries.append(Entry(Path(record.file), record.label, record.attributes, record.id))
                else:
                    _add_own_image(source, record)
            return list(ingest.add(source.store, source.embedder, entries).failures)
    except LookalikeError as e:
        return [(Path(record.file), f"it is restored but not added to {folder}: {e}") for record in records]


def _add_own_image(source: Source, record: Record) -> None:
    """Add an image that the collection's folder keeps; its id and uri follow from its content."""
    data = images.read_bytes(Path(record.file))
    sha256 = images.fingerprint(data)
    item = Item(sha256[:20], source.folder.own_uri(data), record.label, record.attributes, sha256)
    source.folder.keep_image(item.uri, data)
    source.store.upsert([item], source.embedder.embed([data]))


# ---- files


def move(source: Path, target: Path, sha256: str) -> None:
    """Move a file, also to another file system, without replacing an existing one.

    At every moment at least one of the two places has the complete content.

    Raises:
        FileExistsError: the target exists.
        OSError: the file cannot be moved; it stays unchanged, and the target does not exist.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)  # unlike a rename, it never replaces a file
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        _copy(source, target, sha256)
    try:
        _sync_names(target.parent)
        source.unlink()
    except BaseException:
        if source.exists():
            target.unlink()
        raise
    _sync_names(source.parent)


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file with its times; sync and compare the copy before it gets its name."""
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.lookalike-part")
    try:
        with source.open("rb") as old, part.open("xb") as new:
            shutil.copyfileobj(old, new)
        atomic.sync(part)
        shutil.copystat(source, part)
        if images.fingerprint(part.read_bytes()) != sha256:
            raise OSError(errno.EIO, "the copy differs from the file")
        try:
            os.link(part, target)
        except FileExistsError:
            raise
        except OSError:
            if target.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
            part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    with suppress(OSError):  # some file systems cannot sync a folder
        atomic.sync(folder)


# ---- the undo list


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
            if self.folder.is_dir() and not self._path.exists() and any(self.folder.iterdir()):
                raise AlreadyExistsError(
                    f"{self.folder} is not a trash folder: it holds other files. Give a new folder with --trash."
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab+")
            _drop_torn_line(self._file.fileno())
        except OSError as e:
            raise StorageError(
                f"The trash folder {self.folder} cannot be written: {e.strerror}. Nothing was moved; give another folder"
                " with --trash."
            ) from e
        return self

    def __exit__(self, *_: object) -> None:
        """Close the list."""
        self._file.close()

    def place(self, path: Path) -> Path:
        """Return the target of a file: its whole path inside the trash, with a number if that path exists."""
        inside = self.folder.joinpath(*path.parts[1:])
        number = 1
        target = inside
        while os.path.lexists(target):
            number += 1
            target = inside.with_name(f"{inside.stem} ({number}){inside.suffix}")
        return target

    def add(self, record: Record) -> None:
        """Append a record, and sync it to the disk."""
        try:
            self._file.write(record.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as e:
            raise StorageError(
                f"{self._path} cannot be written: {e.strerror}. To restore the files that have been moved: lookalike"
                f" duplicates undo {self.folder}"
            ) from e


def _drop_torn_line(handle: int) -> None:
    """Remove an incomplete last line, which a kill left: its file was not moved yet."""
    size = os.fstat(handle).st_size
    content = os.pread(handle, size, 0)
    if not content.endswith(b"\n"):
        os.ftruncate(handle, content.rfind(b"\n") + 1)


def read_undo_list(trash: Path) -> list[Record]:
    """Read the records of a trash folder; if several have one place in the trash, the last one counts.

    Raises:
        NotFoundError: the folder is not a trash folder.
        StorageError: the list cannot be read.
    """
    path = trash / TRASH_LIST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFoundError(f"{trash} is not a trash folder: it has no {TRASH_LIST}.") from e
    except OSError as e:
        raise StorageError(f"{path} cannot be read: {e.strerror}.") from e
    records: dict[str, Record] = {}
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
        try:
            record = Record.model_validate(json.loads(line))
        except (ValidationError, ValueError) as e:
            raise StorageError(
                f"{path}, line {number}, is damaged, and nothing was restored. Correct the line or delete it."
            ) from e
        records[record.trashed] = record
    return list(records.values())


def _finish(trash: Path, remaining: Sequence[Record]) -> None:
    """Keep the records of remaining files; without any, remove the list, and the folder if it is empty."""
    try:
        if remaining:
            atomic.write_text(trash / TRASH_LIST, "".join(record.model_dump_json() + "\n" for record in remaining))
        else:
            (trash / TRASH_LIST).unlink()
    except OSError as e:
        raise StorageError(f"{trash / TRASH_LIST} cannot be written: {e.strerror}.") from e
    for folder, _, names in os.walk(trash, topdown=False):
        with suppress(OSError):  # it is not empty
            for name in names:
                if _PART.fullmatch(name):  # left by a kill; the file itself is in its place
                    Path(folder, name).unlink()
            Path(folder).rmdir()
