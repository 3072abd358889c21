"""Move the surplus of groups into a trash folder, and restore it.

Before each move, a record is written into the trash's undo list and synced to the disk. So the list names every file that has
been moved, even after a kill. A file is unlinked only when its content is in the trash, and no file is ever overwritten.

A collection and a trash folder may come from a stranger. So the user is asked before files move from or to places outside of
the folders that this user indexed into the collection (`lookalike.state.roots`), and a file moves only if it has the content that
the collection or the undo list states.
"""

import errno
import os
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lookalike import atomic, images, ingest
from lookalike.duplicates.result import Group, Member
from lookalike.duplicates.source import Failure, Source
from lookalike.duplicates.undo_list import Record, UndoList, finish, read_undo_list
from lookalike.errors import LookalikeError, NotFoundError, StorageError, UsageError, plain_reason
from lookalike.folder import is_collection
from lookalike.images.finding import SUFFIXES, TRASH_LIST
from lookalike.ingest import Entry, absolute_path
from lookalike.ingest.paths import signature
from lookalike.progress import SILENT, Progress
from lookalike.state.roots import find_collection, is_below, known_relocations, known_roots, read_identity
from lookalike.stores import Item
from lookalike.tables import plural
from lookalike.unicode_forms import to_path

# Folders that a message names.
_SHOWN_FOLDERS = 5


@dataclass(frozen=True)
class Moved:
    """The files that were moved into a trash folder, or restored from it.

    Attributes:
        files: their paths outside the trash folder.
        size: the sum of their sizes, in bytes.
        failures: path and reason of each file that was not moved.
        added: the restored files that were added to their collections, also those that an earlier call moved.
    """

    files: tuple[Path, ...]
    size: int
    failures: tuple[Failure, ...]
    added: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert to what JSON can hold."""
        return {
            "files": [str(path) for path in self.files],
            "bytes": self.size,
            "failures": [{"path": str(path), "reason": reason} for path, reason in self.failures],
            "added": [str(path) for path in self.added],
        }


Confirm = Callable[[Sequence[Path]], bool]
"""Asks the user whether files outside of the folders that the user indexed may be moved; it gets their resolved paths."""

OnFile = Callable[[Member, str | None], None]
"""Called for each file after its move; gets the reason if the file stays in its place."""


# ---- move


def move_to_trash(
    source: Source,
    groups: Iterable[Group],
    trash: str | os.PathLike[str],
    progress: Progress = SILENT,
    confirm: Confirm | None = None,
    on_file: OnFile | None = None,
) -> Moved:
    """Move the surplus of groups into a trash folder, and remove it from the collection.

    A file stays in its place if the file, or the image that is kept instead, is missing or has changed since it was
    indexed.

    Args:
        source: the collection of the groups.
        groups: groups that `find_duplicates` returned.
        trash: the folder; it is created if it does not exist, and may hold files of earlier moves.
        progress: receives the stage ``"moving"``.
        confirm: asked before files outside of the folders that this user indexed into the collection move.
        on_file: called for each file, also if an error or Ctrl-C ends the move later.

    Raises:
        UsageError: files lie outside of these folders, and ``confirm`` does not allow it; no file was moved.
        AlreadyExistsError: the folder holds other files.
        StorageError: the collection is read-only, or the trash cannot be written or is full. The undo list names the files
            that have been moved.
    """
    with_surplus = [group for group in groups if group.surplus]
    if not with_surplus:
        return Moved((), 0, ())
    if not os.access(source.folder.path, os.W_OK | os.X_OK):
        raise StorageError(
            f"{source.folder.path} is read-only, so the items of moved files would stay in it. No file was moved; change its"
            " permissions."
        )
    surplus = [member for group in with_surplus for member in group.surplus]
    roots = known_roots(source.folder.path)
    outside = _outside((member.path, roots) for member in surplus if not source.folder.owns(member.item))
    _ask(outside, confirm, "would move from places", "moved")
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
                    if on_file:
                        on_file(member, failure)
                    progress.advance("moving", len(moved) + len(failures), len(surplus))
            finally:  # also after an interrupt, the collection must not hold files that have been moved
                _remove(source, moved[already:])
    return Moved(tuple(member.path for member in moved), sum(member.facts.size for member in moved), tuple(failures))


def _move_group(source: Source, group: Group, undo: UndoList) -> Iterator[tuple[Member, str | None]]:
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
    source.folder.remove_items(source.store, [member.item.id for member in moved])


def _move_member(source: Source, member: Member, kept: Path, undo: UndoList) -> str | None:
    """Record a move and make it; return the reason if the file stays."""
    path, item = absolute_path(member.path), member.item
    try:
        target = undo.place(path)
        record = Record(
            collection=str(absolute_path(source.folder.path)),
            identity=read_identity(source.folder.path),
            file=str(path),
            trashed=target.relative_to(undo.folder).as_posix(),
            kept=str(absolute_path(kept)),
            sha256=item.sha256,
            id=item.id,
            uri=item.uri,
            label=item.label,
            attributes=dict(item.attributes),
        )
    except ValidationError as e:
        return f"it cannot be moved: the undo list cannot record it: {plain_reason(e.errors()[0]['msg'])}"
    except OSError as e:
        return f"it cannot be moved: {e.strerror}"
    try:
        undo.add(record)
        move(path, target, item.sha256)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) and not _is_writable(undo.folder):
            raise StorageError(
                f"{undo.folder} cannot take {path}: {e.strerror}. To restore the files that have been moved: lookalike"
                f" duplicates undo {shlex.quote(str(undo.folder))}"
            ) from e
        return f"it cannot be moved: {e.strerror}"
    return None


def _outside(files: Iterable[tuple[Path, Sequence[Path]]]) -> list[Path]:
    """Return the resolved paths of the files that do not lie below their roots."""
    found, folders = [], dict[tuple[Path, Sequence[Path]], bool]()
    for file, roots in files:
        folder = file.parent
        if (folder, roots) not in folders:  # most files share a folder
            folders[folder, roots] = is_below(folder, roots)
        if not folders[folder, roots] and not is_below(file, roots):
            found.append(Path(os.path.realpath(folder), file.name))
    return found


def _ask(outside: Sequence[Path], confirm: Confirm | None, verb: str, moved: str) -> None:
    """Ask before files outside of the known folders move.

    Raises:
        UsageError: the answer is no, or nobody can be asked.
    """
    if outside and not (confirm and confirm(outside)):
        raise UsageError(
            f"{describe_outside(outside, verb)} No file was {moved}; index the folders into the collection, or allow it"
            " (confirm= in Python, --yes on the command line)."
        )


def describe_outside(outside: Sequence[Path], verb: str) -> str:
    """Return a sentence that names the folders of files outside of the known folders."""
    folders = list(dict.fromkeys(str(path.parent) for path in outside))
    shown = ", ".join(folders[:_SHOWN_FOLDERS]) + (", …" if len(folders) > _SHOWN_FOLDERS else "")
    names = "" if all(map(_has_image_name, outside)) else ", or do not have the name of an image"
    return f"{plural(len(outside), 'file')} {verb} outside of the folders that you indexed on this machine{names}: {shown}."


def _has_image_name(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


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


def find_companions(moved: Iterable[Path]) -> list[Path]:
    """List the files in the folders of moved images that belong to them by their names: ``1.xmp`` or ``1.jpg.xmp`` of ``1.jpg``."""
    names: dict[Path, set[str]] = {}
    for path in moved:
        names.setdefault(path.parent, set()).update((path.name, path.stem))
    found: list[Path] = []
    for folder, known in names.items():
        with suppress(OSError):
            found += [
                p for p in folder.iterdir() if p.stem in known and p.suffix.lower() not in SUFFIXES and p.is_file()
            ]
    return sorted(found)


# ---- restore

OpenSource = Callable[[Path], AbstractContextManager[Source]]
"""A function that opens a collection by its folder, such as `Collection.open`."""


def restore(
    trash: str | os.PathLike[str],
    open_source: OpenSource,
    progress: Progress = SILENT,
    confirm: Confirm | None = None,
) -> Moved:
    """Move all files of a trash folder back to their places, and add them to their collections again.

    A collection that was moved since is found by its identity. If its images were moved with it, or this user has relocated them,
    the place of a file is in their new folder. A file stays in the trash, and in its list, if another file has taken its place, or
    if it has another content than the list states. The list keeps restored files whose collection is gone. It forgets a file that
    is not in the trash and has changed in its place. A file that is in its place already, since an earlier call moved it, is added
    only if it lies below the folders that this user indexed into its collection. Items that the collections have stay unchanged. An empty trash folder is removed.

    Args:
        trash: the trash folder.
        open_source: a function that opens a collection by its folder.
        progress: receives the stage ``"restoring"``.
        confirm: asked before files move to places outside of the folders that this user indexed into their collection, also
            for files that are in these places already.

    Raises:
        NotFoundError: the folder is not a trash folder.
        UsageError: files would leave these folders, and ``confirm`` does not allow it; no file was restored.
        StorageError: the undo list cannot be read.
    """
    trash = absolute_path(to_path(trash))
    listed = read_undo_list(trash)
    records = list(_find_places(trash, listed))
    _ask_for_places(trash, records, confirm)
    restored: list[Record] = []  # with those that a kill or an earlier call left in their place
    forgotten: list[Record] = []  # those whose file changed in its place
    in_trash: set[str] = set()  # those that this call moved, by their place in the trash
    moved: list[Path] = []
    failures: list[Failure] = []
    size = 0
    # Of several files with one place, the last one moved comes back first.
    for i, record in enumerate(reversed(records)):
        try:
            if _restore_file(trash, record):
                in_trash.add(record.trashed)
                moved.append(Path(record.file))
                size += moved[-1].lstat().st_size
            restored.append(record)
        except FileNotFoundError as e:
            failures.append((Path(record.file), e.strerror or ""))
            if os.path.lexists(record.file):
                forgotten.append(record)
        except OSError as e:
            failures.append((Path(record.file), f"{e.strerror}; it stays in {trash}, as {record.trashed}"))
        progress.advance("restoring", i + 1, len(records))
    added, not_added, waiting = _add_all_again(trash, restored, in_trash, open_source)
    failures += not_added
    finished = restored + forgotten
    done = {record.trashed for record in finished} - {record.trashed for record in waiting}
    if finished or not records:
        try:
            finish(trash, finished, [record for record in listed if record.trashed not in done])
        except OSError as e:
            failures.append((trash / TRASH_LIST, f"it still lists files that were restored: {e.strerror}"))
    return Moved(tuple(moved), size, tuple(failures), tuple(added))


def _ask_for_places(trash: Path, records: Sequence[Record], confirm: Confirm | None) -> None:
    """Ask before files move to places outside of the known folders; an error names collections that are gone, too."""
    try:
        _ask(_outside(_with_roots(trash, records)), confirm, "would move to places", "restored")
    except UsageError as e:
        gone = {each.collection for each in records if not is_collection(Path(each.collection))}
        reasons = [_describe_gone(folder, trash) for folder in sorted(gone)]
        raise UsageError(" ".join((*reasons, e.message)), e.owner_hint) from e


def _describe_gone(collection: str, trash: Path) -> str:
    """Say that a collection is gone, and where `find_collection` would find it."""
    return f"There is no collection at {collection} any more. Move it back, or beside {trash}, and undo again."


def _find_places(trash: Path, records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records with the places of their collections and files now: after moves of both, and relocations."""
    find = cache(lambda folder, identity: str(find_collection(Path(folder), identity, trash.parent)))
    mover_of = cache(lambda old, new: ingest.relocator([(old, new)]))
    relocator_of = cache(lambda collection: ingest.relocator(known_relocations(Path(collection))))
    for record in records:
        now = find(record.collection, record.identity)
        found = record
        if now != record.collection:
            move = mover_of(record.collection, now)
            found = record.model_copy(update={"collection": now, "file": move(record.file)})
        if _is_own_image(found):
            yield found
            continue
        relocate = relocator_of(now)
        places = {"file": relocate(record.file), "kept": relocate(record.kept), "uri": relocate(record.uri)}
        yield found.model_copy(update=places)


def _with_roots(trash: Path, records: Sequence[Record]) -> Iterator[tuple[Path, Sequence[Path]]]:
    """Yield the places of all files with the folders that this user indexed into their collections.

    A file that is not in the trash counts too: it may be in its place, and would be added to its collection.
    A file that is not named like an image has none: other files, such as scripts, may lie in these folders and be run.
    """
    roots: dict[str, tuple[Path, ...]] = {}
    for record in records:
        if record.collection not in roots:
            roots[record.collection] = known_roots(Path(record.collection))
        with suppress(OSError):  # a link is on the way: `_restore_file` says so
            record.find_trashed(trash)
            file = Path(record.file)
            if not (_is_own_image(record) and file.suffix in SUFFIXES):
                yield file, roots[record.collection] if _has_image_name(file) else ()


def _is_own_image(record: Record) -> bool:
    """Return whether a file was kept in the folder of its collection, named by its content."""
    collection, file = Path(record.collection), Path(record.file)
    return (
        file.parent == collection / "images"
        and file.stem == record.sha256
        and not file.parent.is_symlink()
        and is_collection(collection)
    )


def _restore_file(trash: Path, record: Record) -> bool:
    """Move a file back, if its content is the one of its record; return whether it was in the trash.

    Raises:
        FileNotFoundError: neither the trash nor its place has the file, with a reason that fits after its path.
        OSError: the file stays in the trash, for a reason that fits after its path.
    """
    target = Path(record.file)
    if any(folder.exists() and folder.samefile(trash) for folder in target.parents):
        raise OSError(errno.EINVAL, "its place is inside the trash folder")
    trashed = record.find_trashed(trash)
    if not os.path.lexists(trashed):
        # A kill prevented the move, or an earlier call restored the file.
        if _problem(target, record.sha256):
            changed = "it was not moved or was taken from the trash, and has changed; it stays in its place"
            lost = "it is neither in the trash nor in its place"
            raise FileNotFoundError(errno.ENOENT, changed if os.path.lexists(target) else lost)
        return False
    if problem := _problem(trashed, record.sha256):
        raise OSError(errno.EINVAL, f"it is not the file that was moved: {problem}")
    if os.path.lexists(target):
        if _problem(target, record.sha256):
            raise FileExistsError(errno.EEXIST, "another file has taken its place")
        trashed.unlink()  # a kill came after the file was linked and before it was unlinked
        return True
    try:
        move(trashed, target, record.sha256)
    except FileExistsError as e:
        raise FileExistsError(errno.EEXIST, "another file has taken its place") from e
    except OSError as e:
        raise OSError(errno.EIO, f"it cannot be restored: {e.strerror}") from e
    return True


def _add_all_again(
    trash: Path, records: Sequence[Record], moved: AbstractSet[str], open_source: OpenSource
) -> tuple[list[Path], list[Failure], list[Record]]:
    """Add restored files to their collections, as `_add_again` does."""
    by_collection: dict[str, list[Record]] = {}
    for record in records:
        by_collection.setdefault(record.collection, []).append(record)
    added: list[Path] = []
    failures: list[Failure] = []
    waiting: list[Record] = []
    for name, of_folder in by_collection.items():
        folder = Path(name)
        if is_collection(folder):
            added_here, failed, left = _add_again(folder, of_folder, moved, open_source)
        else:
            text = f"{plural(len(of_folder), 'restored file')} could not be added to it. {_describe_gone(name, trash)}"
            added_here, failed, left = [], [(folder, text)], of_folder
        added += added_here
        failures += failed
        waiting += left
    return added, failures, waiting


def _add_again(
    folder: Path, records: Sequence[Record], moved: AbstractSet[str], open_source: OpenSource
) -> tuple[list[Path], list[Failure], Sequence[Record]]:
    """Add restored files to their collection, unless it has them.

    Args:
        folder: of the collection.
        records: of the restored files.
        moved: the places in the trash of the files that this call moved. The other ones were in their places already.
        open_source: a function that opens a collection by its folder.

    Returns:
        The files that were added, path and reason of each file that could not be added, and the records to try again, since the
        collection could not be opened or written.
    """
    added: list[Path] = []
    failures: list[Failure] = []
    entries: list[Entry] = []
    try:
        roots = known_roots(folder)
        with open_source(folder) as source:
            items = {item.id: item for item in source.store.scan()}
            contents = {item.uri: item.sha256 for item in items.values()}
            for record in records:
                file, by_us = Path(record.file), record.trashed in moved
                if _is_indexed(record, contents, by_us=by_us):
                    continue  # the item stays as it is
                if reason := _reason_not_to_add(record, roots, by_us=by_us):
                    failures.append((file, reason))
                    continue
                contents[_uri(record)] = record.sha256
                if _is_own_image(record):
                    _add_own_image(source, record)
                    added.append(file)
                else:
                    ident = None if record.id in items else record.id  # an item that is there now keeps its id
                    entries.append(Entry(file, record.label, record.attributes, ident))
            not_added = list(ingest.add(source.store, source.embedder, entries).failures)
    except (LookalikeError, OSError, ValueError) as e:  # ValueError: a name that no file can have
        reported = {*added, *(path for path, _ in failures)}
        left = [record for record in records if Path(record.file) not in reported]
        failures += [(Path(record.file), f"it is restored but not added to {folder}: {e}") for record in left]
        return added, failures, left
    unusable = {path for path, _ in not_added}
    added += [entry.path for entry in entries if entry.path not in unusable]
    return added, failures + not_added, ()


def _uri(record: Record) -> str:
    """Return the uri that the item of a restored file has."""
    file = Path(record.file)
    return f"images/{file.name}" if _is_own_image(record) else str(file)


def _is_indexed(record: Record, contents: Mapping[str, str], *, by_us: bool) -> bool:
    """Return whether a collection has the item of a restored file.

    Args:
        record: of the file.
        contents: uri → SHA-256 of the collection's items.
        by_us: whether this call moved the file. Another one may be indexed under another name, or with another content.
    """
    uri = _uri(record)
    return contents.get(uri) == record.sha256 if by_us else uri in contents or os.path.realpath(record.file) in contents


def _reason_not_to_add(record: Record, roots: Sequence[Path], *, by_us: bool) -> str | None:
    """Return why a restored file may not become an item of its collection; none if it may."""
    if _is_own_image(record):
        return None
    file = Path(record.file)
    if not by_us and _outside([(file, roots if _has_image_name(file) else ())]):
        return (
            "it was in its place already, outside of the folders that you indexed on this machine; index it to add it to"
            f" {record.collection}"
        )
    if not Path(record.uri).is_absolute():
        return f"it is not added to {record.collection}: the undo list has a wrong uri, {record.uri!r}"
    return None


def _add_own_image(source: Source, record: Record) -> None:
    """Add an image that the collection's folder keeps; its id and uri follow from its content."""
    data = images.read_bytes(Path(record.file))
    sha256 = images.fingerprint(data)
    item = Item(sha256[:20], source.folder.own_uri(data), record.label, record.attributes, sha256)
    rows = source.embedder.embed_items([data])
    with source.folder.keeping({item.uri: data}):
        source.store.upsert([replace(item, signature=signature(source.folder.file(item)))], rows)


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
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
            part.rename(target)
    finally:
        part.unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    with suppress(OSError):  # some file systems cannot sync a folder
        atomic.sync(folder)
