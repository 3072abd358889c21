"""The distance of chance, and what answers say of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike import chance, sample
from lookalike.collection import Collection
from lookalike.encoders.card import Calibration
from lookalike.metric import Metric


def calibration(**distances: float) -> Calibration:
    """Even odds at 1.0, for equal priors."""
    return Calibration(
        distance_at_false_accept_rate={"0.001": 0.3, **distances},
        metric=Metric.EUCLIDEAN,
        knots=((0.0, 1.0), (2.0, 0.0)),
    )


def test_it_is_the_distance_within_which_almost_every_item_has_another() -> None:
    line = np.arange(1000, dtype=np.float32)[:, None] * np.array([[0.5, 0]], np.float32)
    assert chance.chance_distance(line, Metric.EUCLIDEAN) == pytest.approx(0.5)
    line[::50] += np.array([0, 40], np.float32)  # one in fifty lies apart
    assert (chance.chance_distance(line, Metric.EUCLIDEAN) or 0) > 20


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
def test_too_few_items_and_items_that_are_all_alike_have_none(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    assert chance.chance_distance(rng.normal(size=(chance.MIN_ITEMS - 1, 4)).astype(np.float32), metric) is None
    assert chance.chance_distance(np.ones((200, 4), np.float32), metric) is None
    assert chance.chance_distance(np.empty((0, 4), np.float32), metric) is None


def test_bits_have_one() -> None:
    codes = np.random.default_rng(0).integers(0, 256, (300, 8), np.uint8)
    assert 8 < (chance.chance_distance(codes, Metric.HAMMING) or 0) < 32


def test_a_calibration_shortens_it_the_more_the_rarer_the_same_is() -> None:
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(2000, 8)).astype(np.float32) * 10
    alone = chance.chance_distance(apart, Metric.EUCLIDEAN)
    assert alone is not None
    assert alone > 2
    rare = chance.chance_distance(apart, Metric.EUCLIDEAN, calibration())  # of one pair in 2,000
    assert rare is not None
    assert rare == pytest.approx(2 / 2000, abs=0.01)
    classes = np.repeat(apart[:4], 500, axis=0) + rng.normal(size=(2000, 8)).astype(np.float32) * 0.001
    common = chance.chance_distance(np.concatenate([classes, apart]), Metric.EUCLIDEAN, calibration())
    assert common is not None
    assert rare < common < 0.5
    few = chance.chance_distance(apart[:2], Metric.EUCLIDEAN, calibration())
    assert few == pytest.approx(1, abs=0.01)


def test_a_file_of_the_cache_is_read_only_if_it_is_of_the_same_vectors(tmp_path: Path) -> None:
    path = tmp_path / "chance.json"
    assert chance.load(path, "a") is None
    chance.save(path, "a", 0.5)
    assert chance.load(path, "a") == 0.5
    assert chance.load(path, "b") is None
    for text in ("", "[1]", '{"a": -1.0}', '{"a": 1e999}', '{"a": "0.5"}', '{"a": ' + "9" * 200 + "}", "[" * 9000):
        path.write_text(text)
        assert chance.load(path, "a") is None
    chance.save(tmp_path / "no folder" / "chance.json", "a", 0.5)  # is not an error


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    collection = Collection.create(tmp_path_factory.mktemp("chance") / "shop", "toyshop")
    collection.add([product.photo(96) for product in sample.catalogue(320, 5)])
    return collection


def test_noise_matches_nothing_and_products_do(shop: Collection) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    answer = shop.search(noise, k=1)
    assert (answer.no_match, answer[0].closeness) == (True, 0)
    product = sample.catalogue(40, 9)[3]
    answer = shop.search(product.photo())
    assert answer.no_match is False
    assert 0 < (answer[0].closeness or 0) < 1
    assert [hit.closeness for hit in answer] == sorted((hit.closeness for hit in answer), reverse=True)  # type: ignore[type-var]
    assert shop.search(product.sketch(), sketch=True).no_match is False
    assert shop.search(Image.new("RGB", (64, 64), "green"), sketch=True).no_match is not None
    assert shop.search(item=shop.search(noise, k=1)[0].item.id).no_match is False


def test_it_is_unknown_without_the_nearest_hit_and_follows_the_items(shop: Collection) -> None:
    image = sample.catalogue(40, 9)[3].photo()
    assert shop.search(image, within=(0.4, 2)).no_match is None
    assert shop.search(image, within=0).no_match is None  # nothing is found
    assert (shop.folder.cache / "chance.json").exists()
    small = shop.path.parent / "small"
    with Collection.create(small, "toyshop") as collection:
        collection.add_image(shop.folder.file(next(iter(shop))).read_bytes())
        answer = collection.search(image)
        assert (answer.no_match, answer[0].closeness) == (None, None)
