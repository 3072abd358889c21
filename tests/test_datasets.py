"""Labelled pictures: what is read, what is held out, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike import datasets
from lookalike.datasets import FolderSource, Report, Samples, ToyShopSource
from lookalike.errors import DataError


def pictures(folder: Path, count: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")


def load(path: Path, sketches: Path | None = None, report: Report = print) -> Samples:
    return datasets.load([FolderSource(path=path, sketches=sketches)], 8, "squash", report)


def test_folders_of_classes_are_read_and_a_broken_picture_is_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures(tmp_path / "d" / "ant", 3, rng)
    pictures(tmp_path / "d" / "bee", 2, rng)
    (tmp_path / "d" / "bee" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    said: list[str] = []
    samples = load(tmp_path / "d", report=said.append)
    assert samples.classes == ("ant", "bee")
    assert samples.labels.tolist() == [0, 0, 0, 1, 1]
    assert len(said) == 1
    assert "broken.png" in said[0]
    first = np.asarray(Image.open(tmp_path / "d" / "ant" / "0.png"))
    assert np.array_equal(samples.images[0], first)


def test_a_sketch_belongs_to_the_photo_that_its_name_begins_with(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        pictures(tmp_path / "photo" / name, 2, rng)
    (tmp_path / "sketch" / "bee").mkdir(parents=True)
    for name in ("0", "1-3", "stranger"):
        Image.new("RGB", (8, 8)).save(tmp_path / "sketch" / "bee" / f"{name}.png")
    samples = load(tmp_path / "photo", tmp_path / "sketch")
    assert samples.items.tolist()[:4] == [0, 1, 2, 3]
    assert samples.items.tolist()[4:6] == [2, 3]  # "0" and "1-3" show bees 0 and 1
    assert samples.items.tolist()[6] not in (0, 1, 2, 3)
    assert samples.sketch.tolist() == [False] * 4 + [True] * 3


def test_data_that_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="no folder"):
        load(tmp_path / "none")
    pictures(tmp_path / "one" / "ant", 3, rng)
    with pytest.raises(DataError, match="one class only"):
        load(tmp_path / "one")
    (tmp_path / "one" / "bee").mkdir()
    with pytest.raises(DataError, match="no pictures: bee"):
        load(tmp_path / "one")
    pictures(tmp_path / "few" / "ant", 1, rng)
    pictures(tmp_path / "few" / "bee", 3, rng)
    with pytest.raises(DataError, match="“ant” has 1 usable"):
        datasets.hold_out(load(tmp_path / "few"), 0.5, 0)
    pictures(tmp_path / "small" / "ant", 2, rng)
    pictures(tmp_path / "small" / "bee", 2, rng)
    with pytest.raises(DataError, match="fewer than two photos"):
        datasets.hold_out(load(tmp_path / "small"), 0.5, 0)


def shop(count: int = 96, sketches: int = 2) -> Samples:
    source = ToyShopSource(kind="toyshop", count=count, seed=3, sketches=sketches)
    return datasets.load([source], 16, "squash", print)


def test_a_split_keeps_an_item_and_its_sketches_together_and_every_class_on_both_sides() -> None:
    samples = shop()
    training, validation = datasets.hold_out(samples, 0.34, 1)
    assert not set(training.items) & set(validation.items)
    assert len(training) + len(validation) == len(samples)
    assert set(training.labels) == set(validation.labels) == set(samples.labels)
    again, _ = datasets.hold_out(samples, 0.34, 1)
    assert np.array_equal(again.items, training.items)


def test_sources_stand_side_by_side() -> None:
    source = ToyShopSource(kind="toyshop", count=64, seed=1)
    two = datasets.load([source, source], 16, "squash", print)
    assert len(two.classes) == 64
    assert two.labels.tolist()[64:] == (two.labels[:64] + 32).tolist()
    assert len(set(two.items.tolist())) == 128


def test_classes_held_out_are_whole_and_each_side_has_its_own() -> None:
    samples = shop()
    training, validation = datasets.hold_out(samples, 0.25, 1, "class")
    assert len(validation.classes) == 8
    assert set(training.classes) | set(validation.classes) == set(samples.classes)
    assert not set(training.classes) & set(validation.classes)
    assert set(training.labels.tolist()) == set(range(24))
    names = np.asarray(samples.classes)[samples.labels]
    for part in (training, validation):
        kept = np.isin(names, part.classes)
        assert np.array_equal(np.asarray(part.classes)[part.labels], names[kept])
        assert np.array_equal(part.images, samples.images[kept])
