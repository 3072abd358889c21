"""Pictures into a trash folder, and back.

What is done to a file is written into the trash's undo list, and is on the disk, before it is done. So whatever happens
halfway, a kill included, the list knows of every file that is not in its place. A file is never unlinked before its
content is in the trash, and nothing is ever written over.
"""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from lookalike import atomic, images
from lookalike.collection import Collection, Entry
from lookalike.duplicates.finding import Group, Member
from lookalike.errors import AlreadyExistsError, LookalikeError, NotFoundError, StorageError
from lookalike.images.finding import TRASH_LIST
from lookalike.ingest import absolute

# A copy that is not whole yet.
_PART = re.compile(r"\..*\.[0-9a-f]{16}\.lookalike-part")


class Record(BaseModel):
    """A line of the undo list: where a file was, where it is in the trash, and what the collection knew of it.

    ``kept`` is the picture that it was a duplicate of; ``uri`` is the item's.
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
    def _inside(cls, path: str) -> str:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ValueError("what is in the trash is inside its folder")
        return path


@dataclass(frozen=True)
class Moved:
    """What was moved into a trash folder, or out of it.

    Attributes:
        files: where they were, or are again.
        size: their bytes in all.
        left: path and reason of each file that stayed where it was.
    """

    files: tuple[Path, ...]
    size: int
    left: tuple[tuple[Path, str], ...]


def apply(
    collection: Collection,
    groups: Iterable[Group],
    trash: Path,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Moved:
    """Move what is not kept of groups into a trash folder, and take it out of the collection.

    A file stays if it, or the picture that is kept instead, is not there any more or is not what was indexed.

    Args:
        collection: of the groups.
        groups: as `finding.find` gives them.
        trash: made where it is not there; it may hold what was moved before.
        tell: hears (done, total) of the files.

    Raises:
        AlreadyExistsError: the folder has other things in it.
        StorageError: the trash cannot be written, or is full. What was moved before is in its list.
    """
    work = [group for group in groups if group.surplus]
    total, done, size = sum(len(group.surplus) for group in work), 0, 0
    files: list[Path] = []
    left: list[tuple[Path, str]] = []
    if not work:
        return Moved((), 0, ())
    with _List(trash) as undo:
        for group in work:
            moved: list[Member] = []
            try:
                kept = group.members[0]
                reason = _changed(kept.path, kept.item.sha256)
                for member in group.surplus:
                    problem = f"the picture to be kept, {kept.path}: {reason}" if reason else None
                    problem = problem or _discard(collection, member, kept.path, undo)
                    if problem:
                        left.append((member.path, problem))
                    else:
                        moved.append(member)
                    done += 1
                    tell(done, total)
            finally:  # what has gone from its place is no more in the collection, whatever stopped this
                collection.remove([member.item.id for member in moved])
            files += [member.path for member in moved]
            size += sum(member.facts.size for member in moved)
    return Moved(tuple(files), size, tuple(left))


def _discard(collection: Collection, member: Member, kept: Path, undo: "_List") -> str | None:
    """Move a file into the trash; returns why it stays, if it does."""
    if reason := _changed(member.path, member.item.sha256):
        return reason
    path, item = absolute(member.path), member.item
    target = undo.place(path)
    undo.add(
        Record(
            collection=str(absolute(collection.path)),
            file=str(path),
            trashed=str(target.relative_to(undo.folder)),
            kept=str(absolute(kept)),
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
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) and not _writable(undo.folder):
            raise StorageError(
                f"{undo.folder} cannot take {path}: {e.strerror}. What was moved before can be put back with: lookalike"
                f" duplicates --undo {undo.folder}"
            ) from e
        return f"it cannot be moved: {e.strerror}"
    return None


def restore(
    trash: Path,
    open_collection: Callable[[Path], Collection] = Collection.open,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Moved:
    """Put everything in a trash folder back where it was, and into its collection.

    A file whose place has been taken by another stays in the trash, and in its list. An empty trash folder goes.

    Args:
        trash: the folder.
        open_collection: opens a collection by its folder.
        tell: hears (done, total) of the files.

    Raises:
        NotFoundError: it is no trash folder.
        StorageError: its list cannot be read or written.
    """
    records = _read(trash)
    back: list[Record] = []
    left: list[tuple[Path, str]] = []
    size = 0
    for i, record in enumerate(reversed(records)):  # what went last was there last
        if problem := _put_back(trash, record):
            left.append((Path(record.file), problem))
        else:
            back.append(record)
            size += Path(record.file).stat().st_size
        tell(i + 1, len(records))
    for folder in dict.fromkeys(record.collection for record in back):
        mine = [record for record in back if record.collection == folder]
        left += _add_again(Path(folder), mine, open_collection)
    done = {record.trashed for record in back}
    _finish(trash, [record for record in records if record.trashed not in done])
    return Moved(tuple(Path(record.file) for record in back), size, tuple(left))


def _put_back(trash: Path, record: Record) -> str | None:
    """Returns why a file stays in the trash, if it does."""
    source, target = trash / record.trashed, Path(record.file)
    if not source.exists():
        # It was never moved: the kill came in between. Or it has been put back.
        return None if not _changed(target, record.sha256) else "it is neither in the trash nor in its place"
    try:
        if target.exists() and not _changed(target, record.sha256):
            source.unlink()  # it was linked, and not yet unlinked
            return None
        move(source, target, record.sha256)
    except FileExistsError:
        return f"another file has its place; it stays at {source}"
    except OSError as e:
        return f"it cannot be put back: {e.strerror}; it stays at {source}"
    return None


def _add_again(
    folder: Path, records: Sequence[Record], open_collection: Callable[[Path], Collection]
) -> list[tuple[Path, str]]:
    """Put items into their collection; returns path and reason of each that could not be."""
    try:
        with open_collection(folder) as collection:
            new = []
            for record in records:
                if Path(record.uri).is_absolute():
                    new.append(Entry(Path(record.file), record.label, record.attributes, record.id))
                else:  # it is kept in the collection's folder
                    collection.add_bytes(images.read_bytes(Path(record.file)), record.label, record.attributes)
            return list(collection.add(new).failures)
    except LookalikeError as e:
        return [(Path(record.file), f"it is back, but not in {folder}: {e}") for record in records]


def move(source: Path, target: Path, sha256: str) -> None:
    """Move a file, across file systems too; what is at the target is never replaced.

    At every moment the whole content is at one of the two places at least.

    Raises:
        FileExistsError: something is there.
        OSError: it cannot be done; the source is as it was, and nothing is at the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)  # unlike renaming, it replaces nothing
    except FileExistsError:
        raise
    except OSError:  # another file system, or one that knows no links
        _copy(source, target, sha256)
    try:
        _sync(target.parent)
        source.unlink()
    except BaseException:
        if source.exists():
            target.unlink()
        raise
    _sync(source.parent)


def _copy(source: Path, target: Path, sha256: str) -> None:
    """A copy with the times of the file, on the disk and compared before it has its name."""
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.lookalike-part")
    try:
        with source.open("rb") as old, part.open("xb") as new:
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())
        shutil.copystat(source, part)
        if images.fingerprint(part.read_bytes()) != sha256:
            raise OSError(errno.EIO, "the copy is not what was copied")
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


def _sync(folder: Path) -> None:
    """Names in a folder, on the disk; where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _changed(path: Path, sha256: str) -> str | None:
    """Why a file is not the one that was indexed; none if it is."""
    try:
        if path.is_symlink():
            return "it has become a link"
        return None if images.fingerprint(images.read_bytes(path)) == sha256 else "it has changed since it was indexed"
    except NotFoundError:
        return "it has gone"
    except LookalikeError as e:
        return str(e)


def _writable(folder: Path) -> bool:
    """Whether a folder still takes a file of a few bytes on the disk."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        with probe.open("xb") as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


class _List:
    """A trash folder's undo list, open to be added to."""

    def __init__(self, folder: Path) -> None:
        self.folder = absolute(folder)
        self._path = self.folder / TRASH_LIST

    def __enter__(self) -> Self:
        try:
            if self.folder.is_dir() and not self._path.exists() and any(self.folder.iterdir()):
                raise AlreadyExistsError(
                    f"{self.folder} has other things in it and is no trash folder. Give a new one with --trash."
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab+")
            _drop_half_a_line(self._file.fileno())
        except OSError as e:
            raise StorageError(
                f"The trash folder {self.folder} cannot be written: {e.strerror}. Nothing was moved; give another one with"
                " --trash."
            ) from e
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def place(self, path: Path) -> Path:
        """Where a file goes: its whole path inside the trash, numbered where that is taken."""
        inside = self.folder.joinpath(*path.parts[1:])
        number = 1
        target = inside
        while os.path.lexists(target):
            number += 1
            target = inside.with_name(f"{inside.stem} ({number}){inside.suffix}")
        return target

    def add(self, record: Record) -> None:
        """Write a record, on the disk when this returns."""
        try:
            self._file.write(record.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as e:
            raise StorageError(
                f"{self._path} cannot be written: {e.strerror}. What is in it has been moved; put it back with: lookalike"
                f" duplicates --undo {self.folder}"
            ) from e


def _drop_half_a_line(handle: int) -> None:
    """What a kill left at the end of a list: the file of which it would tell was not moved yet."""
    size = os.fstat(handle).st_size
    content = os.pread(handle, size, 0)
    if not content.endswith(b"\n"):
        os.ftruncate(handle, content.rfind(b"\n") + 1)


def _read(trash: Path) -> list[Record]:
    path = trash / TRASH_LIST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFoundError(f"{trash} is no trash folder: it has no {TRASH_LIST}.") from e
    except OSError as e:
        raise StorageError(f"{path} cannot be read: {e.strerror}.") from e
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return list({record.trashed: record for record in _records(path, lines)}.values())


def _records(path: Path, lines: Sequence[bytes]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        try:
            yield Record.model_validate(json.loads(line))
        except (ValidationError, ValueError) as e:
            raise StorageError(
                f"{path}, line {number}, is damaged, and nothing was put back. Mend the line or take it out."
            ) from e


def _finish(trash: Path, waiting: Sequence[Record]) -> None:
    """Leave the list with what is still in the trash; without any, the folder goes, if it is empty."""
    try:
        if waiting:
            text = "".join(record.model_dump_json() + "\n" for record in waiting)
            atomic.write_bytes(trash / TRASH_LIST, text.encode())
        else:
            (trash / TRASH_LIST).unlink()
    except OSError as e:
        raise StorageError(f"{trash / TRASH_LIST} cannot be written: {e.strerror}.") from e
    for folder, _, names in os.walk(trash, topdown=False):
        with suppress(OSError):  # it is not empty
            for name in names:
                if _PART.fullmatch(name):  # a kill left it; the file that was being copied is in its place
                    Path(folder, name).unlink()
            Path(folder).rmdir()
