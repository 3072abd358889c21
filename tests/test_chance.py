"""The distance of chance, and what answers say of it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike import sample
from lookalike.chance import MIN_ITEMS, Chance, load, save
from lookalike.collection import Collection
from lookalike.encoders.card import Calibration, write_calibration
from lookalike.evaluation.calibration import fit
from lookalike.metric import Metric
from lookalike.search import knn
from lookalike.search_options import to_query


def calibration(**distances: float) -> Calibration:
    """Even odds at 1.0, for equal priors, in a card of an early version."""
    return Calibration(
        distance_at_false_accept_rate={"0.001": 0.3, **distances},
        metric=Metric.EUCLIDEAN,
        knots=((0.0, 1.0), (2.0, 0.0)),
    )


def test_it_refuses_hardly_any_item_of_the_collection() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 8)).astype(np.float32)
    chance = Chance.of(vectors, Metric.EUCLIDEAN)
    assert chance is not None
    found = knn(vectors, vectors, 11, Metric.EUCLIDEAN).distances.reshape(len(vectors), -1)[:, 1:]
    assert 0.001 < np.mean([chance.no_match(row) for row in found.tolist()]) < 0.02
    far = rng.normal(size=(100, 8)).astype(np.float32) * 4
    found = knn(far, vectors, 10, Metric.EUCLIDEAN).distances.reshape(len(far), -1)
    assert np.mean([chance.no_match(row) for row in found.tolist()]) > 0.9


def test_a_stranger_beside_one_odd_item_matches_nothing_and_a_copy_of_that_item_does() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 8)).astype(np.float32)
    vectors[1] = 9
    chance = Chance.of(vectors, Metric.EUCLIDEAN)
    assert chance is not None
    away = float(np.median(np.linalg.norm(vectors - vectors[1], axis=1)))
    assert chance.no_match([0.99 * chance.nearest, *[away] * 9])
    assert not chance.no_match([0.5 * chance.usual, *[away] * 9])
    assert not chance.no_match([0.99 * chance.nearest])


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
def test_too_few_items_and_items_that_are_all_alike_have_none(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    assert Chance.of(rng.normal(size=(MIN_ITEMS - 1, 4)).astype(np.float32), metric) is None
    assert Chance.of(np.ones((200, 4), np.float32), metric) is None
    assert Chance.of(np.empty((0, 4), np.float32), metric) is None


def test_bits_have_one() -> None:
    chance = Chance.of(np.random.default_rng(0).integers(0, 256, (300, 8), np.uint8), Metric.HAMMING)
    assert chance is not None
    assert 8 < chance.nearest < 32


def test_a_calibration_that_is_never_sure_enough_does_not_shorten_it() -> None:
    vectors = np.random.default_rng(0).normal(size=(5_000, 8)).astype(np.float32)
    unsure = calibration().model_copy(update={"kind": "copies", "knots": ((0.0, 0.99), (2.0, 0.0))})
    without, chance = (Chance.of(vectors, Metric.EUCLIDEAN, known) for known in (None, unsure))
    assert without is not None
    assert chance is not None
    assert chance.nearest == without.nearest
    assert chance.closeness([0.0, 1e9], Metric.EUCLIDEAN) == [1, 0]


def test_vectors_of_length_1_are_as_close_by_euclidean_as_by_cosine_distance() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for metric in (Metric.EUCLIDEAN, Metric.COSINE):
        chance = Chance.of(vectors, metric)
        assert chance is not None
        found.append(chance.closeness(knn(vectors[:1], vectors, 20, metric).distances.tolist(), metric))
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert found[0][0] == pytest.approx(1, abs=1e-5)
    assert len({round(one, 3) for one in found[0]}) > 3


def test_a_calibration_on_copies_shortens_it_the_more_the_rarer_they_are() -> None:
    copies = calibration().model_copy(update={"kind": "copies"})
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(2000, 8)).astype(np.float32) * 10

    def nearest(vectors: np.ndarray, known: Calibration | None = None) -> float:
        chance = Chance.of(vectors, Metric.EUCLIDEAN, known)
        assert chance is not None
        assert chance.usual <= chance.nearest
        return chance.nearest

    assert nearest(apart) > 2
    assert nearest(apart, calibration()) == nearest(apart)  # one on classes says nothing about enough items
    rare = nearest(apart, copies)  # of one pair in 2,000
    assert rare == pytest.approx(2 / 2000, abs=0.01)
    classes = np.repeat(apart[:4], 500, axis=0) + rng.normal(size=(2000, 8)).astype(np.float32) * 0.001
    assert rare < nearest(np.concatenate([classes, apart]), copies) < 0.5
    for known in (copies, calibration()):
        assert nearest(apart[:2], known) == pytest.approx(1, abs=0.01)


def test_a_file_of_the_cache_is_read_only_if_it_is_of_the_same_vectors(tmp_path: Path) -> None:
    path = tmp_path / "chance.json"
    assert load(path, "a") is None
    save(path, "a", Chance(0.5, 0.25, 0.75))
    assert load(path, "a") == Chance(0.5, 0.25, 0.75)
    assert load(path, "b") is None
    save(path, "a", Chance(0.5, 0.25))
    again = load(path, "a")
    assert again is not None
    assert again.tenth > 1e30
    values = [f"[{first}, {usual}, 1, true]" for first, usual in (
        (-1, 1), ('"x"', 1), ("[]", 1), ("null", 1), ("1e999", 1), (1, 2)
    )]  # fmt: skip
    values += ["1", "[1, 1]", "[1, 1, 1]", "[1, 1, 1, 1]", "[1, 1, 1, null]", "9" * 200]
    for text in ("", "[1]", "[" * 9000, *(f'{{"a": {value}}}' for value in values)):
        path.write_text(text)
        assert load(path, "a") is None
    save(tmp_path / "no folder" / "chance.json", "a", Chance(1, 1))  # is not an error


def near_and_far(rng: np.random.Generator, groups: int) -> np.ndarray:
    """Draw 240 points: those of a group are near each other."""
    centres = np.repeat(rng.normal(size=(groups, 32)), 240 // groups, axis=0)
    return (centres + rng.normal(size=(240, 32)) * 0.3).astype(np.float32)


def fitted(vectors: np.ndarray, groups: int) -> Calibration:
    labels = np.repeat(np.arange(groups), 240 // groups)
    left, right = np.triu_indices(len(vectors), 1)
    distances = np.linalg.norm(vectors[left] - vectors[right], axis=1)
    return fit(distances, labels[left] == labels[right], Metric.EUCLIDEAN, "test")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [8, 20, 60, 240])
def test_a_calibration_holds_for_images_like_its_own_whatever_share_is_the_same(groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = fitted(near_and_far(rng, 20), 20)
    vectors = rng.permutation(near_and_far(rng, groups))
    for scale, holds in ((1, True), (0.5, False)):
        chance = Chance.of(vectors * np.float32(scale), Metric.EUCLIDEAN, known)
        assert chance is not None
        assert chance.calibration_holds is holds
    few = Chance.of(vectors[:19], Metric.EUCLIDEAN, known)  # too few to check
    assert few is None or not few.calibration_holds


def test_hits_have_no_probability_if_the_calibration_does_not_hold(tmp_path: Path) -> None:
    collection = Collection.create(tmp_path / "shop", "copies")  # it knows photos, and not drawn products on white
    photos = [product.photo(96) for product in sample.catalogue(MIN_ITEMS, 5)]
    collection.add(photos[:-1])
    few = collection.search(photos[0], k=3).hits
    assert [(hit.probability, hit.closeness) for hit in few] == [(None, None)] * 3
    collection.add(photos[-1:])
    many = collection.search(photos[0], k=3).hits
    assert [hit.probability for hit in many] == [None] * 3
    assert many[0].closeness == 1


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    collection = Collection.create(tmp_path_factory.mktemp("chance") / "shop", "toyshop")
    collection.add([product.photo(96) for product in sample.catalogue(320, 5)])
    return collection


def test_noise_matches_nothing_and_products_do(shop: Collection) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    for k in (1, 10, 20):
        answer = shop.search(noise, k=k)
        assert (answer.no_match, answer[0].closeness, len(answer)) == (True, 0, k)
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


def test_without_a_match_no_hit_has_a_probability(shop: Collection, tmp_path: Path) -> None:
    shutil.copytree(shop.path, tmp_path / "shop.lookalike")
    fitted = calibration().model_copy(update={"knots": ((0.0, 0.9999), (1.9, 0.9999), (2.0, 0.0))})
    write_calibration(tmp_path / "shop.lookalike" / "encoder", fitted)
    shop = Collection.open(tmp_path / "shop")
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    answer = shop.search(noise)
    assert answer.no_match
    assert {hit.probability for hit in answer} == {None}
    assert "%" not in str(answer) + str(answer.table(lambda hit: hit.item.id))
    query = to_query({"within": 9, "limit": 3}, shop.embedder)
    query = replace(query, images=[Image.fromarray(noise)])
    (first,) = shop.answer(query)
    rest = shop.answer_after(query, (first[-1].distance, first[-1].item.id))
    parts = list(shop.stream(query))
    assert {hit.probability for part in (first, rest, *parts) for hit in part} == {None}
    query = replace(query, images=[sample.catalogue(40, 9)[3].photo()])
    (first,) = shop.answer(query)
    rest = shop.answer_after(query, (first[-1].distance, first[-1].item.id))
    assert None not in {hit.probability for part in (first, rest, *shop.stream(query)) for hit in part}
