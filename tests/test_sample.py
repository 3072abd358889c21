"""The toy shop: products, photos, sketches and files."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lookalike.errors import UsageError
from lookalike.sample import CLASSES, Product, catalogue, write
from lookalike.sample.kinds import KINDS
from lookalike.sample.shop import _scene
from recorder import Recorder


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


def bounds(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()])


def every_style() -> list[Product]:
    products = {(p.label, p.attributes["style"]): p for p in catalogue(40 * len(CLASSES))}
    return list(products.values())


def test_a_catalogue_is_balanced_and_its_ids_are_unique() -> None:
    items = catalogue(2 * len(CLASSES) + 3)
    assert [item.label for item in items] == [CLASSES[i % len(CLASSES)] for i in range(len(items))]
    assert len({item.id for item in items}) == len(items)
    assert max(Counter(item.label for item in items).values()) == 3
    assert items[len(CLASSES)].id == f"{CLASSES[0]}-0001"


def test_classes_are_plain_names() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 32
    assert all(set(label) <= set("abcdefghijklmnopqrstuvwxyz-") for label in CLASSES)


def test_the_first_items_of_a_larger_catalogue_are_the_same() -> None:
    assert catalogue(10) == catalogue(50)[:10]
    assert catalogue(10, seed=1) != catalogue(10, seed=2)


def test_products_can_be_kept_in_a_set() -> None:
    assert len({*catalogue(4), *catalogue(6)}) == 6


def test_titles_name_the_attributes() -> None:
    for item in catalogue(200):
        assert item.title.lower().startswith(item.attributes["colour"])
        assert item.title.endswith(item.label)
        assert ("striped" in item.title) == (item.attributes["pattern"] == "stripes")


def test_images_depend_on_the_seed_alone() -> None:
    first, again = catalogue(len(CLASSES))[5], catalogue(len(CLASSES))[5]
    sketch = first.sketch(variant=2, size=96)
    photo = first.photo(96)
    assert np.array_equal(pixels(again.photo(96)), pixels(photo))
    assert np.array_equal(pixels(again.sketch(2, 96)), pixels(sketch))
    assert np.array_equal(pixels(first.photo(96)), pixels(photo))


@pytest.mark.parametrize("size", [16, 63, 64, 200, 256])
def test_images_have_the_requested_size(size: int) -> None:
    item = catalogue(1)[0]
    for image in (item.photo(size), item.sketch(0, size)):
        assert image.size == (size, size)
        assert image.mode == "RGB"


def test_a_small_photo_shows_the_same_as_a_large_one() -> None:
    for item in catalogue(8):
        reduced = pixels(item.photo(256).reduce(4)).astype(int)
        assert np.abs(reduced - pixels(item.photo(64))).mean() < 4


def test_every_style_of_every_class_is_drawn_within_the_frame() -> None:
    styles = every_style()
    assert {(p.label, p.attributes["style"]) for p in styles} == {
        (k, s) for k, kind in KINDS.items() for s in kind.styles
    }
    for item in styles:
        scene = _scene(item)
        placed = np.concatenate([scene.pose.place(part.outline) for part in scene.parts if part.role != "glow"])
        assert placed.min() > 0.03, item
        assert placed.max() < 0.97, item
        assert float(np.ptp(placed, axis=0).max()) > 0.6, item


def test_items_of_a_class_differ_in_photo_and_sketch() -> None:
    for label in CLASSES[::4]:
        items = [item for item in catalogue(5 * len(CLASSES)) if item.label == label]
        for drawings in ([item.photo(48) for item in items], [item.sketch(0, 48) for item in items]):
            drawn = [pixels(image).astype(int) for image in drawings]
            for i, one in enumerate(drawn):
                assert all(np.abs(one - other).mean() > 2 for other in drawn[:i])


def test_a_sketch_is_dark_strokes_on_white() -> None:
    for item in catalogue(len(CLASSES)):
        grey = pixels(item.sketch(1, 128))
        assert (grey > 250).all(axis=2).mean() > 0.55, item
        assert 0.005 < (grey < 128).all(axis=2).mean() < 0.35, item
        assert (grey[..., 0] == grey[..., 1]).all()
        assert (grey[0] == 255).all(), "ink at the edge of the paper"
        assert (grey[:, 0] == 255).all(), "ink at the edge of the paper"


def test_a_sketch_shows_the_product_where_the_photo_does() -> None:
    for item in catalogue(len(CLASSES)):
        scene = _scene(item)
        solid = [part for part in scene.parts if part.role in ("body", "trim")]
        placed = np.concatenate([scene.pose.place(part.outline) for part in solid]) * 128
        expected = np.concatenate([placed.min(axis=0), placed.max(axis=0)])
        for variant in range(2):
            ink = bounds(pixels(item.sketch(variant, 128))[..., 0] < 128)
            assert np.abs(ink - expected).max() < 0.12 * 128, item


def test_variants_are_different_hands() -> None:
    item = catalogue(20)[-1]
    sketches = [pixels(item.sketch(variant, 64)).astype(int) for variant in range(4)]
    assert all(np.abs(a - b).mean() > 1 for i, a in enumerate(sketches) for b in sketches[:i])


def test_written_files_match_the_catalogue(tmp_path: Path) -> None:
    progress = Recorder()
    items = write(tmp_path, count=6, seed=4, progress=progress)
    assert progress.reports[-1][:3] == ("drawing", 6, 6)
    assert items == catalogue(6, 4)
    with (tmp_path / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "title", "colour", "pattern", "style"]
    for item, row in zip(items, rows, strict=True):
        assert (row["label"], row["title"], row["colour"]) == (item.label, item.title, item.attributes["colour"])
        with Image.open(tmp_path / row["path"]) as photo:
            assert np.abs(pixels(photo).astype(int) - pixels(item.photo())).mean() < 3
        with Image.open(tmp_path / "sketches" / item.label / f"{item.id}.png") as sketch:
            assert np.array_equal(pixels(sketch.convert("RGB")), pixels(item.sketch()))


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, count=3)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 7
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_invalid_arguments_are_refused(tmp_path: Path) -> None:
    item = catalogue(1)[0]
    for call in (
        lambda: catalogue(0),
        lambda: catalogue(1, seed=-1),
        lambda: write(tmp_path, count=0),
        lambda: item.photo(15),
        lambda: item.sketch(0, 15),
        lambda: item.sketch(-1),
    ):
        with pytest.raises(UsageError):
            call()
