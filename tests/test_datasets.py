"""Datasets of labelled images: layouts, splits, checks and refusals."""

import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from typer.testing import CliRunner

import image_files
from lookalike import datasets, images
from lookalike.cli.app import app
from lookalike.datasets import CsvSource, FolderSource, Holdout, LabelledImages, NpzSource, ToyShopSource
from lookalike.datasets.dataset import select
from lookalike.datasets.lazy_images import ImageInfo
from lookalike.errors import DataError, LookalikeError, NotFoundError, UsageError
from lookalike.learn import recipe
from lookalike.progress import SILENT, Progress

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("LOOKALIKE_DATA", ROOT.parent / "shared" / "data"))


def write_images(folder: Path, count: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")


class NoNotes:
    """A progress that must not get a note."""

    def note(self, message: str) -> None:
        pytest.fail(message)

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        pass


class Notes(list[str]):
    """A progress that keeps its notes."""

    def note(self, message: str) -> None:
        self.append(message)

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        assert (stage, detail) == ("decoding", "")
        assert 0 <= done <= total


def load(path: Path, sketches: Path | None = None, progress: Progress = SILENT) -> LabelledImages:
    return datasets.load([FolderSource(path=path, sketches=sketches)], 8, "squash", progress)


def test_folders_of_classes_are_read_and_a_broken_image_is_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_images(tmp_path / "d" / "ant", 3, rng)
    write_images(tmp_path / "d" / "bee", 2, rng)
    (tmp_path / "d" / "bee" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    notes = Notes()
    samples = load(tmp_path / "d", progress=notes)
    assert samples.classes == ("ant", "bee")
    assert samples.labels.tolist() == [0, 0, 0, 1, 1]
    assert len(notes) == 1
    assert "broken.png" in notes[0]
    first = np.asarray(Image.open(tmp_path / "d" / "ant" / "0.png"))
    assert np.array_equal(samples.images[0], first)


def test_a_sketch_belongs_to_the_photo_that_its_name_begins_with(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        write_images(tmp_path / "photo" / name, 2, rng)
    (tmp_path / "sketch" / "bee").mkdir(parents=True)
    for name in ("0", "1-3", "stranger"):
        Image.new("RGB", (8, 8)).save(tmp_path / "sketch" / "bee" / f"{name}.png")
    samples = load(tmp_path / "photo", tmp_path / "sketch")
    assert samples.items.tolist()[:4] == [0, 1, 2, 3]
    assert samples.items.tolist()[4:6] == [2, 3]  # "0" and "1-3" show bees 0 and 1
    assert samples.items.tolist()[6] not in (0, 1, 2, 3)
    assert samples.sketch.tolist() == [False] * 4 + [True] * 3


@pytest.mark.parametrize(
    ("photos", "sketches", "items"),
    [
        ("1 2 3", "1 2 3", "- - -"),  # counters
        ("1 2 3 4 5", "2 3", "- -"),
        ("101 103 108", "103 108", "103 108"),  # numbers of items
        ("1 2 3", "1-1 1-2 3", "1 1 3"),
        ("001 002", "001 x", "001 -"),
        ("cup1 cup2", "cup1 cup2", "cup1 cup2"),
        ("a/cup1 b/cup1 cup2", "cup1 cup2", "- cup2"),  # two photos of one name
    ],
)
def test_sketches_that_are_only_counted_belong_to_no_photo(
    tmp_path: Path, photos: str, sketches: str, items: str
) -> None:
    image_files.write(tmp_path / "photo", {f"ant/{name}.png": i for i, name in enumerate(photos.split())})
    image_files.write(tmp_path / "photo", {f"bee/{name}.png": i for i, name in enumerate(photos.split())})
    image_files.write(tmp_path / "sketch", {f"bee/{name}.png": 9 for name in sketches.split()})
    notes = Notes()
    samples = load(tmp_path / "photo", tmp_path / "sketch", notes)
    dataset = datasets.open_dataset(FolderSource(path=tmp_path / "photo", sketches=tmp_path / "sketch"))
    assert samples.items.tolist() == dataset.items.tolist()
    stems = {int(item): Path(dataset.images.name(row)).stem for row, item in enumerate(dataset.items[~dataset.sketch])}
    assert [stems.get(item, "-") for item in dataset.items[dataset.sketch].tolist()] == items.split()
    assert dataset.labels[dataset.sketch].tolist() == [1] * len(items.split())
    assert dataset.sketches_counted == (set(items) == {"-", " "}) == bool(notes)


def test_data_that_cannot_train_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="no folder"):
        load(tmp_path / "none")
    write_images(tmp_path / "one" / "ant", 3, rng)
    with pytest.raises(DataError, match="only one class"):
        load(tmp_path / "one")
    (tmp_path / "one" / "bee").mkdir()
    with pytest.raises(DataError, match="no images: bee"):
        load(tmp_path / "one")
    write_images(tmp_path / "few" / "ant", 1, rng)
    write_images(tmp_path / "few" / "bee", 3, rng)
    with pytest.raises(DataError, match="“ant” has one usable"):
        datasets.hold_out(load(tmp_path / "few"), Holdout(0.5, seed=0))
    write_images(tmp_path / "small" / "ant", 2, rng)
    write_images(tmp_path / "small" / "bee", 2, rng)
    with pytest.raises(DataError, match="fewer than two photos"):
        datasets.hold_out(load(tmp_path / "small"), Holdout(0.5, seed=0))


def shop(count: int = 96, sketches: int = 2) -> LabelledImages:
    source = ToyShopSource(kind="toyshop", count=count, seed=3, sketches=sketches)
    return datasets.load([source], 16, "squash")


@pytest.mark.slow
def test_hold_out_keeps_sketches_with_their_photo_and_every_class_on_both_sides() -> None:
    samples = shop()
    training, validation = datasets.hold_out(samples, Holdout(0.34, seed=1))
    assert not set(training.items) & set(validation.items)
    assert len(training) + len(validation) == len(samples)
    assert set(training.labels) == set(validation.labels) == set(samples.labels)
    again, _ = datasets.hold_out(samples, Holdout(0.34, seed=1))
    assert np.array_equal(again.items, training.items)


def test_sources_are_concatenated() -> None:
    source = ToyShopSource(kind="toyshop", count=64, seed=1)
    two = datasets.load([source, source], 16, "squash")
    assert len(two.classes) == 64
    assert two.labels.tolist()[64:] == (two.labels[:64] + 32).tolist()
    assert len(set(two.items.tolist())) == 128


@pytest.mark.slow
def test_hold_out_by_class_gives_disjoint_classes() -> None:
    samples = shop()
    training, validation = datasets.hold_out(samples, Holdout(0.25, "class", 1))
    assert len(validation.classes) == 8
    assert set(training.classes) | set(validation.classes) == set(samples.classes)
    assert not set(training.classes) & set(validation.classes)
    assert set(training.labels.tolist()) == set(range(24))
    names = np.asarray(samples.classes)[samples.labels]
    for part in (training, validation):
        kept = np.isin(names, part.classes)
        assert np.array_equal(np.asarray(part.classes)[part.labels], names[kept])
        assert np.array_equal(part.images, samples.images[kept])


def test_hold_out_leaves_two_items_of_each_class() -> None:
    samples = shop(count=96, sketches=0)
    training, _ = datasets.hold_out(samples, Holdout(0.99, seed=0))
    assert np.bincount(training.labels).tolist() == [2] * 32


def test_hold_out_by_class_needs_four_classes(tmp_path: Path) -> None:
    for name in "abc":
        write_images(tmp_path / name, 3, np.random.default_rng(0))
    with pytest.raises(DataError, match="needs four"):
        datasets.hold_out(load(tmp_path), Holdout(0.5, "class", 0))


# ---- splits, classes, limits


def splits(path: Path, **counts: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    for split, classes in counts.items():
        for name, count in classes.items():
            write_images(path / split / name, count, rng)
    return path


def names(dataset: datasets.Dataset) -> list[str]:
    return [Path(dataset.images.name(row)).relative_to(dataset.name).as_posix() for row in range(len(dataset))]


def test_split_folders_are_recognised_by_every_spelling(tmp_path: Path) -> None:
    splits(tmp_path, Training={"a": 2, "b": 1}, val={"a": 1, "b": 1}, test={"a": 1, "b": 2})
    (tmp_path / ".hidden").mkdir()
    dataset = datasets.open_dataset(FolderSource(path=tmp_path))
    assert dataset.splits is not None
    assert dataset.classes == ("a", "b")
    for row, name in enumerate(names(dataset)):
        split, label, _ = name.split("/")
        assert {"Training": "train", "val": "validation", "test": "test"}[split] == dataset.splits[row]
        assert label == dataset.classes[dataset.labels[row]]
    assert len(dataset) == 8


def test_classes_called_train_and_test_are_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 2, np.random.default_rng(0))
    write_images(tmp_path / "test", 2, np.random.default_rng(0))
    dataset = datasets.open_dataset(FolderSource(path=tmp_path))
    assert dataset.splits is None
    assert dataset.classes == ("test", "train")


def test_a_source_selects_a_split_and_classes(tmp_path: Path) -> None:
    splits(tmp_path, train={"a": 2, "b": 2, "c": 1}, test={"a": 1, "b": 1})
    test = datasets.open_dataset(FolderSource(path=tmp_path, split="testing"))
    assert names(test) == ["test/a/0.png", "test/b/0.png"]
    assert test.classes == ("a", "b")
    two = datasets.open_dataset(FolderSource(path=tmp_path, classes=("c", "a")))
    assert two.classes == ("a", "c")
    assert names(two) == ["test/a/0.png", "train/a/0.png", "train/a/1.png", "train/c/0.png"]
    with pytest.raises(DataError, match=r"no images in its split “validation”; it has train, test"):
        datasets.open_dataset(FolderSource(path=tmp_path, split="validation"))
    with pytest.raises(DataError, match=r"no class “d”, “e”; it has a, b, c"):
        datasets.open_dataset(FolderSource(path=tmp_path, classes=("a", "e", "d")))
    with pytest.raises(DataError, match="has no splits"):
        datasets.open_dataset(FolderSource(path=tmp_path / "train", split="test"))


def test_sketches_follow_their_photos_into_splits_and_limits(tmp_path: Path) -> None:
    splits(tmp_path / "photo", train={"a": 4, "b": 4}, test={"a": 2, "b": 2})
    splits(tmp_path / "sketch", train={"a": 4, "b": 4}, test={"a": 2})
    for path in tmp_path.rglob("*.png"):
        path.rename(path.with_stem(f"item{path.stem}"))
    write_images(tmp_path / "strange" / "a", 1, np.random.default_rng(0))
    dataset = datasets.open_dataset(FolderSource(path=tmp_path / "photo", sketches=tmp_path / "sketch", limit=1))
    assert dataset.sketch.tolist() == [False] * 4 + [True] * 3
    photos = dataset.items[:4].tolist()  # of test a, test b, train a, train b
    assert dataset.items[4:].tolist() == [photos[0], photos[2], photos[3]]
    with pytest.raises(DataError, match="different splits"):
        datasets.open_dataset(FolderSource(path=tmp_path / "photo", sketches=tmp_path / "strange"))


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    limit=st.integers(1, 6),
    divided=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_limit_selects_the_same_images_of_each_class_in_each_split_each_time(
    labels: list[int], limit: int, divided: bool, seed: int
) -> None:
    splits = np.random.default_rng(seed).choice(["train", "test"], len(labels)) if divided else None
    dataset = datasets.Dataset(
        name="it",
        images=Undecoded(len(labels)),
        labels=np.asarray(labels),
        classes=tuple("abcd"),
        items=np.arange(len(labels)),
        sketch=np.zeros(len(labels), bool),
        splits=splits,
    )
    limited = select(dataset, None, None, limit)
    for label in range(4):
        for split in ("train", "test") if divided else (None,):
            kept, there = (d.labels[d.rows(split)].tolist().count(label) for d in (limited, dataset))
            assert kept == min(limit, there)
    assert limited.items.tolist() == select(dataset, None, None, limit).items.tolist() == sorted(limited.items.tolist())
    assert set(limited.items.tolist()) <= set(select(dataset, None, None, limit + 1).items.tolist())


class Undecoded:
    """Images that must not be decoded."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def take(self, rows: np.ndarray) -> "Undecoded":
        return Undecoded(len(rows))

    def load(self, row: int, size: int, fit: images.Fitting) -> np.ndarray:
        raise AssertionError((row, size, fit))

    def inspect(self, row: int) -> ImageInfo:
        raise AssertionError(row)

    def name(self, row: int) -> str:
        raise AssertionError(row)


# ---- tables


def table(folder: Path, text: str, *files: str) -> CsvSource:
    rng = np.random.default_rng(0)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / file)
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return CsvSource(path=folder / "t.csv")


def test_a_table_gives_label_split_and_retrieval_role_and_its_paths_are_relative(tmp_path: Path) -> None:
    text = (
        "colour,path, label ,split,is_query,is_gallery\n"
        "red,x/1.png,b,train,,\nblue,2.png,a,VAL,true,0\n,3.png,b,test,no,1\n"
    )
    dataset = datasets.open_dataset(table(tmp_path, "\ufeff" + text, "x/1.png", "2.png", "3.png"))
    assert dataset.classes == ("a", "b")
    assert dataset.labels.tolist() == [1, 0, 1]
    assert dataset.splits is not None
    assert dataset.splits.tolist() == ["train", "validation", "test"]
    assert dataset.is_query is not None
    assert dataset.is_query.tolist() == [False, True, False]
    assert dataset.is_gallery is not None
    assert dataset.is_gallery.tolist() == [False, False, True]
    samples = datasets.decode(dataset, 8, "squash", NoNotes())
    assert np.array_equal(samples.images[0], np.asarray(Image.open(tmp_path / "x" / "1.png")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1.png,a\n", r"no column “path”; its first line has file, label\."),
        ("path:label\n1.png:a\n", r"no column “path” and no column “label”; its first line has path:label\."),
        ("path,label\n1.png,a,b\n", "line 2: the row has more values"),
        ("", "its first line has nothing"),
        ("path,label\n", "has no rows"),
        ("path,label,label\n1.png,a,b\n", "two columns named label"),
        ("path,label\n1.png,a\n,b\n", "line 3: there is no path"),
        ("path,label\n1.png\n", "line 2: there is no label"),
        ("path,label\n1.png,a\n2.png,a\0\n", "line 3: the label has a NUL"),
        ("path,label\n1.png,a\n2.png,a\n1.png,b\n", r"lines 2 and 4 both name 1\.png"),
        ("path,label,split\n1.png,a,dev\n", "line 2: “dev” is not a split"),
        ("path,label,split\n1.png,a,\n", "“” is not a split"),
        ("path,label,is_query\n1.png,a,perhaps\n", "line 2: is_query is “perhaps”"),
        ('path,label\n"1.png,a\n', "not a table of comma-separated values"),
    ],
)
def test_an_invalid_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        datasets.open_dataset(table(tmp_path, text))


def test_a_table_in_another_encoding_or_a_missing_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"path,label\n1.png,\x81\n")
    with pytest.raises(DataError, match="not in UTF-8"):
        datasets.open_dataset(CsvSource(path=tmp_path / "t.csv"))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        datasets.open_dataset(CsvSource(path=tmp_path / "none.csv"))


@pytest.mark.parametrize(
    "text",
    [
        "path;label\nx/1.png;a\n2.png;b\n",
        "sep=;\r\nPATH;Label\r\nx/1.png;a\r\n2.png;b\r\n",
        "path\tlabel\nx\\1.png\ta\n2.png\tb\n\t\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_a_table_as_spreadsheets_write_it_is_read(tmp_path: Path, text: str, encoding: str) -> None:
    source = table(tmp_path, "", "x/1.png", "2.png", "cafe\u0301.png")
    source.path.write_bytes((text + text.splitlines()[-1].replace("2.png", "caf\u00e9.png")).encode(encoding))
    dataset = datasets.open_dataset(source)
    assert dataset.classes == ("a", "b")
    assert len(datasets.decode(dataset, 8, "squash", NoNotes()).images) == len(dataset)


def test_a_missing_file_of_a_table_is_reported_and_left_out(tmp_path: Path) -> None:
    dataset = datasets.open_dataset(table(tmp_path, "path,label\n1.png,a\nnone.png,a\n2.png,b\n", "1.png", "2.png"))
    notes = Notes()
    samples = datasets.decode(dataset, 8, "squash", notes)
    assert samples.labels.tolist() == [0, 1]
    assert samples.items.tolist() == [0, 2]
    assert len(notes) == 1
    assert "none.png" in notes[0]
    with pytest.raises(DataError, match="None of the 1 images"):
        datasets.decode(dataset.take(np.asarray([1])), 8, "squash", notes)


# ---- arrays


def saved(path: Path, **arrays: object) -> NpzSource:
    np.savez(path / "a.npz", **arrays)  # type: ignore[arg-type]  # NumPy turns lists into arrays
    return NpzSource(path=path / "a.npz")


def grey(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_an_npz_has_splits_and_its_numeric_labels_are_sorted_as_numbers(tmp_path: Path) -> None:
    x = {"x_train": grey(3, 8, 8), "x_val": grey(1, 8, 8, 3), "x_test": grey(2, 8, 8, 1)}
    y = {"y_train": [10, 2, 2], "y_val": np.array([[10]], np.uint8), "y_test": [2, 10]}
    source = saved(tmp_path, **x, **y)
    dataset = datasets.open_dataset(source)
    assert dataset.classes == ("2", "10")
    assert dataset.labels.tolist() == [1, 0, 0, 1, 0, 1]
    assert dataset.splits is not None
    assert dataset.splits.tolist() == ["train"] * 3 + ["validation"] + ["test"] * 2
    decoded = datasets.decode(dataset, 8, "squash", NoNotes())
    assert np.array_equal(decoded.images[1], np.repeat(x["x_train"][1][..., None], 3, axis=2))
    assert np.array_equal(decoded.images[3], x["x_val"][0])
    assert np.array_equal(decoded.images[5], np.repeat(x["x_test"][1], 3, axis=2))
    test = datasets.open_dataset(source.model_copy(update={"split": "test"}))
    assert len(test) == 2
    with pytest.raises(DataError, match="split “validation”"):
        datasets.open_dataset(
            saved(tmp_path, x_test=grey(2, 8, 8), y_test=[0, 1]).model_copy(update={"split": "validation"})
        )


def test_leading_axes_are_flattened_and_true_is_white(tmp_path: Path) -> None:
    ink = grey(4, 5, 8, 9) > 99
    labels = np.repeat(np.arange(4)[:, None], 5, axis=1)
    dataset = datasets.open_dataset(saved(tmp_path, images=ink, labels=labels))
    assert dataset.labels.tolist() == labels.reshape(-1).tolist()
    for batch in datasets.decode_batches(dataset, 8, "crop", count=7):
        assert batch.failures == ()
        for row, image in zip(batch.rows, batch.images, strict=True):
            whole = Image.fromarray(np.where(ink.reshape(20, 8, 9)[row], 255, 0).astype(np.uint8))
            assert np.array_equal(image, images.load(whole, 8, "crop"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_grey_levels_of_255(tmp_path: Path, dtype: type[np.floating]) -> None:
    levels = np.arange(256).reshape(1, 16, 16)
    source = saved(tmp_path, pics=(levels / 255).astype(dtype), names=np.array([b"\xc3\xa4"]))
    dataset = datasets.open_dataset(source.model_copy(update={"images": "pics", "labels": "names"}))
    assert dataset.classes == ("ä",)
    assert np.array_equal(datasets.decode(dataset, 16, "squash", NoNotes()).images[0, ..., 1], levels[0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, r"has the arrays \(none\)"),
        ({"pics": [1], "labels": [1]}, "has the arrays pics, labels, but neither images and labels nor x_train"),
        ({"x_train": grey(2, 8, 8)}, "only one of x_train and y_train"),
        ({"images": grey(2, 8, 8), "labels": [0, 1, 2]}, "each image needs one label"),
        ({"images": grey(2, 8, 8), "labels": 3}, "each image needs one label"),
        ({"images": 0.5, "labels": [0]}, "the shape"),
        ({"images": grey(2, 8), "labels": [0, 1]}, r"the shape \(8,\)"),
        ({"images": grey(2, 8, 8, 4), "labels": [0, 1]}, r"the shape \(8, 8, 4\)"),
        ({"images": grey(2, 0, 8), "labels": [0, 1]}, "the shape"),
        ({"images": grey(0, 8, 8), "labels": np.zeros(0, int)}, "there are no images"),
        ({"images": np.zeros((2, 8, 8), int), "labels": [0, 1]}, "holds int64; images are uint8"),
        ({"images": np.full((2, 8, 8), np.nan), "labels": [0, 1]}, "outside 0 to 1"),
        ({"images": np.full((2, 8, 8), 1.01), "labels": [0, 1]}, "outside 0 to 1"),
        ({"images": np.full((2, 8, 8), -0.01), "labels": [0, 1]}, "outside 0 to 1"),
        ({"images": grey(2, 8, 8), "labels": [0.5, 1]}, "holds float64; labels are"),
        ({"images": grey(2, 8, 8), "labels": np.array([b"\xff", b"a"])}, "“labels” in .* is not in UTF-8"),
        ({"images": grey(2, 8, 8), "labels": np.array([0, "a"], object)}, "“labels” in .* holds Python objects"),
        (
            {"x_train": grey(1, 8, 8), "y_train": [0], "x_test": grey(1, 8, 8), "y_test": ["a"]},
            "numbers as labels in one split and names in another",
        ),
    ],
)
def test_invalid_arrays_are_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        datasets.open_dataset(saved(tmp_path, **arrays))


def test_arrays_that_the_source_names_must_exist(tmp_path: Path) -> None:
    source = saved(tmp_path, x_train=grey(1, 8, 8), y_train=[0])
    with pytest.raises(DataError, match="neither pics and labels"):
        datasets.open_dataset(NpzSource(path=source.path, images="pics"))


def test_a_file_that_is_not_an_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    source = saved(tmp_path, images=grey(4, 30, 30), labels=[0, 1, 2, 3])
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:300] + b"xxxx" + whole[304:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz"):
            datasets.open_dataset(source)
    with path.open("wb") as file:
        np.save(file, grey(2, 2))
    with pytest.raises(DataError, match="a single array"):
        datasets.open_dataset(source)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        datasets.open_dataset(NpzSource(path=tmp_path / "none.npz"))


@settings(max_examples=50)
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_npz_raises_nothing_but_a_data_error(flips: list[tuple[int, int]]) -> None:
    whole = io.BytesIO()
    np.savez_compressed(whole, images=grey(6, 8, 8), labels=["a", "b", "c"] * 2)
    content = bytearray(whole.getvalue())
    for at, value in flips:
        content[at % len(content)] = value
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.npz").write_bytes(content)
        try:
            assert len(datasets.open_dataset(NpzSource(path=Path(folder) / "a.npz"))) == 6
        except DataError as e:
            assert "\n" not in str(e)  # noqa: PT017 -- the damage may be harmless


def test_an_npz_of_unknown_compression_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, images=grey(2, 8, 8), labels=[0, 1])
    content = source.path.read_bytes()
    # The method is at byte 8 of the local header and at byte 10 of the central one (APPNOTE 4.3.7, 4.3.12).
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.index(mark) + offset
        content = content[:at] + b"\x63" + content[at + 1 :]
    source.path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        datasets.open_dataset(source)


@settings(max_examples=60)
@given(
    text=st.text(st.sampled_from('path,label\n\r"; 1é\0\ufeff'), max_size=60),
    head=st.sampled_from(["path,label\n", "path,label,split\n", ""]),
)
def test_any_table_raises_nothing_but_a_data_error(text: str, head: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes((head + text).encode())
        try:
            dataset = datasets.open_dataset(CsvSource(path=path))
        except DataError:
            return
        assert len(dataset) > 0
        assert len(dataset.images) == len(dataset.labels) == len(dataset.items)
        assert all(dataset.classes)


# ---- batches


@pytest.mark.parametrize("count", [1, 16, 50, 1000])
def test_batches_equal_a_full_decode(tmp_path: Path, count: int) -> None:
    for name in "ab":
        write_images(tmp_path / name, 40, np.random.default_rng(len(name)))
    (tmp_path / "a" / "17.png").write_bytes(b"not an image")
    dataset = datasets.open_dataset(FolderSource(path=tmp_path))
    batches = list(datasets.decode_batches(dataset, 8, "squash", count))
    assert [len(batch.rows) for batch in batches] == [count] * (79 // count) + ([79 % count] if 79 % count else [])
    assert sum(len(batch.failures) for batch in batches) == 1
    rows = np.concatenate([batch.rows for batch in batches])
    bad = next(row for row, name in enumerate(names(dataset)) if name == "a/17.png")
    assert rows.tolist() == [row for row in range(80) if row != bad]
    for row, image in zip(rows, np.concatenate([batch.images for batch in batches]), strict=True):
        assert np.array_equal(image, images.load(Path(dataset.images.name(row)), 8))


def test_batches_look_ahead_a_bounded_distance_and_stop_with_the_consumer() -> None:
    loaded = []

    class Counted(Undecoded):
        def take(self, rows: np.ndarray) -> "Counted":
            return Counted(len(rows))

        def load(self, row: int, size: int, fit: images.Fitting) -> np.ndarray:
            loaded.append(row)
            return images.load(Image.new("L", (1, 1), row % 256), size, fit)

    n = 5000
    many = datasets.Dataset("it", Counted(n), np.zeros(n, int), ("a",), np.arange(n), np.zeros(n, bool))
    stream = datasets.decode_batches(many, 4, "squash", count=10)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(loaded) <= 17 * 16 + 16


# ---- training and validation splits


def split(
    *sources: datasets.Source, by: datasets.SplitBy = "item", share: float = 0.5
) -> tuple[LabelledImages, LabelledImages]:
    return datasets.split_for_training(sources, Holdout(share, by), 8, "squash")


def marked(path: Path, **counts: dict[str, int]) -> FolderSource:
    """Write images whose grey level is that of their split: train 0, validation 100, test 200."""
    for split, classes in counts.items():
        for name, count in classes.items():
            (path / split / name).mkdir(parents=True)
            level = {"train": 0, "val": 100, "test": 200}[split]
            for i in range(count):
                Image.new("RGB", (8, 8), (level, level, level)).save(path / split / name / f"{i}.png")
    return FolderSource(path=path)


def levels(samples: LabelledImages) -> set[int]:
    return set(samples.images.reshape(-1).tolist())


def test_a_validation_split_validates_and_test_images_are_never_decoded(tmp_path: Path) -> None:
    same = {"a": 3, "b": 4}
    training, validation = split(marked(tmp_path / "x", train=same, val=same, test=same))
    assert levels(training) == {0}
    assert levels(validation) == {100}
    assert np.bincount(training.labels).tolist() == np.bincount(validation.labels).tolist() == [3, 4]
    training, validation = split(marked(tmp_path / "y", train={"a": 4, "b": 4}, test=same))
    assert levels(training) == levels(validation) == {0}
    assert (len(training), len(validation)) == (4, 4)


def test_sources_with_and_without_a_validation_split_are_combined(tmp_path: Path) -> None:
    with_one = marked(tmp_path / "x", train={"a": 2, "b": 2}, val={"a": 2, "b": 2})
    without = marked(tmp_path / "y", train={"c": 4, "d": 4})
    training, validation = split(with_one, without)
    assert training.classes == validation.classes == ("a", "b", "c", "d")
    assert np.bincount(training.labels).tolist() == np.bincount(validation.labels).tolist() == [2, 2, 2, 2]
    assert not set(training.items) & set(validation.items)


def test_splits_with_different_classes_are_refused_unless_classes_are_held_out(tmp_path: Path) -> None:
    source = marked(tmp_path / "x", train={"a": 3, "b": 3}, val={"b": 2, "c": 2}, test={"a": 1})
    with pytest.raises(DataError, match=r"no class is in all splits.*validation_by: class"):
        split(source)
    training, validation = split(source, by="class")
    assert training.classes == ("a", "b")
    assert validation.classes == ("b", "c")
    assert training.labels.tolist() == validation.labels.tolist()[:1] * 3 + [1] * 3
    lacking = marked(tmp_path / "z", train={"a": 3, "b": 3, "c": 2}, test={"a": 1})
    with pytest.raises(DataError, match="test lacks b, c"):
        split(lacking)


def test_a_source_with_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    source = marked(tmp_path / "x", train={"a": 3, "b": 3}, test={"a": 2, "b": 2})
    for only_test in (source.model_copy(update={"split": "test"}), marked(tmp_path / "t", test={"a": 2, "b": 2})):
        with pytest.raises(DataError, match="nothing to train on: its split is test"):
            split(only_test)


def split_class_per_image(path: Path, share: float = 0.25) -> tuple[LabelledImages, LabelledImages]:
    return datasets.split_for_training(
        [FolderSource(path=path)], Holdout(share, "class", class_per_image=True), 8, "squash"
    )


def test_without_labels_each_image_in_any_folder_is_a_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_images(tmp_path / "d", 5, rng)
    write_images(tmp_path / "d" / "2024" / "may", 3, rng)
    training, validation = split_class_per_image(tmp_path / "d")
    assert (len(training), len(validation)) == (6, 2)
    for part in (training, validation):
        assert part.labels.tolist() == list(range(len(part)))
        assert len(part.classes) == len(set(part.classes)) == len(part)
    assert not set(training.classes) & set(validation.classes)
    distinct = {image.tobytes() for part in (training, validation) for image in part.images}
    assert len(distinct) == 8


def test_without_labels_splits_still_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_images(tmp_path / "d" / "train", 5, rng)
    write_images(tmp_path / "d" / "val" / "deep", 3, rng)
    write_images(tmp_path / "d" / "test", 4, rng)
    training, validation = split_class_per_image(tmp_path / "d")
    assert (len(training), len(validation)) == (5, 3)
    # An image beside the folders means that they are not splits.
    Image.new("RGB", (8, 8)).save(tmp_path / "d" / "cover.png")
    training, validation = split_class_per_image(tmp_path / "d", share=0.5)
    assert len(training) + len(validation) == 13


def test_without_labels_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        split_class_per_image(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="There are no images in"):
        split_class_per_image(tmp_path / "empty")
    write_images(tmp_path / "d", 3, np.random.default_rng(0))
    with pytest.raises(DataError, match="There are 3 classes"):
        split_class_per_image(tmp_path / "d")


def test_one_class_or_one_image_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="“b” has one usable"):
        split(marked(tmp_path / "x", train={"a": 3, "b": 1}, val={"a": 3, "b": 3}))
    with pytest.raises(DataError, match="only one class"):
        split(marked(tmp_path / "y", train={"a": 3}, val={"a": 3}))
    with pytest.raises(DataError, match="only one class to train on"):
        split(marked(tmp_path / "z", train={"a": 3}, val={"b": 3}), by="class")
    with pytest.raises(DataError, match="fewer than two photos"):
        split(marked(tmp_path / "w", train={"a": 3, "b": 3}, val={"b": 1}), by="class")


# ---- sources


def test_a_source_without_a_kind_is_a_folder_and_digits_are_class_names() -> None:
    read = TypeAdapter[datasets.Source](datasets.Source)
    source = read.validate_python({"path": "x", "classes": [0, 1], "split": "val"})
    assert source == FolderSource(path=Path("x"), classes=("0", "1"), split="validation")
    assert read.validate_python(source) is source
    for wrong in ({"kind": "zip", "path": "x"}, {"path": "x", "split": "dev"}, {"path": "x", "limit": 0}, {}, 3):
        with pytest.raises(ValidationError):
            read.validate_python(wrong)


def test_a_source_is_inferred_from_its_path(tmp_path: Path) -> None:
    assert datasets.infer_source(tmp_path, limit=3) == FolderSource(path=tmp_path, limit=3)
    for name, kind in (("a.CSV", CsvSource), ("b.npz", NpzSource)):
        (tmp_path / name).touch()
        assert datasets.infer_source(tmp_path / name, split="test") == kind(path=tmp_path / name, split="test")
    (tmp_path / "c.zip").touch()
    with pytest.raises(DataError, match=r"not a folder, \.csv or \.npz"):
        datasets.infer_source(tmp_path / "c.zip")
    with pytest.raises(NotFoundError):
        datasets.infer_source(tmp_path / "d.npz")
    with pytest.raises(UsageError, match="split: “dev” is not a split"):
        datasets.infer_source(tmp_path, split="dev")
    with pytest.raises(UsageError, match="images"):
        datasets.infer_source(tmp_path, images="x")


def test_a_recipe_makes_all_paths_absolute() -> None:
    sources = [
        {"path": "a", "sketches": "b"},
        {"kind": "csv", "path": "c.csv"},
        {"kind": "npz", "path": "d.npz", "images": "x"},
        {"kind": "toyshop", "count": 32, "seed": 1},
    ]
    data = recipe.Data.model_validate({"sources": sources, "size": 8})
    folder, table, array, shop = data.absolute().sources
    assert (folder.path, folder.sketches) == (Path.cwd() / "a", Path.cwd() / "b")  # type: ignore[union-attr]
    assert (table.path, array.path) == (Path.cwd() / "c.csv", Path.cwd() / "d.npz")  # type: ignore[union-attr]
    assert shop == data.sources[3]
    assert data.has_sketches
    assert not recipe.Data.model_validate({"sources": sources[1:], "size": 8}).has_sketches


def test_every_field_of_every_source_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "datasets.md").read_text(encoding="utf-8")
    sources = (FolderSource, CsvSource, NpzSource, ToyShopSource)
    assert {model.model_fields["kind"].annotation.__args__[0] for model in sources} == set(datasets.LAYOUTS)  # type: ignore[union-attr]
    for model in sources:
        section = text.split(f"## `{model.model_fields['kind'].annotation.__args__[0]}`")[1].split("\n## ")[0]  # type: ignore[union-attr]
        shared = text.split("## Keys of all sources")[1]
        for name in model.model_fields:
            assert f"`{name}`" in section + shared or f"`{name}:" in section, f"{model.__name__}.{name}"


# ---- checking


def command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["datasets", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit | LookalikeError)
    return result.exit_code, result.output


def test_a_good_dataset_is_counted_and_has_no_problems(tmp_path: Path) -> None:
    splits(tmp_path, train={"a": 2, "b": 5, "c": 3}, test={"a": 2, "b": 2, "c": 2})
    code, text = command(tmp_path, "--json")
    (result,) = json.loads(text)
    assert code == 0
    assert result["splits"][0] == {
        "split": "train",
        "photos": 10,
        "sketches": 0,
        "classes": 3,
        "fewest": {"class": "a", "photos": 2},
        "median": 3.0,
        "most": {"class": "b", "photos": 5},
    }
    assert result["sizes"] == [{"width": 8, "height": 8, "images": 16}]
    assert result["problems"] == result["broken"] == result["leaks"] == result["notes"] == []
    code, text = command(tmp_path)
    assert code == 0
    assert "No problems found." in text
    assert command(tmp_path, "--split", "test", "--json")[1].count('"split":') == 1


def test_problems_are_listed_and_the_exit_code_is_1(tmp_path: Path) -> None:
    splits(tmp_path, train={"a": 2, "b": 2, "c": 1}, test={"a": 2, "b": 2})
    (tmp_path / "test" / "a" / "copy.png").write_bytes((tmp_path / "train" / "a" / "0.png").read_bytes())
    (tmp_path / "test" / "b" / "copy.png").write_bytes((tmp_path / "train" / "a" / "0.png").read_bytes())
    (tmp_path / "train" / "b" / "1.png").write_bytes(b"GIF89a")
    code, text = command(tmp_path, "--json")
    (result,) = json.loads(text)
    assert code == 1
    assert [[Path(p).relative_to(tmp_path).as_posix() for p in pair] for pair in result["leaks"]] == [
        ["test/a/copy.png", "train/a/0.png"]
    ]
    assert len(result["broken"]) == 1
    problems = " ".join(result["problems"])
    assert "Unusable images, which are left out: 1" in problems
    assert "in two splits: 1" in problems
    assert "one usable image to train on: “b”, “c”" in problems
    assert "test lacks c" in problems
    assert result["notes"] == ["Identical copies of other images: 2; images in several classes: 1."]
    code, text = command(tmp_path)
    assert code == 1
    assert "identical: " in text


def test_splits_without_a_common_class_are_not_a_problem(tmp_path: Path) -> None:
    splits(tmp_path, train={"a": 2, "b": 2}, test={"c": 2, "d": 2})
    result = datasets.check(FolderSource(path=tmp_path))
    assert result.problems == ()
    assert "validation_by: class" in result.notes[0]


def test_an_unreadable_path_does_not_stop_the_check_of_the_others(tmp_path: Path) -> None:
    splits(tmp_path / "good", train={"a": 2, "b": 2})
    code, text = command(tmp_path / "none", tmp_path / "good", "--json")
    assert code == 1
    none, good = json.loads(text)
    assert "There is no folder and no file" in none["problems"][0]
    assert good["problems"] == []


def test_arrays_and_the_toy_shop_are_checked_too(tmp_path: Path) -> None:
    x = grey(2, 8, 9)
    source = saved(tmp_path, x_train=x, y_train=[0, 0], x_test=x[::-1], y_test=[0, 0])
    result = datasets.check(source)
    assert result.sizes == {(9, 8): 4}
    assert len(result.leaks) == 2
    assert result.leaks[0][0].endswith("x_train[0]")
    assert result.leaks[0][1].endswith("x_test[1]")
    assert "only one class" in result.problems[1]
    shop = datasets.check(ToyShopSource(kind="toyshop", count=64, seed=1, sketches=1))
    assert (shop.splits[0].photos, shop.splits[0].sketches, shop.problems) == (64, 64, ())


def test_without_a_path_the_layouts_are_listed() -> None:
    code, text = command()
    assert code == 0
    assert all(f"{kind}: " in text for kind in datasets.LAYOUTS)
    assert [entry["kind"] for entry in json.loads(command("--json")[1])] == list(datasets.LAYOUTS)


# ---- real data


def real(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is missing; set LOOKALIKE_DATA to its folder")
    return DATA / name


def test_mnist_is_read() -> None:
    dataset = datasets.open_dataset(datasets.infer_source(real("mnist.npz"), limit=5))
    assert dataset.classes == tuple("0123456789")
    assert len(dataset) == 100
    assert datasets.decode(dataset, 28, "squash", NoNotes()).images.shape == (100, 28, 28, 3)


def test_omniglot_is_read_and_its_classes_held_out_whole() -> None:
    source = datasets.infer_source(real("omniglot_background.npz"), limit=2)
    training, validation = split(source, by="class", share=0.1)
    assert (len(training.classes), len(validation.classes)) == (868, 96)
    assert len(training) == 2 * 868


def test_a_table_of_another_layout_is_refused_with_its_columns() -> None:
    with pytest.raises(DataError, match=r"no column “path” and no column “label”; its first line has file, title"):
        datasets.open_dataset(datasets.infer_source(real("fashion-60.csv")))
