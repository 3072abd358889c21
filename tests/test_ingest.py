"""Ingest embeds only new and changed images, whatever happens to the files and to the process."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import image_files
import processes
from lookalike import images, parallel
from lookalike.collection import Collection
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.errors import DataError, EncoderError, NotFoundError, StorageError
from lookalike.ingest import Added, Entry, file_id, paths, plan, run
from lookalike.ingest.write import Pending, write
from lookalike.query import Branch
from lookalike.stores import Item, take_snapshot
from recorder import Recorder


class Counting(Encoder):
    """Remembers what it embedded, and fails or is interrupted after a given number of images."""

    seen: list[bytes]
    fails_after: int | None = None
    error: BaseException = EncoderError("it broke")

    def embed(self, batch: np.ndarray, branch: Branch = "photo", *, threads: int = 1) -> np.ndarray:
        if self.fails_after is not None and len(self.seen) + len(batch) > self.fails_after:
            raise self.error
        self.seen += [image.tobytes() for image in batch]
        return super().embed(batch, branch, threads=threads)


def schedule(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:  # noqa: ANN401 -- whatever a schedule has
    """Change when a run hands work on."""
    monkeypatch.setattr(run, "SCHEDULE", replace(run.SCHEDULE, **changes))


def counted(added: Added) -> dict[str, int]:
    """The counts of a run, without zeros."""
    counts = {
        "embedded": added.embedded,
        "reused": added.reused,
        "moved": added.moved,
        "unchanged": added.unchanged,
        "failed": added.failed,
    }
    assert added.total == sum(counts.values())
    return {name: count for name, count in counts.items() if count}


class Desk:
    """A collection, the folder that it is made of, and a count of what is embedded."""

    def __init__(self, root: Path, pocket: Path) -> None:
        self.folder, self.path = root / "photos", root / "some.lookalike"
        self.folder.mkdir()
        Collection.create(self.path, Encoder.open(pocket)).close()
        self.plain, self.encoder = Encoder.open(pocket), Counting.open(pocket)
        self.encoder.seen = []
        opened = Collection.open(self.path)
        self.collection = Collection(opened.folder, opened.store, Embedder.of(self.encoder))

    def write(self, **names: int) -> None:
        image_files.write(self.folder, {f"{name}.png": number for name, number in names.items()})

    def add(self, *new: Entry) -> Added:
        return self.collection.add(new or plan(self.folder))

    def added(self) -> dict[str, int]:
        """The counts of adding the folder, without zeros."""
        counts = counted(self.add())
        self.check()
        return counts

    def check(self, *, twice: bool = False) -> None:
        """Every item has the content of its file and the vector of its content; nothing was embedded twice."""
        assert twice or len(set(self.encoder.seen)) == len(self.encoder.seen)
        items = list(self.collection.store.scan())
        for item in items:
            assert images.fingerprint(Path(item.uri).read_bytes()) == item.sha256
        if items:
            right = self.plain.embed(np.stack([images.load(Path(item.uri), 32) for item in items]))
            assert np.allclose(self.collection.store.vectors([item.id for item in items]), right, atol=1e-6)

    def items(self) -> dict[str, Item]:
        return {Path(item.uri).stem: item for item in self.collection.store.scan()}


@pytest.fixture
def desk(tmp_path: Path, pocket: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, pocket)
    yield desk
    desk.collection.close()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once, so that their size and times are trusted."""
    monkeypatch.setattr(paths, "_RACY_NS", 0)


# ---- new and changed files


def test_a_second_run_embeds_only_new_files(desk: Desk) -> None:
    desk.write(a=1, b=2)
    assert desk.added() == {"embedded": 2}
    assert desk.added() == {"unchanged": 2}
    desk.write(c=3)
    assert desk.added() == {"embedded": 1, "unchanged": 2}
    assert desk.collection.store.count() == 3


@pytest.mark.usefixtures("settled")
def test_a_file_whose_size_and_times_are_the_same_is_not_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write(a=1)
    desk.added()
    with monkeypatch.context() as patched:
        patched.setattr(images, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
        assert counted(desk.add()) == {"unchanged": 1}


@pytest.mark.usefixtures("settled")
def test_a_change_with_the_same_size_and_date_is_detected(desk: Desk) -> None:
    desk.write(a=1)
    desk.added()
    file = desk.folder / "a.png"
    before, status = file.read_bytes(), file.stat()
    other = image_files.png(2).ljust(len(before), b"\0")[: max(len(before), len(image_files.png(2)))]
    file.write_bytes(before.ljust(len(other), b"\0"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    desk.added()
    size = file.stat().st_size
    file.write_bytes(other)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (size, status.st_mtime_ns)
    assert desk.added() == {"embedded": 1}


def test_recent_times_are_not_trusted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write(a=1)
    desk.added()
    recent = desk.items()["a"].signature
    assert recent.endswith("-recent")  # on a disk that counts whole seconds it may change unseen, so it is read
    later = time.time_ns() + 3 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert desk.added() == {"unchanged": 1}
    assert desk.items()["a"].signature == recent.removesuffix("-recent")


def test_identical_copies_are_embedded_once(desk: Desk) -> None:
    desk.write(a=1, b=1, c=1)
    assert desk.added() == {"embedded": 1, "reused": 2}
    desk.write(d=1)
    assert desk.added() == {"reused": 1, "unchanged": 3}


def test_identical_copies_far_apart_are_embedded_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule(monkeypatch, batch=2, write_every=5, task=3)
    monkeypatch.setattr(parallel, "_PREFETCH_PER_CORE", 2)
    desk.write(**{f"p{i:02}": i % 7 for i in range(60)})
    assert desk.added() == {"embedded": 7, "reused": 53}


def test_a_file_that_moved_is_not_embedded_again(desk: Desk) -> None:
    desk.write(a=1)
    desk.added()
    (desk.folder / "a.png").rename(desk.folder / "b.png")
    assert counted(desk.add()) == {"moved": 1}
    assert desk.collection.missing(desk.folder) == []
    assert desk.added() == {"unchanged": 1}
    assert desk.collection.store.count() == 1


def test_a_file_that_was_touched_is_unchanged(desk: Desk) -> None:
    desk.write(a=1)
    desk.added()
    os.utime(desk.folder / "a.png", (1, 1))
    assert desk.added() == {"unchanged": 1}


def test_a_file_that_changed_replaces_its_item(desk: Desk) -> None:
    desk.write(a=1, b=2)
    desk.added()
    desk.write(a=3)
    assert desk.added() == {"embedded": 1, "unchanged": 1}
    assert desk.collection.store.count() == 2


@pytest.mark.parametrize("write_every", [1, 1000])
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 2, "b": 1}, {"embedded": 1, "reused": 1}),
        ({"b": 1}, {"b": 2, "a": 1}, {"embedded": 1, "reused": 1}),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, {"moved": 2}),
        ({"a": 1, "b": 2, "c": 3}, {"a": 2, "b": 3, "c": 1}, {"moved": 3}),
        ({"a": 1, "b": 1}, {"a": 2, "b": 1, "c": 1}, {"embedded": 1, "reused": 1, "unchanged": 1}),
        ({"a": 1, "b": 1}, {"a": 1, "b": 2, "c": 1}, {"embedded": 1, "reused": 1, "unchanged": 1}),
        ({"a": 1, "b": 1}, {"a": 2, "b": 2, "c": 1}, {"embedded": 1, "reused": 2}),
        ({"a": 1}, {"a": 2, "b": 1, "c": 1, "d": 2}, {"embedded": 1, "reused": 3}),
    ],
)
def test_a_content_under_another_name_is_not_embedded_again(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: dict[str, int],
    after: dict[str, int],
    expected: dict[str, int],
    write_every: int,
) -> None:
    schedule(monkeypatch, write_every=write_every)
    desk.write(**before)
    desk.added()
    desk.write(**after)
    assert desk.added() == expected
    assert desk.added() == {"unchanged": len(after)}


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_embedded_twice_in_a_run_for_any_change_of_files(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    largest = {"batch": 5, "batches_per_core": 3, "write_every": 9, "task": 4}
    schedule(monkeypatch, **{name: random.randint(1, most) for name, most in largest.items()})
    monkeypatch.setattr(parallel, "_PREFETCH_PER_CORE", random.randint(1, 3))
    for _ in range(4):
        there = {item.sha256 for item in desk.collection.store.scan()}
        embedded = len(desk.encoder.seen)
        desk.write(**{f"p{random.randrange(20):02}": random.randrange(12) for _ in range(12)})
        new = {images.fingerprint(file.read_bytes()) for file in desk.folder.iterdir()}
        desk.add()
        desk.check(twice=True)
        assert len(desk.encoder.seen) - embedded == len(new - there)
        assert desk.collection.store.count() == len(list(desk.folder.iterdir()))


def test_another_label_is_written_without_embedding(desk: Desk) -> None:
    desk.write(a=1, b=1)
    desk.added()
    for label in ("cat", "dog", None):
        new = [Entry(desk.folder / f"{name}.png", label, {"of": "me"}) for name in ("a", "b")]
        assert counted(desk.add(*new)) == {"unchanged": 2}
        assert {item.label for item in desk.items().values()} == {label}
        desk.check()


@pytest.mark.parametrize("write_every", [1, 1000])
def test_another_label_finds_its_vector_when_the_first_of_two_copies_changed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, write_every: int
) -> None:
    schedule(monkeypatch, write_every=write_every)
    desk.write(a=1, b=1)
    desk.added()
    desk.write(a=2)
    for order in (1, -1):
        desk.add(*[Entry(desk.folder / f"{name}.png", f"label {order}") for name in ("a", "b")][::order])
        desk.check()


def test_a_repeated_image_is_one_item(desk: Desk) -> None:
    desk.write(a=1)
    twice = [Entry(desk.folder / "a.png", "first"), Entry(desk.folder / ".." / "photos" / "a.png", "last")]
    desk.add(*twice)
    assert [item.label for item in desk.items().values()] == ["last"]


def test_the_last_entry_of_an_id_counts(desk: Desk) -> None:
    desk.write(a=1, b=2)
    new = [Entry(desk.folder / f"{name}.png", id="x") for name in "ab"]
    assert counted(desk.add(*new)) == {"embedded": 1}
    assert list(desk.items()) == ["b"]
    assert counted(desk.add(*new)) == {"unchanged": 1}
    desk.check()


# ---- unusable images


def test_a_bad_image_is_reported_and_skipped(desk: Desk) -> None:
    desk.write(a=1, b=2)
    (desk.folder / "bad.png").write_bytes(image_files.png(3)[:100])
    (desk.folder / "text.jpg").write_text("not an image", encoding="utf-8")
    (desk.folder / "empty.gif").touch()
    added = desk.add()
    assert counted(added) == {"embedded": 2, "failed": 3}
    assert [path.name for path, _ in added.failures] == ["bad.png", "empty.gif", "text.jpg"]
    assert all(path.name in reason for path, reason in added.failures)
    assert sorted(desk.items()) == ["a", "b"]


DRAWING = b'{"strokes": [{"points": [[0, 0, 0.5], [1000, 1000, 0.5]]}]}'


@pytest.mark.parametrize("name", ["drawing.jpg", "drawing.json"])
def test_a_drawing_is_not_indexed(desk: Desk, name: str) -> None:
    path = desk.folder / name
    path.write_bytes(DRAWING)
    added = desk.add(Entry(path), Entry(Path("upload"), image=DRAWING))
    assert counted(added) == {"failed": 2}
    assert all("(drawing)" in reason for _, reason in added.failures)
    assert images.open_image(path).size == (512, 512)  # as a query


def test_a_file_that_became_unreadable_keeps_its_item(desk: Desk) -> None:
    desk.write(a=1)
    desk.added()
    before = desk.items()
    (desk.folder / "a.png").write_bytes(b"no more")
    assert counted(desk.add()) == {"failed": 1}
    assert desk.items() == before


@pytest.mark.parametrize(
    "path", [b"nowhere.png", b"na\xefve.png", b"nul\0.png", b"folder"], ids=["missing", "no UTF-8", "NUL", "folder"]
)
def test_an_unusable_path_is_reported(desk: Desk, path: bytes) -> None:
    (desk.folder / "folder").mkdir()
    desk.write(a=1)
    added = desk.add(Entry(desk.folder / os.fsdecode(path)), Entry(desk.folder / "a.png"))
    assert counted(added) == {"embedded": 1, "failed": 1}
    added.failures[0][1].encode()  # it can be printed


def test_a_file_name_that_is_not_utf_8_is_reported(desk: Desk) -> None:
    (desk.folder / os.fsdecode(b"na\xefve.png")).write_bytes(image_files.png(1))
    assert desk.added() == {"failed": 1}


def test_an_invalid_label_is_reported(desk: Desk) -> None:
    desk.write(a=1, b=2)
    added = desk.add(Entry(desk.folder / "a.png", "a\0"), Entry(desk.folder / "b.png", attributes={"\ud800": ""}))
    assert counted(added) == {"failed": 2}


def test_an_empty_folder_adds_nothing(desk: Desk) -> None:
    assert desk.added() == {}


def test_strange_names_are_kept(desk: Desk) -> None:
    desk.write(**{"ü \u2028'\"%s": 1, "-rf": 2, "\n": 3})
    assert desk.added() == {"embedded": 3}
    assert sorted(desk.items()) == sorted(["ü \u2028'\"%s", "-rf", "\n"])


# ---- labels


def names(entries: list[Entry]) -> list[tuple[str, str | None, dict[str, str]]]:
    return [(entry.path.name, entry.label, dict(entry.attributes)) for entry in entries]


def test_labels_are_the_first_folder_of_the_path(tmp_path: Path) -> None:
    image_files.write(tmp_path, {"cat/1.png": 1, "cat/kittens/2.png": 1, "dog/3.png": 1, "4.png": 1})
    expected: list[tuple[str, str | None, dict[str, str]]] = [
        ("4.png", None, {}),
        ("1.png", "cat", {}),
        ("2.png", "cat", {}),
        ("3.png", "dog", {}),
    ]
    assert names(plan(tmp_path, "folder")) == expected
    assert {entry.label for entry in plan(tmp_path)} == {None}


@pytest.mark.parametrize(
    ("csv", "expected"),
    [
        ("path,label\na.png,cat\n", [("a.png", "cat", {}), ("b c.png", None, {})]),
        ("\ufeffpath,label\na.png,cat\n", [("a.png", "cat", {}), ("b c.png", None, {})]),
        ("path\r\na.png\r\n", [("a.png", None, {}), ("b c.png", None, {})]),
        ("colour,path\n,./a.png\nred,b c.png", [("a.png", None, {}), ("b c.png", None, {"colour": "red"})]),
        ('path,label\n"b c.png","a ""cat"", or\ntwo"\n\n', [("a.png", None, {}), ("b c.png", 'a "cat", or\ntwo', {})]),
        (",path,label\n0,a.png,cat\n1,b c.png\n", [("a.png", "cat", {}), ("b c.png", None, {})]),
        ("path;label\na.png;cat, or dog\n", [("a.png", "cat, or dog", {}), ("b c.png", None, {})]),
        ("sep=;\r\nPath;Label\r\na.png;cat\r\n;;\r\n", [("a.png", "cat", {}), ("b c.png", None, {})]),
        ("path\tlabel\r.\\a.png\tcat\rb c.png\tdog\r", [("a.png", "cat", {}), ("b c.png", "dog", {})]),
        ('"path", "label"\n"a.png", "cat"\n', [("a.png", "cat", {}), ("b c.png", None, {})]),
        ('"my\ncolour"|path\nred|"a.png"', [("a.png", None, {"my colour": "red"}), ("b c.png", None, {})]),
    ],
    ids=[
        *("plain", "BOM", "no labels", "attributes", "quotes", "a column without a name, a short row"),
        *("semicolons", "Excel", "tabs, backslashes, old line ends"),
        *("spaces before quotes", "bars, a line break in a name"),
    ],
)
def test_labels_come_from_a_csv(tmp_path: Path, csv: str, expected: list[object]) -> None:
    image_files.write(tmp_path, {"a.png": 1, "b c.png": 2})
    (tmp_path / "labels.csv").write_text(csv, encoding="utf-8", newline="")
    assert names(plan(tmp_path, tmp_path / "labels.csv")) == expected


@pytest.mark.parametrize(
    "csv",
    [
        b"",
        b"label\ncat\n",
        b"path:label\na.png:cat\n",
        b"path,label\nnowhere.png,cat\n",
        b"path,label\na.png,cat\na.png,dog\n",
        b"path,label\na.png,cat\n./a.png,dog\n",
        b"path,label\na.png,cat,brown\n",
        b"path,label,label\na.png,cat,dog\n",
        b"path,label\n,cat\n",
        b'path,label\n"a.png,cat\n',
        b"path,label\na.png,\x81\n",
        b"\xff\xfep",
        b"PK\3\4 a spreadsheet",
        b"path,label\na.png\0,cat\n",
    ],
)
def test_an_invalid_csv_is_refused(tmp_path: Path, csv: bytes) -> None:
    image_files.write(tmp_path, {"a.png": 1})
    (tmp_path / "labels.csv").write_bytes(csv)
    with pytest.raises(DataError, match="labels"):
        plan(tmp_path, tmp_path / "labels.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_the_encoding_of_a_csv_is_found(tmp_path: Path, encoding: str) -> None:
    image_files.write(tmp_path, {"\u00fc.png": 1})
    (tmp_path / "labels.csv").write_bytes("path,label\n\u00fc.png,M\u00fctze\n".encode(encoding))
    found = plan(tmp_path, tmp_path / "labels.csv")
    assert names(found) == [("\u00fc.png", "M\u00fctze", {})]
    assert any("Windows-1252" in note for note in found.notes) == (encoding == "cp1252")


@pytest.mark.parametrize(
    ("path", "row", "relative_to"),
    [
        ("photos/x/a.png", "x/a.png", "photos"),
        ("photos/x/a.png", "photos/x/a.png", "."),
        ("photos/x/a.png", r"photos\x\a.png", "."),
        ("photos/x/a.png", "../{here}/photos/./x//a.png", "."),
        ("photos/x/a.png", "{root}/photos/x/a.png", "photos"),
        ("photos/cafe\u0301.png", "caf\u00e9.png", "photos"),
        ("photos/caf\u00e9.png", "photos/cafe\u0301.png", "."),
    ],
)
def test_paths_of_a_csv_are_relative_to_the_folder_or_the_csv_whichever_fits(
    tmp_path: Path, path: str, row: str, relative_to: str
) -> None:
    image_files.write(tmp_path, {path: 1, "photos/other.png": 2})
    row = row.format(root=tmp_path, here=tmp_path.name)
    (tmp_path / "labels.csv").write_text(f"path,label\n{row},cat\n", encoding="utf-8")
    found = plan(tmp_path / "photos", tmp_path / "labels.csv")
    assert {entry.path: entry.label for entry in found} == {
        tmp_path / path: "cat",
        tmp_path / "photos" / "other.png": None,
    }
    rows, without = found.notes
    assert rows.endswith(f"1 row, with paths relative to {tmp_path / relative_to}.")
    assert "1 image without a row" in without
    assert "other.png" in without


def test_two_images_whose_names_look_the_same_are_told_apart_by_the_exact_name(tmp_path: Path) -> None:
    image_files.write(tmp_path, {"u\u0308.png": 1, "\u00fc.png": 2})
    (tmp_path / "labels.csv").write_text("path,label\n\u00fc.png,one\nu\u0308.png,two\n", encoding="utf-8")
    assert {e.path.name: e.label for e in plan(tmp_path, tmp_path / "labels.csv")} == {
        "\u00fc.png": "one",
        "u\u0308.png": "two",
    }


def test_rows_of_files_outside_of_the_folder_are_left_out_and_said(tmp_path: Path) -> None:
    image_files.write(tmp_path, {"train/a.png": 1, "test/b.png": 2})
    (tmp_path / "labels.csv").write_text("path,label\ntrain/a.png,cat\ntest/b.png,dog\n", encoding="utf-8")
    found = plan(tmp_path / "train", tmp_path / "labels.csv")
    assert names(found) == [("a.png", "cat", {})]
    assert "test/b.png" in found.notes[1]


def test_rows_without_an_image_are_counted_and_equal_rows_are_one(tmp_path: Path) -> None:
    image_files.write(tmp_path, {"a.png": 1, "b.png": 2})
    (tmp_path / "l.csv").write_text("path,label\na.png,cat\nx.png,dog\n./a.png,cat\ny.png,dog\n", encoding="utf-8")
    found = plan(tmp_path, tmp_path / "l.csv")
    assert names(found) == [("a.png", "cat", {}), ("b.png", None, {})]
    assert f"2 rows of {tmp_path / 'l.csv'} name no image here, such as “x.png”." in found.notes


def test_a_csv_without_labels_is_said(tmp_path: Path) -> None:
    image_files.write(tmp_path, {"a.png": 1})
    (tmp_path / "labels.csv").write_text("path\na.png\n", encoding="utf-8")
    assert "no column “label”" in plan(tmp_path, tmp_path / "labels.csv").notes[1]
    (tmp_path / "labels.csv").write_text("path,article\na.png,cat\n", encoding="utf-8")
    assert "no column “label”" in plan(tmp_path, tmp_path / "labels.csv").notes[1]
    (tmp_path / "labels.csv").write_text("file,class\na.png,cat\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"its first line has file, class\. Rename .* to path and label"):
        plan(tmp_path, tmp_path / "labels.csv")


@pytest.mark.parametrize("name", ["nowhere.csv", ""])
def test_a_missing_csv_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError):
        plan(tmp_path, tmp_path / name)


def test_a_folder_has_the_same_ids_however_its_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_files.write(tmp_path, {"photos/a.png": 1})
    monkeypatch.chdir(tmp_path / "photos")
    paths = [Path(), Path("../photos"), tmp_path / "photos" / ".." / "photos", tmp_path / "photos"]
    assert len({file_id(plan(path)[0].path) for path in paths}) == 1


# ---- interrupted, failing, killed


def test_an_interrupted_run_writes_the_embedded_images(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule(monkeypatch, batch=4)
    desk.write(**{f"p{i:02}": i % 30 for i in range(40)})
    for error in (KeyboardInterrupt(), EncoderError("it broke"), MemoryError()):
        desk.encoder.error, desk.encoder.fails_after = error, len(desk.encoder.seen) + 8
        with pytest.raises(type(error)):
            desk.add()
        desk.check()
        assert len({item.sha256 for item in desk.collection.store.scan()}) == len(desk.encoder.seen)
    desk.encoder.fails_after = None
    desk.added()
    assert desk.collection.store.count() == 40


def test_a_store_that_cannot_be_written_is_not_tried_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def fail(*_: object) -> None:
        tries.append(1)
        raise StorageError("full")

    monkeypatch.setattr(desk.collection.store, "upsert", fail)
    schedule(monkeypatch, batch=1, batches_per_core=0, write_every=1, task=1)
    desk.write(**{f"p{i:03}": i for i in range(100)})
    threads_before = threading.active_count()
    with pytest.raises(StorageError):
        desk.add()
    assert len(tries) == 1
    assert len(desk.encoder.seen) < 100
    assert threading.active_count() == threads_before


def test_an_interrupt_while_writing_loses_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule(monkeypatch, batch=2, write_every=8)
    upsert, writes = desk.collection.store.upsert, list[int]()

    def interrupted(items: Sequence[Item], vectors: np.ndarray) -> None:
        writes.append(len(items))
        if len(writes) == 2:
            raise KeyboardInterrupt
        upsert(items, vectors)

    monkeypatch.setattr(desk.collection.store, "upsert", interrupted)
    desk.write(**{f"p{i:02}": i for i in range(40)})
    with pytest.raises(KeyboardInterrupt):
        desk.add()
    assert len(writes) == 3
    assert desk.collection.store.count() == len(desk.encoder.seen)
    desk.added()
    assert desk.collection.store.count() == 40


def test_writing_does_not_wait_for_later_images(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, written = threading.Event(), list[list[str]]()
    upsert, embed = desk.collection.store.upsert, desk.encoder.embed

    def slow(batch: np.ndarray, branch: Branch = "photo", *, threads: int = 1) -> np.ndarray:
        if desk.encoder.seen:  # the second batch
            assert gate.wait(60)
        return embed(batch, branch, threads=threads)

    def noted(items: Sequence[Item], vectors: np.ndarray) -> None:
        written.append([Path(item.uri).stem for item in items])
        gate.set()
        upsert(items, vectors)

    monkeypatch.setattr(desk.collection.store, "upsert", noted)
    monkeypatch.setattr(desk.encoder, "embed", slow)
    schedule(monkeypatch, batch=2, write_after=0.0, task=1)
    names = [f"p{i:02}" for i in range(40)]
    desk.write(**{name: i for i, name in enumerate(names)})
    desk.added()
    assert written[0] == names[: len(written[0])]
    assert [name for names in written for name in names] == names


def test_a_copy_whose_original_another_process_removed_is_reported(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write(a=1)
    desk.added()
    desk.write(b=1, c=2)
    store = desk.collection.store

    def late(*arguments: Any) -> list[Pending]:  # noqa: ANN401 -- it passes them on
        store.delete([file_id(desk.folder / "a.png")])
        return write(*arguments)

    monkeypatch.setattr(run, "write", late)
    added = desk.add(*(Entry(desk.folder / f"{name}.png") for name in "bc"))
    assert counted(added) == {"embedded": 1, "failed": 1}
    assert "another process" in added.failures[0][1]
    monkeypatch.undo()
    assert desk.add().total == 3
    assert sorted(desk.items()) == ["a", "b", "c"]


@pytest.mark.parametrize("changed", [False, True], ids=["deleted", "changed"])
def test_a_copy_whose_original_is_removed_during_reading_is_reported(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, changed: bool
) -> None:
    desk.write(a=1)
    desk.added()
    desk.write(b=1)
    store, original = desk.collection.store, desk.items()["a"]
    vectors = store.vectors

    def late(ids: Sequence[str]) -> np.ndarray:
        if changed:
            store.upsert([replace(original, sha256="other")], np.ones((1, 48)))
        else:
            store.delete([original.id])
        return vectors(ids)

    monkeypatch.setattr(store, "vectors", late)
    added = desk.add(Entry(desk.folder / "b.png"))
    assert counted(added) == {"failed": 1}
    assert "another process" in added.failures[0][1]
    assert store.get([file_id(desk.folder / "b.png")]) == {}


def test_progress_is_reported(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule(monkeypatch, task=2)
    desk.write(a=1, b=2, c=3, d=4, e=5)
    recorder = Recorder()
    desk.collection.add(plan(desk.folder), recorder)
    assert [report[:3] for report in recorder.reports] == [("indexing", done, 5) for done in (2, 4, 5, 5)]


def make_many(folder: Path, count: int) -> None:
    image_files.write(folder, {f"{i:03}.png": i for i in range(count)})


def logged(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def embedding(path: Path) -> str:
    """Return the fingerprint that is logged when an image is embedded."""
    return images.fingerprint(images.load(path, 32).tobytes())


@pytest.mark.slow
def test_a_killed_run_loses_nothing_and_continues(tmp_path: Path, pocket: Path) -> None:
    make_many(tmp_path / "photos", 300)
    path, log, random = tmp_path / "some.lookalike", tmp_path / "log", Random(0)
    encoder = Encoder.open(pocket)
    Collection.create(path, encoder).close()
    kills = [random.randrange(0, 300, 7) for _ in range(8)]
    before: set[str] = set()
    done = 0
    for enough in sorted(kills):
        already = len(logged(log))
        process = processes.start(processes.add, path, tmp_path / "photos", log)
        while process.poll() is None and len(logged(log)) < max(enough, already + 1):
            time.sleep(0.001)
        time.sleep(random.random() / 20)
        process.kill()
        process.communicate()
        assert before.isdisjoint(logged(log)[already:])  # what was written is not embedded again
        with closing(sqlite3.connect(path / "catalog.sqlite")) as sql:
            assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with Collection.open(path) as collection:
            files = [Path(item.uri) for item in collection.store.scan()]
            assert len(files) >= done
            done = len(files)
            before = {embedding(file) for file in files}
            right = encoder.embed(np.stack([images.load(file, 32) for file in files])) if files else np.empty((0, 48))
            assert np.allclose(take_snapshot(collection.store).vectors[:], right, atol=1e-6)
    processes.finish(processes.start(processes.add, path, tmp_path / "photos", log))
    with Collection.create(tmp_path / "at once.lookalike", encoder) as whole, Collection.open(path) as collection:
        whole.add(plan(tmp_path / "photos"))
        assert [i.uri for i in whole.store.scan()] == [i.uri for i in collection.store.scan()]
        assert len(list(whole.store.scan())) == 300


def test_ctrl_c_writes_the_embedded_images(tmp_path: Path, pocket: Path) -> None:
    make_many(tmp_path / "photos", 200)
    path, log = tmp_path / "some.lookalike", tmp_path / "log"
    Collection.create(path, Encoder.open(pocket)).close()
    process = processes.start(processes.add, path, tmp_path / "photos", log)
    while len(logged(log)) < 30:
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    with Collection.open(path) as collection:
        files = [Path(item.uri) for item in collection.store.scan()]
    assert len(files) < 200
    assert len(set(logged(log)) - {embedding(file) for file in files}) <= 4  # a batch that was under way


def test_two_processes_add_the_same_images_at_once(tmp_path: Path, pocket: Path) -> None:
    make_many(tmp_path / "photos", 60)
    path = tmp_path / "some.lookalike"
    Collection.create(path, Encoder.open(pocket)).close()
    for process in [processes.start(processes.add, path, tmp_path / "photos", tmp_path / f"log{i}") for i in range(2)]:
        processes.finish(process)
    with Collection.open(path) as collection:
        assert collection.store.count() == 60
