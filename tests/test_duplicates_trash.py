"""Moving duplicates to a trash and back, interrupted at every step."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pydantic import ValidationError

import image_files
from lookalike import duplicates, images
from lookalike.collection import Collection, Entry
from lookalike.duplicates import FindOptions, SearchRadius, undo_list
from lookalike.duplicates import trash as moving
from lookalike.duplicates.undo_list import Record, UndoList
from lookalike.encoders import Encoder
from lookalike.errors import AlreadyExistsError, NotFoundError, StorageError, UsageError
from lookalike.ingest import plan
from recorder import Recorder, Report

NEAR = SearchRadius.fixed(0.01)
LIST = "lookalike-trash.jsonl"

# Three groups: 1 and its two copies, 2 and its copy, 3 and its copy; 4 has none.
FILES = {
    "1.png": 1,
    "1b.png": 1,
    "deep/er/1c.png": 1,
    "2.png": 2,
    "2b.png": 2,
    "3.png": 3,
    "deep/3b.png": 3,
    "4.png": 4,
}
SURPLUS = ["1b.png", "2b.png", "deep/3b.png", "deep/er/1c.png"]


@pytest.fixture
def collection(tmp_path: Path, pocket: Path) -> Iterator[Collection]:
    image_files.write(tmp_path / "photos", FILES)
    for path in (tmp_path / "photos").rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    with Collection.create(tmp_path / "c.lookalike", Encoder.open(pocket)) as made:
        new = [Entry(e.path, "label", {"name": e.path.name}, f"id-{e.path.name}") for e in plan(tmp_path / "photos")]
        made.add(new)
        yield made


def state(folder: Path) -> dict[str, tuple[bytes, float]]:
    """Return content and time of all files."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def items(collection: Collection) -> list[tuple[str, str, str | None, dict[str, str], str]]:
    return [(i.id, i.uri, i.label, dict(i.attributes), i.sha256) for i in collection.store.scan()]


def apply(collection: Collection, trash: Path) -> duplicates.Moved:
    return duplicates.move_to_trash(collection, duplicates.find_duplicates(collection, NEAR).groups, trash)


def interrupting(files: int) -> Recorder:
    """Return a progress that raises KeyboardInterrupt after a number of files."""

    def interrupt(report: Report) -> None:
        if report.done == files:
            raise KeyboardInterrupt

    return Recorder(interrupt)


def reasons_by_name(moved: duplicates.Moved) -> dict[str, str]:
    return {path.name: reason for path, reason in moved.failures}


def test_surplus_is_moved_and_restored(collection: Collection, tmp_path: Path) -> None:
    photos, trash = tmp_path / "photos", tmp_path / "trash"
    before, known = state(photos), items(collection)
    progress = Recorder()
    groups = duplicates.find_duplicates(collection, NEAR).groups
    moved = duplicates.move_to_trash(collection, groups, str(trash), progress)
    assert sorted(str(path.relative_to(photos)) for path in moved.files) == SURPLUS
    assert (moved.failures, progress.reports) == ((), [("moving", i, 4, "") for i in (1, 2, 3, 4)])
    assert moved.size == sum(len(before[name][0]) for name in SURPLUS)
    assert set(state(photos)) == set(before) - set(SURPLUS)
    assert collection.store.count() == 4
    in_trash = state(trash)
    del in_trash[LIST]
    inside = str(photos.relative_to("/"))
    assert in_trash == {f"{inside}/{name}": before[name] for name in SURPLUS}
    assert duplicates.find_duplicates(collection, NEAR).groups == ()
    assert apply(collection, trash) == duplicates.Moved((), 0, ())  # there is no surplus left
    back = duplicates.restore(str(trash), Collection.open)
    assert (sorted(back.files), back.size, back.failures) == (sorted(moved.files), moved.size, ())
    assert state(photos) == before
    assert items(collection) == known
    assert not trash.exists()
    with pytest.raises(NotFoundError, match="not a trash folder"):
        duplicates.restore(trash, Collection.open)


def test_files_move_across_file_systems(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(tmp_path / "photos")

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)
    assert len(apply(collection, tmp_path / "trash").files) == 4
    assert not list((tmp_path / "trash").rglob("*part"))
    assert duplicates.restore(tmp_path / "trash", Collection.open).failures == ()
    assert state(tmp_path / "photos") == before


def test_a_wrong_copy_is_discarded(collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(tmp_path / "photos")

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(shutil, "copyfileobj", lambda old, new: new.write(old.read()[:-1]))
    moved = apply(collection, tmp_path / "trash")
    assert moved.files == ()
    assert set(reasons_by_name(moved).values()) == {"it cannot be moved: the copy differs from the file"}
    assert state(tmp_path / "photos") == before
    assert set(state(tmp_path / "trash")) == {LIST}
    assert collection.store.count() == 8


def test_a_full_disk_stops_the_work_and_loses_nothing(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, trash = state(tmp_path / "photos"), tmp_path / "trash"
    move, calls = moving.move, []

    def third_time_full(source: Path, target: Path, sha256: str) -> None:
        calls.append(source)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        move(source, target, sha256)

    monkeypatch.setattr(moving, "move", third_time_full)
    monkeypatch.setattr(moving, "_is_writable", lambda _: False)
    with pytest.raises(StorageError, match=r"No space left.*lookalike duplicates undo"):
        apply(collection, trash)
    assert collection.store.count() == 6  # files that have moved are not in it
    monkeypatch.undo()
    back = duplicates.restore(trash, Collection.open)
    assert (len(back.files), back.failures) == (2, ())  # the third one is in the list, but was never moved
    assert state(tmp_path / "photos") == before
    assert collection.store.count() == 8


def test_a_file_that_cannot_be_unlinked_stays(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, unlink = state(tmp_path / "photos"), Path.unlink

    def read_only(self: Path, missing_ok: bool = False) -> None:
        if self.parent == tmp_path / "photos":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", read_only)
    moved = apply(collection, tmp_path / "trash")
    assert reasons_by_name(moved) == dict.fromkeys(("1b.png", "2b.png"), "it cannot be moved: Permission denied")
    assert sorted(path.name for path in moved.files) == ["1c.png", "3b.png"]
    monkeypatch.undo()
    assert collection.store.count() == 6
    duplicates.restore(tmp_path / "trash", Collection.open)
    assert state(tmp_path / "photos") == before


def test_a_read_only_collection_keeps_its_files(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != collection.path)
    with pytest.raises(StorageError, match=r"read-only.* No file was moved"):
        apply(collection, tmp_path / "trash")
    assert not (tmp_path / "trash").exists()


def test_undo_forgets_a_file_that_was_not_moved_and_has_changed(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        patched.setattr("lookalike.duplicates.trash.move", refuse)
        kept = apply(collection, tmp_path / "trash").failures
    assert len(kept) == 4
    (changed, _), before = kept[0], items(collection)
    with changed.open("ab") as file:
        file.write(b"hi")
    back = duplicates.restore(tmp_path / "trash", Collection.open)
    assert (back.files, list(reasons_by_name(back))) == ((), [changed.name])
    assert "it stays in its place" in reasons_by_name(back)[changed.name]
    assert items(collection) == before
    assert not (tmp_path / "trash").exists()


def test_an_undo_list_that_cannot_be_written_is_reported_beside_the_restored_files(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, trash = state(tmp_path / "photos"), tmp_path / "trash"
    apply(collection, trash)
    unlink = Path.unlink

    def read_only(self: Path, missing_ok: bool = False) -> None:
        if self.name == LIST:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", read_only)
    back = duplicates.restore(trash, Collection.open)
    assert len(back.files) == 4
    assert reasons_by_name(back) == {LIST: "it still lists files that were restored: Read-only file system"}
    assert state(tmp_path / "photos") == before


def test_files_that_have_changed_stay(collection: Collection, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    groups = duplicates.find_duplicates(collection, NEAR).groups
    (photos / "1b.png").write_bytes(image_files.png(9))
    (photos / "deep" / "er" / "1c.png").unlink()
    (photos / "2.png").unlink()  # the one to keep
    (photos / "deep" / "3b.png").unlink()
    (photos / "deep" / "3b.png").symlink_to(photos / "3.png")
    moved = duplicates.move_to_trash(collection, groups, tmp_path / "trash")
    assert moved.files == ()
    reasons = reasons_by_name(moved)
    assert reasons["1b.png"] == "it has changed since it was indexed"
    assert reasons["1c.png"] == "it is missing"
    assert reasons["2b.png"] == f"the image to keep, {photos / '2.png'}: it is missing"
    assert reasons["3b.png"] == "it has become a link"
    assert (photos / "2b.png").exists()
    assert collection.store.count() == 8


def test_no_file_is_overwritten(collection: Collection, tmp_path: Path) -> None:
    photos, trash = tmp_path / "photos", tmp_path / "trash"
    apply(collection, trash)
    # Another image gets the name of a moved one, and is moved too.
    (photos / "1b.png").write_bytes(image_files.png(2))
    collection.add(photos)
    assert [path.name for path in apply(collection, trash).files] == ["1b.png"]
    inside = trash.joinpath(*photos.parts[1:])
    assert (inside / "1b.png").read_bytes() == image_files.png(1)
    assert (inside / "1b (2).png").read_bytes() == image_files.png(2)
    # A new file takes the place of another one.
    (photos / "2b.png").write_bytes(image_files.png(7))
    back = duplicates.restore(trash, Collection.open)
    assert set(reasons_by_name(back)) == {"1b.png", "2b.png"}
    assert "another file has taken its place" in reasons_by_name(back)["2b.png"]
    assert (photos / "1b.png").read_bytes() == image_files.png(2)  # the last one moved
    assert (photos / "2b.png").read_bytes() == image_files.png(7)
    assert (inside / "1b.png").read_bytes() == image_files.png(1)
    # When the places are free again, the other files come back.
    (photos / "1b.png").unlink()
    (photos / "2b.png").unlink()
    assert duplicates.restore(trash, Collection.open).failures == ()
    assert (photos / "1b.png").read_bytes() == image_files.png(1)
    assert (photos / "2b.png").read_bytes() == image_files.png(2)
    assert not trash.exists()


def test_an_image_in_the_collections_folder_is_moved_and_restored(collection: Collection, tmp_path: Path) -> None:
    (tmp_path / "photos" / "4.png").write_bytes(image_files.png(5))
    collection.add(tmp_path / "photos")
    item = collection.add_image(image_files.png(4), "mug", {"colour": "red"})
    with_copy = tmp_path / "photos" / "copy.png"
    with_copy.write_bytes(image_files.png(4))
    collection.add(tmp_path / "photos")
    groups = duplicates.find_duplicates(
        collection, NEAR, options=FindOptions(rules=duplicates.KeepRule.parse("path:photos/*"))
    ).groups
    moved = duplicates.move_to_trash(collection, groups, tmp_path / "trash")
    assert collection.folder.file(item) in moved.files
    assert not collection.folder.file(item).exists()
    assert item.id not in collection.store.get([item.id])
    assert duplicates.restore(tmp_path / "trash", Collection.open).failures == ()
    again = collection.get(item.id)
    assert replace(again, signature="") == replace(item, signature="")
    assert again.size == item.size
    assert collection.folder.file(item).read_bytes() == image_files.png(4)


def test_a_folder_with_other_files_is_not_used_as_a_trash(collection: Collection, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(AlreadyExistsError, match="holds other files"):
        apply(collection, tmp_path / "mine")
    with pytest.raises(StorageError, match=r"cannot be written.*Nothing was moved"):
        apply(collection, tmp_path / "mine" / "diary.txt")
    with pytest.raises(NotFoundError):
        duplicates.restore(tmp_path / "mine", Collection.open)
    assert collection.store.count() == 8


def test_a_trash_among_the_images_is_not_indexed(collection: Collection, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    apply(collection, photos / "trash")
    assert [path.name for path in images.find(photos)] == ["1.png", "2.png", "3.png", "4.png"]
    assert len(images.find(photos / "trash")) == 4  # unless it is named
    assert collection.add(photos).total == 4


def test_a_torn_last_line_is_ignored_and_a_damaged_line_is_an_error(collection: Collection, tmp_path: Path) -> None:
    trash, before = tmp_path / "trash", state(tmp_path / "photos")
    apply(collection, trash)
    whole = (trash / LIST).read_bytes()
    first, *others = whole.splitlines(keepends=True)
    for wrong in (b"nonsense\n", b'{"file": "/x"}\n', first.replace(b'"trashed":"', b'"trashed":"../')):
        (trash / LIST).write_bytes(b"".join([first, wrong, *others]))
        with pytest.raises(StorageError, match=r"line 2.*damaged"):
            duplicates.restore(trash, Collection.open)
    (trash / LIST).write_bytes(whole + first[:40])
    (tmp_path / "photos" / "5.png").write_bytes(image_files.png(4))
    collection.add(tmp_path / "photos")
    assert len(apply(collection, trash).files) == 1  # the new record is a line of its own
    assert len((trash / LIST).read_bytes().splitlines()) == 5
    assert all(json.loads(line) for line in (trash / LIST).read_bytes().splitlines())
    assert duplicates.restore(trash, Collection.open).failures == ()
    assert {name: v for name, v in state(tmp_path / "photos").items() if name != "5.png"} == before


def test_files_are_restored_without_their_collection(collection: Collection, tmp_path: Path) -> None:
    before = state(tmp_path / "photos")
    apply(collection, tmp_path / "trash")
    collection.close()
    shutil.rmtree(collection.path)
    with pytest.raises(UsageError, match=r"4 files .* outside of the folders that you indexed .*photos"):
        duplicates.restore(tmp_path / "trash", Collection.open)  # the collection knew the folders
    back = duplicates.restore(tmp_path / "trash", Collection.open, confirm=lambda _: True)
    assert len(back.files) == 4
    assert [path for path, _ in back.failures] == [collection.path]
    assert "4 restored files could not be added to it" in back.failures[0][1]
    assert state(tmp_path / "photos") == before


def test_an_interrupt_loses_nothing(collection: Collection, tmp_path: Path) -> None:
    before, trash = state(tmp_path / "photos"), tmp_path / "trash"
    groups = duplicates.find_duplicates(collection, NEAR).groups

    with pytest.raises(KeyboardInterrupt):
        duplicates.move_to_trash(collection, groups, trash, interrupting(2))
    assert collection.store.count() == 6
    with pytest.raises(KeyboardInterrupt):
        duplicates.restore(trash, Collection.open, interrupting(1))
    assert duplicates.restore(trash, Collection.open).failures == ()
    assert state(tmp_path / "photos") == before
    assert collection.store.count() == 8


KILLED = """
import os, signal, sys
from pathlib import Path
from lookalike import duplicates
from lookalike.collection import Collection
from lookalike.duplicates import trash
point, number, path, where = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
count = 0

def wrap(owner, name, before):
    inner = getattr(owner, name)
    def wrapped(*args, **kwargs):
        global count
        count += 1
        if before and count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*args, **kwargs)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, wrapped)

with Collection.open(path) as collection:
    if point == "undo":
        wrap(trash, "move", before=False)
        duplicates.restore(where, Collection.open)
    groups = duplicates.find_duplicates(collection, duplicates.SearchRadius.fixed(0.01)).groups
    if point == "torn line":
        fsync = os.fsync
        def torn(handle):
            os.ftruncate(handle, os.fstat(handle).st_size - 30)
            os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = torn
    elif point == "before the move":
        wrap(trash, "move", before=True)
    elif point == "linked in both places":
        wrap(os, "link", before=False)
    elif point == "partial copy":
        def link(*args, **kwargs):
            raise OSError(18, "another file system")
        os.link = link
        import shutil
        def half(old, new):
            new.write(old.read()[:50])
            new.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        shutil.copyfileobj = half
    elif point == "before the collection is updated":
        wrap(trash, "move", before=False)
    duplicates.move_to_trash(collection, groups, where)
"""


def killed(point: str, number: int, collection: Path, trash: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), point, str(number), str(collection), str(trash)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr


@pytest.mark.parametrize(
    ("point", "number"),
    [
        ("torn line", 1),
        ("before the move", 2),
        ("linked in both places", 2),
        ("partial copy", 1),
        ("before the collection is updated", 3),
    ],
)
def test_a_kill_loses_nothing_and_undo_restores_all(
    point: str, number: int, collection: Collection, tmp_path: Path
) -> None:
    photos, trash = tmp_path / "photos", tmp_path / "trash"
    before, known = state(photos), items(collection)
    killed(point, number, collection.path, trash)
    contents = {content for content, _ in state(photos).values()}
    assert contents == {content for content, _ in before.values()}  # one file of each content stays in its place
    everything = state(photos) | {f"trash/{name}": value for name, value in state(trash).items()}
    assert set(before.values()) <= set(everything.values())
    assert duplicates.restore(trash, Collection.open).failures == ()
    assert state(photos) == before
    assert items(collection) == known
    assert not trash.exists()


def test_apply_and_undo_continue_after_kills(collection: Collection, tmp_path: Path) -> None:
    photos, trash = tmp_path / "photos", tmp_path / "trash"
    before, known = state(photos), items(collection)
    killed("linked in both places", 3, collection.path, trash)
    killed("before the collection is updated", 1, collection.path, trash)
    apply(collection, trash)
    assert set(state(photos)) == set(before) - set(SURPLUS)
    killed("undo", 2, collection.path, trash)
    assert duplicates.restore(trash, Collection.open).failures == ()
    assert state(photos) == before
    assert items(collection) == known


def test_move_never_replaces_a_file(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    with pytest.raises(FileExistsError):
        moving.move(one, other, images.fingerprint(b"1"))
    assert (one.read_bytes(), other.read_bytes()) == (b"1", b"2")


# ---- trash folders and collections of strangers


@dataclass
class Stranger:
    """A trash folder with an undo list of our own making, and what lies outside of it."""

    trash: Path
    collection: Path
    records: list[dict[str, object]] = field(default_factory=list)

    def place(self, file: Path, again: int = 1) -> Path:
        """Return the place in the trash of a file, or of another one that had the same path later."""
        inside = self.trash / file.relative_to("/")
        return inside if again == 1 else inside.with_name(f"{file.stem} ({again}){file.suffix}")

    def put(self, number: int, file: Path, changes: Mapping[str, object] | None = None, *, again: int = 1) -> None:
        """Put an image into the trash with a record; the values of changes replace those of the record."""
        content = image_files.png(number)
        path = self.place(file, again)
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        record: dict[str, object] = {
            "collection": str(self.collection),
            "file": str(file),
            "trashed": path.relative_to(self.trash).as_posix(),
            "kept": "/nowhere.png",
            "sha256": images.fingerprint(content),
            "id": "stranger",
            "uri": str(file),
            "label": None,
            "attributes": {},
        }
        self.records.append({**record, **(changes or {})})
        self.write(b"".join(json.dumps(each).encode() + b"\n" for each in self.records))

    def write(self, content: bytes) -> None:
        (self.trash / LIST).write_bytes(content)

    def restore(self, *, allowed: bool = False) -> duplicates.Moved:
        return duplicates.restore(self.trash, Collection.open, confirm=lambda _: allowed)


@pytest.fixture
def stranger(collection: Collection, tmp_path: Path) -> Stranger:
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    collection.remember_root(tmp_path / "photos")
    return Stranger(tmp_path / "bin", collection.path)


def test_files_go_outside_of_the_known_folders_only_if_the_user_allows_it(stranger: Stranger, tmp_path: Path) -> None:
    target = tmp_path / "home" / "new" / "evil.png"
    stranger.put(9, target)
    stranger.put(5, tmp_path / "photos" / "good.png")
    with pytest.raises(UsageError, match=rf"1 file would move .*{target.parent}\. No file was restored.*--yes"):
        stranger.restore()
    assert not target.parent.exists()
    assert not (tmp_path / "photos" / "good.png").exists()
    assert len(stranger.restore(allowed=True).files) == 2
    assert target.read_bytes() == image_files.png(9)


@pytest.mark.parametrize("name", ["run.sh", ".bashrc", "authorized_keys", ".git/hooks/pre-commit", "index.html"])
def test_files_with_other_names_than_images_are_asked_for_also_in_known_folders(
    name: str, stranger: Stranger, tmp_path: Path
) -> None:
    stranger.put(9, tmp_path / "photos" / name)
    with pytest.raises(UsageError, match="do not have the name of an image"):
        stranger.restore()
    assert not (tmp_path / "photos" / name).exists()


@pytest.mark.parametrize("roots", ["unknown collection", "another collection"])
def test_a_record_cannot_name_a_collection_that_knows_its_place(
    roots: str, stranger: Stranger, tmp_path: Path, collection: Collection
) -> None:
    other = tmp_path / "other.lookalike"
    if roots == "another collection":  # a copy has the identity, but another place
        shutil.copytree(collection.path, other)
    stranger.put(9, tmp_path / "photos" / "new.png", changes={"collection": str(other)})
    with pytest.raises(UsageError, match="outside"):
        stranger.restore()


def test_a_link_in_a_known_folder_is_resolved_before_the_user_is_asked(stranger: Stranger, tmp_path: Path) -> None:
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "home")
    stranger.put(9, tmp_path / "photos" / "link" / "evil.png")
    with pytest.raises(UsageError, match=str(tmp_path / "home")):
        stranger.restore()
    assert list((tmp_path / "home").iterdir()) == []


def test_no_link_inside_the_trash_is_followed(stranger: Stranger, collection: Collection, tmp_path: Path) -> None:
    photos, more = tmp_path / "photos", tmp_path / "more"
    more.mkdir()
    collection.remember_root(more)
    stranger.place(more).mkdir(parents=True)
    stranger.place(more / "link").symlink_to(photos)
    stranger.place(more / "stolen.png").symlink_to(photos / "4.png")
    stranger.place(photos).symlink_to(photos)
    stranger.put(4, more / "link" / "4.png")
    stranger.put(4, more / "stolen.png")
    stranger.put(4, photos / "4.png")  # would unlink the only copy
    before = state(photos)
    back = stranger.restore()
    assert back.files == ()
    assert {reason.partition(";")[0] for _, reason in back.failures} == {"links are not followed here"}
    assert state(photos) == before
    assert list(more.iterdir()) == []


def test_a_file_is_not_restored_into_the_trash_itself(stranger: Stranger) -> None:
    stranger.put(9, stranger.trash / "loot.png")
    stranger.put(8, stranger.trash / "deep" / "b.png")
    back = stranger.restore(allowed=True)
    assert back.files == ()
    assert all("inside the trash" in reason for _, reason in back.failures)
    assert stranger.place(stranger.trash / "loot.png").read_bytes() == image_files.png(9)


def test_only_the_content_of_the_record_is_restored(stranger: Stranger, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    stranger.put(9, photos / "a.png", changes={"sha256": "0" * 64})
    stranger.place(photos / "b.png").mkdir()
    stranger.put(9, photos / "b.png")
    os.mkfifo(stranger.place(photos / "c.png"))
    stranger.put(9, photos / "c.png")
    stranger.put(9, photos / "d.png")
    stranger.place(photos / "d.png").unlink()
    stranger.put(9, photos / ("x" * 250 + ".png"))
    (photos / ("x" * 250 + ".png")).mkdir()
    stranger.put(9, photos / "4.png" / "e.png")
    (photos / "dangling.png").symlink_to(tmp_path / "home" / "new.png")
    stranger.put(9, photos / "dangling.png")
    before = state(photos)
    back = stranger.restore()
    assert (back.files, len(back.failures)) == ((), 7)
    assert all("\n" not in reason for _, reason in back.failures)
    assert state(photos) == before
    assert not (tmp_path / "home" / "new.png").exists()


def test_a_dangling_link_is_not_replaced_without_hard_links(
    stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    place = tmp_path / "photos" / "dangling.png"
    place.symlink_to(tmp_path / "home" / "new.png")
    stranger.put(9, place)
    assert "taken its place" in reasons_by_name(stranger.restore())["dangling.png"]
    assert place.is_symlink()


def test_a_hard_link_in_the_trash_leaves_its_other_name_alone(stranger: Stranger, tmp_path: Path) -> None:
    place = stranger.place(tmp_path / "photos" / "again.png")
    place.parent.mkdir(parents=True)
    place.hardlink_to(tmp_path / "photos" / "4.png")
    stranger.put(4, tmp_path / "photos" / "again.png")
    assert len(stranger.restore().files) == 1
    assert (tmp_path / "photos" / "4.png").read_bytes() == image_files.png(4)


def test_a_record_replaces_no_item_of_the_collection(
    stranger: Stranger, collection: Collection, tmp_path: Path
) -> None:
    known = items(collection)
    stranger.put(9, tmp_path / "photos" / "new.png", changes={"id": "id-4.png", "label": "evil"})
    assert stranger.restore().failures == ()
    assert [item for item in items(collection) if item[2] != "evil"] == known
    assert collection.store.count() == 9


def test_nothing_is_added_that_was_not_in_the_trash_unless_it_lies_in_a_known_folder(
    stranger: Stranger, collection: Collection, tmp_path: Path
) -> None:
    """A stranger's list names a private file, and indexed images under other ids and names."""
    photos, secret = tmp_path / "photos", tmp_path / "home" / "secret.png"
    secret.write_bytes(image_files.png(9))
    (photos / "link").symlink_to(photos)
    known, before = items(collection), state(collection.path / "images")
    evil = {"label": "evil"}
    stranger.put(9, secret, evil | {"uri": "images/zz"})
    stranger.put(9, secret, evil, again=2)
    stranger.put(4, photos / "4.png", evil)  # another id
    stranger.put(4, photos / "4.png", evil | {"id": "id-4.png"}, again=2)
    stranger.put(4, photos / "link" / "4.png", evil)
    for path in stranger.trash.rglob("*.png"):
        path.unlink()
    with pytest.raises(UsageError, match=r"2 files would move .*home"):
        stranger.restore()
    assert items(collection) == known
    back = stranger.restore(allowed=True)
    assert (back.files, back.added) == ((), ())
    assert [path for path, _ in back.failures] == [secret, secret]
    assert all("in its place already, outside" in reason for _, reason in back.failures)
    assert items(collection) == known
    assert state(collection.path / "images") == before
    assert not stranger.trash.exists()


def test_an_interrupted_undo_adds_what_it_moved_into_known_folders(
    stranger: Stranger, collection: Collection, tmp_path: Path
) -> None:
    place = tmp_path / "photos" / "new.png"
    stranger.put(9, place)
    stranger.place(place).rename(place)
    back = stranger.restore()
    assert (back.files, back.failures, back.added) == ((), (), (place,))
    assert collection.store.get(["stranger"])["stranger"].uri == str(place)


def test_a_moved_file_adds_one_item_and_changes_none(
    stranger: Stranger, collection: Collection, tmp_path: Path
) -> None:
    photos, known = tmp_path / "photos", items(collection)
    own = collection.add_image(image_files.png(8), "mug")
    kept = collection.folder.file(own)
    stranger.put(9, photos / "new.png")
    stranger.put(9, photos / "new.png", {"id": "second"}, again=2)
    stranger.put(4, photos / "4.png", {"id": "id-4.png", "label": "evil"})  # there already
    stranger.put(8, kept, {"uri": own.uri, "label": "evil"})
    stranger.put(7, photos / "7.png", {"uri": "images/zz"})
    back = stranger.restore()
    assert back.added == (photos / "new.png",)
    assert reasons_by_name(back)["7.png"].endswith("the undo list has a wrong uri, 'images/zz'")
    assert [i for i in items(collection) if i[1] not in (own.uri, str(photos / "new.png"))] == known
    assert collection.store.count() == 10
    assert collection.get(own.id).label == "mug"


def test_undo_looks_once_for_each_folder_that_the_trash_lacks(
    stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(20):
        file = tmp_path / "photos" / str(i) / ("a/" * 110) / "b.png"
        file.parent.mkdir(parents=True)
        stranger.put(4, file)
        stranger.place(file).rename(file)
    shutil.rmtree(stranger.trash / tmp_path.parts[1])
    looked = list[str]()

    def resolve_inside(folder: Path, name: str) -> Path:
        looked.append(name)
        return folder / name

    monkeypatch.setattr(undo_list, "resolve_inside", resolve_inside)
    assert stranger.restore().failures == ()
    assert len(looked) < 100  # and not one for each of 2,400 folders
    assert not stranger.trash.exists()


def test_a_file_that_the_undo_list_cannot_record_stays(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(tmp_path / "photos")
    monkeypatch.setattr(undo_list, "_MAX_DEPTH", 3)
    moved = apply(collection, tmp_path / "trash")
    assert moved.files == ()
    assert {reason.partition(" a path")[0] for reason in reasons_by_name(moved).values()} == {
        "it cannot be moved: the undo list cannot record it:"
    }
    assert state(tmp_path / "photos") == before


DAMAGED = {
    "deep": b"[" * 100_000,
    "number": b"9" * 6_000,
    "bytes": b"\xff\xfe",
    "a list": b"[]",
    "nothing": b"",
    "long": b"x" * (3 << 20),
    "zeros": bytes(2 << 20),
    "twice": b'{"file": "/a", "file": "/b"}',
}

WRONG_FIELDS: dict[str, object] = {
    "identity": ["", "0" * 31, "0" * 32 + "\n", "../" * 8 + "0" * 8, 1],
    "file": ["relative.png", "/a/../b.png", "/a\0b.png", "", None, 1, ["/a"], {}, "/a" * 1990, "/" + "a" * 4096],
    "trashed": [
        "../loot.png",
        "/loot.png",
        "a/../../loot.png",
        ".",
        "",
        "a\0b",
        3,
        "a/" * 1990 + "a",
        "a" * 4097,
        "loot.png",
        "a.png",
    ],
    "sha256": ["", "A" * 64, "0" * 63, "0" * 64 + "\n", None],
    "collection": ["c.lookalike", "/a/../c", None, "/a" * 1990],
    "id": ["", 7],
    "label": [7, ["a"]],
    "attributes": [None, {"a": 1}, {"a": {"b": "c"}}],
    "extra": ["x"],
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_undo_list_is_one_line(line: bytes, stranger: Stranger) -> None:
    stranger.write(line + b"\n")
    with pytest.raises(StorageError, match=r"line 1, is damaged, and nothing was restored") as error:
        stranger.restore()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(("key", "values"), WRONG_FIELDS.items())
def test_a_record_with_a_wrong_field_is_one_line(key: str, values: list[object], stranger: Stranger) -> None:
    for value in values:
        stranger.records.clear()
        stranger.put(9, stranger.trash.parent / "home" / "a.png", changes={key: value})
        with pytest.raises(StorageError, match=r"line 1, is damaged") as error:
            stranger.restore(allowed=True)
        assert "\n" not in str(error.value)
        assert "Value error" not in str(error.value)
        assert "should" not in str(error.value)


def test_an_undo_list_that_is_not_a_file_is_neither_read_nor_written(
    stranger: Stranger, collection: Collection, tmp_path: Path
) -> None:
    diary = tmp_path / "home" / "diary.txt"
    diary.write_text("no line end", encoding="utf-8")
    path = stranger.trash / LIST
    makers: list[Callable[[], None]] = [
        lambda: path.symlink_to(diary),
        lambda: path.symlink_to(tmp_path / "home" / "new"),
        lambda: path.symlink_to("/dev/zero"),
        lambda: os.mkfifo(path),
        path.mkdir,
    ]
    for make in makers:
        make()
        with pytest.raises(StorageError, match="cannot be read"):
            stranger.restore()
        with pytest.raises(StorageError, match="cannot be written"):
            apply(collection, stranger.trash)
        path.rmdir() if path.is_dir() else path.unlink()
    assert diary.read_text(encoding="utf-8") == "no line end"
    assert sorted((tmp_path / "home").iterdir()) == [diary]
    assert collection.store.count() == 8


def test_a_list_of_one_endless_line_is_not_truncated(stranger: Stranger, collection: Collection) -> None:
    stranger.write(b"x" * (3 << 20))
    with pytest.raises(StorageError, match="line of more than a megabyte"):
        apply(collection, stranger.trash)
    assert (stranger.trash / LIST).stat().st_size == 3 << 20


def test_files_do_not_leave_through_a_link_in_the_trash(
    stranger: Stranger, collection: Collection, tmp_path: Path
) -> None:
    stranger.write(b"")
    (stranger.trash / tmp_path.parts[1]).symlink_to(tmp_path / "home")
    before = state(tmp_path / "photos")
    moved = apply(collection, stranger.trash)
    assert moved.files == ()
    assert set(reasons_by_name(moved).values()) == {"it cannot be moved: links are not followed here"}
    assert state(tmp_path / "photos") == before
    assert list((tmp_path / "home").iterdir()) == []


def test_files_outside_of_the_known_folders_move_only_if_the_user_allows_it(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    before, groups = state(tmp_path / "photos"), duplicates.find_duplicates(collection, NEAR).groups
    with pytest.raises(UsageError, match=r"4 files would move from places outside .*photos.* No file was moved.*--yes"):
        duplicates.move_to_trash(collection, groups, tmp_path / "trash")
    asked: list[Path] = []

    def refuse(files: Sequence[Path]) -> bool:
        asked.extend(files)
        return False

    with pytest.raises(UsageError, match="No file was moved"):
        duplicates.move_to_trash(collection, groups, tmp_path / "trash", confirm=refuse)
    assert sorted(str(path.relative_to(tmp_path / "photos")) for path in asked) == SURPLUS
    assert state(tmp_path / "photos") == before
    assert not (tmp_path / "trash").exists()
    moved = duplicates.move_to_trash(collection, groups, tmp_path / "trash", confirm=lambda _: True)
    assert len(moved.files) == 4


def test_each_file_is_reported_also_before_an_error(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, reported = moving.move, list[tuple[str, str | None]]()

    def full_after_two(source: Path, target: Path, sha256: str) -> None:
        if len(reported) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(reported) == 1:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        move(source, target, sha256)

    monkeypatch.setattr(moving, "move", full_after_two)
    monkeypatch.setattr(moving, "_is_writable", lambda _: False)
    groups = duplicates.find_duplicates(collection, NEAR).groups
    with pytest.raises(StorageError, match="No space left"):
        duplicates.move_to_trash(
            collection,
            groups,
            tmp_path / "trash",
            on_file=lambda member, reason: reported.append((member.path.name, reason)),
        )
    assert [reason for _, reason in reported] == [None, "it cannot be moved: Permission denied"]


def test_a_record_keeps_names_of_any_kind() -> None:
    name = os.fsdecode(b"/half \xff\xed\xa0\x80 \n \x1b[31m \xe2\x80\xae.png")
    record = Record(
        collection=name,
        file=name,
        trashed=name[1:],
        kept=name,
        sha256="0" * 64,
        id="1",
        uri=name,
        label=None,
        attributes={},
    )
    line = record.to_line()
    assert line.count(b"\n") == 1
    assert Record.model_validate(json.loads(line)) == record


@pytest.mark.parametrize(
    "file", ["/photos/a.b.png", "/a.png", "/photos/.hidden", "/photos/a (2).png", "/photos/x\n(.png"]
)
def test_a_place_in_the_trash_has_the_shape_that_a_move_gives_it(file: str, tmp_path: Path) -> None:
    path, inside = Path(file), Path(file[1:])
    with UndoList(tmp_path / "trash") as undo:
        places = []
        for _ in range(3):
            places.append(undo.place(path))
            places[-1].parent.mkdir(parents=True, exist_ok=True)
            places[-1].touch()
    right = [place.relative_to(tmp_path / "trash").as_posix() for place in places]
    assert right[0] == file[1:]
    wrong = [
        str(inside.with_name(f"{inside.stem}{end}{inside.suffix}")) for end in (" (1)", " (02)", " (x)", " 2", "(2)")
    ]
    wrong += [f"{file[1:]}/", f"x/{file[1:]}", f"{file[1:]}x", f"./{file[1:]}", file, path.name + "x"]
    for trashed in (*right, *wrong):
        record = {"collection": "/c", "file": file, "trashed": trashed, "kept": "/k", "sha256": "0" * 64, "id": "1"}
        with nullcontext() if trashed in right else pytest.raises(ValidationError, match="trash"):
            Record.model_validate(record | {"uri": file, "label": None, "attributes": {}})


# ---- relocated collections


def rename(collection: Collection, new: Path) -> Path:
    """Rename the folder of a collection, or one around it; return the folder of the collection."""
    collection.close()
    collection.path.rename(new)
    return new


def check_items(collection: Path, photos: Path) -> None:
    with Collection.open(collection) as found:
        assert {item.uri: (item.id, item.label) for item in found} == {
            str(photos / name): (f"id-{Path(name).name}", "label") for name in FILES
        }


@pytest.mark.parametrize("is_recorded", [True, False], ids=["in the list", "in the state"])
def test_a_renamed_collection_is_found(is_recorded: bool, collection: Collection, pocket: Path, tmp_path: Path) -> None:
    collection.remember_root(tmp_path / "photos")
    apply(collection, tmp_path / "trash")
    renamed = rename(collection, tmp_path / "d.lookalike")
    path = tmp_path / "trash" / LIST
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({record["identity"] for record in records}) == 1
    if is_recorded:  # another collection has the place
        with Collection.create(collection.path, pocket) as other:
            other.add(tmp_path / "photos" / "4.png")
    else:  # as an older version wrote it
        path.write_text("".join(json.dumps({**record, "identity": None}) + "\n" for record in records))
    back = duplicates.restore(tmp_path / "trash", Collection.open)
    assert (len(back.files), len(back.added), back.failures) == (4, 4, ())
    check_items(renamed, tmp_path / "photos")
    assert not (tmp_path / "trash").exists()


@pytest.mark.parametrize("is_relative", [False, True])
def test_files_are_restored_where_the_whole_folder_is_now(
    is_relative: bool, collection: Collection, tmp_path: Path
) -> None:
    photos, old, new = tmp_path / "photos", tmp_path / "c.lookalike", tmp_path / "new"
    collection.remember_root(photos)
    own = collection.add_image(image_files.png(4), "mug")
    if is_relative:
        collection.make_relative(photos)
    groups = duplicates.find_duplicates(collection, NEAR, options=FindOptions()).groups
    moved = duplicates.move_to_trash(collection, groups, tmp_path / "trash")
    collection.close()
    new.mkdir()
    for name in ("photos", "c.lookalike", "trash"):
        (tmp_path / name).rename(new / name)
    back = duplicates.restore(new / "trash", Collection.open)
    assert sorted(back.files) == sorted(new / path.relative_to(tmp_path) for path in moved.files)
    assert (len(back.added), back.failures) == (len(moved.files), ())
    assert not photos.exists()
    assert not old.exists()
    with Collection.open(new / "c.lookalike") as found:
        uris = {item.uri for item in found}
    assert {str(new / path.relative_to(tmp_path)) for path in moved.files} - {str(new / old.name / own.uri)} <= uris
    assert own.uri in uris


def test_the_undo_list_waits_for_a_collection_that_is_gone(collection: Collection, tmp_path: Path) -> None:
    collection.remember_root(tmp_path / "photos")
    apply(collection, tmp_path / "trash")
    (tmp_path / "far").mkdir()
    rename(collection, tmp_path / "far" / "c.lookalike")
    with pytest.raises(UsageError, match=r"no collection at .*c\.lookalike any more\. Move it back, or beside .*trash"):
        duplicates.restore(tmp_path / "trash", Collection.open)
    back = duplicates.restore(tmp_path / "trash", Collection.open, confirm=lambda _: True)
    assert (len(back.files), back.added) == (4, ())
    assert [path.name for path in (tmp_path / "trash").iterdir()] == [LIST]
    (tmp_path / "far" / "c.lookalike").rename(tmp_path / "beside.lookalike")
    again = duplicates.restore(tmp_path / "trash", Collection.open)
    assert (len(again.files), len(again.added), again.failures) == (0, 4, ())
    check_items(tmp_path / "beside.lookalike", tmp_path / "photos")
    assert not (tmp_path / "trash").exists()


@pytest.fixture
def relocated(collection: Collection, tmp_path: Path) -> Path:
    """Return a trash of files whose folder has been relocated since, from `photos` to `pictures`."""
    collection.remember_root(tmp_path / "photos")
    apply(collection, tmp_path / "trash")
    (tmp_path / "photos").rename(tmp_path / "pictures")
    collection.relocate(tmp_path / "photos", tmp_path / "pictures")
    return tmp_path / "trash"


def test_files_are_restored_where_the_images_are_now(relocated: Path, collection: Collection, tmp_path: Path) -> None:
    back = duplicates.restore(relocated, Collection.open)
    assert sorted(str(path.relative_to(tmp_path / "pictures")) for path in back.files) == SURPLUS
    assert back.failures == ()
    assert not (tmp_path / "photos").exists()
    assert {item.uri: item.id for item in collection} == {
        str(tmp_path / "pictures" / name): f"id-{Path(name).name}" for name in FILES
    }


def test_files_follow_relocations_there_and_back(relocated: Path, collection: Collection, tmp_path: Path) -> None:
    (tmp_path / "pictures").rename(tmp_path / "images")
    collection.relocate(tmp_path / "pictures", tmp_path / "images")
    (tmp_path / "images").rename(tmp_path / "photos")
    collection.relocate(tmp_path / "images", tmp_path / "photos")
    back = duplicates.restore(relocated, Collection.open)
    assert sorted(str(path.relative_to(tmp_path / "photos")) for path in back.files) == SURPLUS


def test_a_folder_that_is_indexed_again_is_not_relocated(
    relocated: Path, collection: Collection, tmp_path: Path
) -> None:
    assert len(duplicates.restore(relocated, Collection.open).files) == len(SURPLUS)
    image_files.write(tmp_path / "photos", {"new.png": 9, "new b.png": 9})
    collection.add(tmp_path / "photos")
    groups = [group for group in duplicates.find_duplicates(collection, NEAR) if "photos" in group.members[0].item.uri]
    (moved,) = duplicates.move_to_trash(collection, groups, tmp_path / "trash").files
    assert moved.parent == tmp_path / "photos"
    assert duplicates.restore(tmp_path / "trash", Collection.open).files == (moved,)


def test_a_strangers_list_follows_only_relocations_of_this_user(
    stranger: Stranger, collection: Collection, tmp_path: Path
) -> None:
    (tmp_path / "photos").rename(tmp_path / "pictures")
    collection.relocate(tmp_path / "photos", tmp_path / "pictures")
    stranger.put(9, tmp_path / "photos" / "a.png", {"collection": str(tmp_path / "other.lookalike")})
    stranger.put(9, tmp_path / "photos" / "b.png", {"sha256": "0" * 64})
    (tmp_path / "pictures" / "link").symlink_to(tmp_path / "home")
    stranger.put(9, tmp_path / "photos" / "link" / "c.png")
    with pytest.raises(UsageError, match="2 files would move"):
        stranger.restore()
    back = stranger.restore(allowed=True)
    assert set(back.files) == {tmp_path / "photos" / "a.png", tmp_path / "pictures" / "link" / "c.png"}
    assert "not the file that was moved" in reasons_by_name(back)["b.png"]
    assert sorted((tmp_path / "home").iterdir()) == [tmp_path / "home" / "c.png"]


def test_what_stays_in_the_trash_keeps_its_first_place_in_the_list(
    relocated: Path, collection: Collection, tmp_path: Path
) -> None:
    image_files.write(tmp_path / "pictures", {"1b.png": 8})
    assert list(reasons_by_name(duplicates.restore(relocated, Collection.open))) == ["1b.png"]
    (record,) = undo_list.read_undo_list(relocated)
    assert record.file == str(tmp_path / "photos" / "1b.png")
    (tmp_path / "pictures" / "1b.png").unlink()
    assert duplicates.restore(relocated, Collection.open).added == (tmp_path / "pictures" / "1b.png",)
    assert collection.count() == len(FILES)
