"""Formats on disk stay readable: a collection that version 0.1 wrote is opened, searched and changed.

``stored/collection-v1`` is a collection of format 1: four images that were added as bytes, an encoder of mean colours, a
budget that `tune` set, and a decision that two images are distinct.
"""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from lookalike.collection import Collection
from lookalike.duplicates import decisions
from lookalike.metric import Metric

STORED = Path(__file__).parent / "stored" / "collection-v1"
RED, ORANGE, BLUE, GREEN = (
    "1611f2ca4bdae9161f78",
    "056b2b96be572a69c56f",
    "66a19c981604c71ef790",
    "a3efdcbb5c39bdac2962",
)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    path = shutil.copytree(STORED, tmp_path / "collection-v1.lookalike")
    with Collection.open(path) as collection:
        yield collection


def test_a_stored_collection_has_its_items_and_settings(collection: Collection) -> None:
    assert collection.store.space.metric is Metric.EUCLIDEAN
    assert collection.store.space.dimension == 48
    items = {item.id: item for item in collection.store.scan()}
    assert {i: item.attributes["colour"] for i, item in items.items()} == {
        RED: "red",
        ORANGE: "orange",
        BLUE: "blue",
        GREEN: "green",
    }
    assert collection.store.labels() == {"cold": 2, "warm": 2}
    assert all(collection.folder.file(item).is_file() for item in items.values())
    status = collection.status()
    assert status is not None
    assert status.settings.budget == 20
    digests = {collection.get(RED).sha256, collection.get(ORANGE).sha256}
    assert [{*pair} for pair in decisions.read(collection)] == [digests]


def test_a_stored_collection_is_searched_with_the_same_distances(collection: Collection) -> None:
    answer = collection.search(item=ORANGE, k=2)
    assert [hit.item.id for hit in answer] == [RED, GREEN]
    assert [hit.distance for hit in answer] == pytest.approx([0.33765820, 0.69514304], abs=1e-7)
    data = collection.folder.file(collection.get(BLUE)).read_bytes()
    nearest = collection.search(data, k=1)[0]
    assert nearest.item.id == BLUE
    assert nearest.distance == pytest.approx(0, abs=1e-5)


def test_images_are_added_to_and_removed_from_a_stored_collection(collection: Collection) -> None:
    image = io.BytesIO()
    Image.new("RGB", (24, 24), (205, 45, 45)).save(image, "PNG")
    added = collection.add_image(image.getvalue(), "warm")
    assert next(iter(collection.search(item=added.id, k=1))).item.id == RED
    file = collection.folder.file(collection.get(RED))
    assert collection.remove([RED]) == 1
    assert not file.exists()
    with Collection.open(collection.folder.path) as reopened:
        assert {item.id for item in reopened.store.scan()} == {ORANGE, BLUE, GREEN, added.id}
        assert next(iter(reopened.search(item=added.id, k=1))).item.id == ORANGE
