"""Verify, classify and calibrate, with and without a collection."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import image_files
import pocket_encoder
from lookalike import compare, encoders, images, metric, sample
from lookalike.codecs import NoCodec
from lookalike.collection import Collection, Entry
from lookalike.compare import RankedClass, Ranking, find_threshold, rank_classes, rank_examples
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration
from lookalike.errors import DataError, UnreadableImageError, UsageError
from lookalike.evaluation.fewshot import ClassifyBy
from lookalike.evaluation.labels import LabelledVectors
from lookalike.metric import Metric
from lookalike.query import Branch, Filter


@pytest.fixture
def plain(pocket: Path) -> Embedder:
    return Embedder.of(Encoder.open(pocket))


@pytest.fixture
def calibrated(pocket: Path, tmp_path: Path) -> Embedder:
    folder = pocket_encoder.calibrated(Path(shutil.copytree(pocket, tmp_path / "calibrated")))
    return Embedder.of(Encoder.open(folder))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    names = {f"{label}/{i}.png": 10 * i + len(label) for label in ("cat", "dog!", "horse") for i in range(4)}
    image_files.write(tmp_path / "photos", names)
    return tmp_path / "photos"


@pytest.fixture
def zoo(tmp_path: Path, photos: Path, calibrated: Embedder) -> Iterator[Collection]:
    with Collection.create(tmp_path / "zoo.lookalike", calibrated.encoder) as zoo:
        zoo.add(photos, labels="folder")
        image_files.write(tmp_path, {"stray.png": 0})
        zoo.add([Entry(tmp_path / "stray.png")])
        yield zoo


def classes(photos: Path) -> dict[str, list[Path]]:
    return {folder.name: sorted(folder.iterdir()) for folder in sorted(photos.iterdir())}


# ---- verify


def test_a_verdict_has_the_distance_of_a_search_and_follows_the_threshold(zoo: Collection, photos: Path) -> None:
    a, b = photos / "cat" / "1.png", photos / "horse" / "2.png"
    answer = zoo.search(a, k=100)
    (hit,) = (hit for hit in answer.hits if hit.item.uri == str(b))
    for verdict in (compare.verify(zoo.embedder, a, b, 0.4), zoo.verify(a, b)):
        assert (verdict.distance, verdict.probability) == (hit.distance, hit.probability)
        assert verdict.similarity == pytest.approx(hit.similarity)
        assert verdict.threshold == 0.4
        assert verdict.same is (hit.distance <= 0.4)
    assert compare.verify(zoo.embedder, a, b, threshold=hit.distance).same is True
    assert compare.verify(zoo.embedder, a, b, threshold=hit.distance * 0.999).same is False
    itself = compare.verify(zoo.embedder, a, a.read_bytes(), find_threshold(zoo.embedder, None, 0.01))
    assert (itself.distance, itself.similarity, itself.probability, itself.threshold, itself.same) == (
        0,
        1,
        1,
        0.25,
        True,
    )


def test_without_calibration_there_is_a_distance_and_no_verdict(plain: Embedder, photos: Path) -> None:
    verdict = compare.verify(plain, photos / "cat" / "1.png", photos / "cat" / "2.png", find_threshold(plain))
    assert verdict.distance > 0
    assert (verdict.probability, verdict.threshold, verdict.same) == (None, None, None)
    given = compare.verify(plain, photos / "cat" / "1.png", photos / "cat" / "2.png", threshold=9)
    assert (given.probability, given.threshold, given.same) == (None, 9, True)


def test_a_calibration_holds_only_for_its_metric_and_for_photos(calibrated: Embedder, photos: Path) -> None:
    a, b = photos / "cat" / "1.png", photos / "cat" / "2.png"
    cosine = calibrated.with_metric(Metric.COSINE)
    branches: list[tuple[Embedder, Branch]] = [(cosine, "photo"), (calibrated, "sketch")]
    for embedder, branch in branches:
        verdict = compare.verify(embedder, a, b, find_threshold(embedder, branch=branch), branch)
        assert (verdict.probability, verdict.threshold, verdict.same) == (None, None, None)
    with pytest.raises(UsageError, match="a sketch lies farther from photos"):
        find_threshold(calibrated, false_accept_rate=0.01, branch="sketch")
    with pytest.raises(UsageError, match="cosine"):
        find_threshold(cosine, false_accept_rate=0.01)


def test_a_calibration_holds_only_for_its_codec(calibrated: Embedder) -> None:
    @dataclass(frozen=True)
    class Other(NoCodec):
        name: ClassVar[str] = "other"

    assert calibrated.calibration() is not None
    assert Embedder(calibrated.encoder, Other(calibrated.space), calibrated.metric).calibration() is None


def test_a_calibration_without_a_metric_is_for_the_cards_metric(pocket: Path, tmp_path: Path) -> None:
    old = Calibration(distance_at_false_accept_rate={"0.01": 0.25})
    encoder = Encoder.open(pocket_encoder.calibrated(Path(shutil.copytree(pocket, tmp_path / "old")), old))
    assert Embedder.of(encoder, Metric.EUCLIDEAN).distance_at(0.01) == 0.25
    assert Embedder.of(encoder, Metric.COSINE).calibration() is None
    assert Embedder.of(encoder).probabilities(np.zeros(3)) is None


@pytest.mark.parametrize(
    ("thresholds", "word"),
    [
        ({"within": 0.1, "false_accept_rate": 0.01}, "not both"),
        ({"within": -1.0}, "at least 0"),
        ({"within": float("nan")}, "at least 0"),
        ({"within": "0.1..0.2"}, "one distance"),
        ({"false_accept_rate": 0.02}, r"0\.1, 0\.01"),
    ],
)
def test_an_invalid_threshold_is_refused(calibrated: Embedder, thresholds: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        find_threshold(calibrated, **thresholds)


def test_a_metric_that_cannot_compare_the_vectors_is_refused(calibrated: Embedder) -> None:
    with pytest.raises(UsageError, match="euclidean or cosine"):
        calibrated.with_metric(Metric.HAMMING)


def test_an_unusable_image_is_refused(calibrated: Embedder, photos: Path) -> None:
    with pytest.raises(UnreadableImageError):
        compare.verify(calibrated, photos / "cat" / "1.png", b"text")


# ---- probabilities of hits


def test_hits_carry_the_probability_of_their_distance(zoo: Collection, photos: Path) -> None:
    queries = [photos / "cat" / "1.png", photos / "horse" / "1.png"]
    for answers in (zoo.search(queries, k=5), zoo.search(queries, within=0.9)):
        hits = [hit for answer in answers for hit in answer.hits]
        assert len(hits) > 2
        expected = np.interp([hit.distance for hit in hits], [0, 0.5, 1], [1, 0.5, 0])
        assert [hit.probability for hit in hits] == expected.tolist()
    for answers in (zoo.search(queries, metric=Metric.COSINE), zoo.search(queries, sketch=True)):
        assert {hit.probability for answer in answers for hit in answer.hits} == {None}
    assert len(zoo.search(queries[0], where=Filter(labels=frozenset()))) == 0


# ---- classify


def by_plain_loop(
    queries: np.ndarray, support: np.ndarray, labels: list[str], measure: Metric
) -> list[list[tuple[float, str]]]:
    distances = metric.pairwise(queries, support, measure).astype(np.float32)
    return [
        sorted(
            (min(float(d) for d, of in zip(row, labels, strict=True) if of == label), label) for label in set(labels)
        )
        for row in distances
    ]


@pytest.mark.parametrize("measure", [Metric.EUCLIDEAN, Metric.COSINE])
@pytest.mark.parametrize("seed", range(5))
def test_classes_are_ranked_by_their_nearest_example(plain: Embedder, measure: Metric, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few values, so that there are ties, duplicates and zero vectors.
    support = rng.integers(0, 2, (9, 48)).astype(np.float32) * (rng.random((9, 1)) > 0.2).astype(np.float32)
    queries = np.concatenate([support[:2], rng.integers(0, 2, (3, 48)).astype(np.float32)])
    labels = rng.choice(["b", "a", "c"], 9).tolist()
    ranked = rank_classes(plain.with_metric(measure), queries, LabelledVectors(support, labels))
    assert [[(one.distance, one.label) for one in row] for row in ranked] == by_plain_loop(
        queries, support, labels, measure
    )


def test_a_prototype_is_the_mean_of_a_classes_examples(calibrated: Embedder) -> None:
    support = np.zeros((3, 48), np.float32)
    support[:2, 0] = 1, 3
    support[2, 0] = -1
    query, examples = np.zeros((1, 48), np.float32), LabelledVectors(support, ["two", "two", "one"])
    (ranked,) = rank_classes(calibrated, query, examples, by="prototype")
    assert [(one.label, one.distance, one.probability) for one in ranked] == [("one", 1, None), ("two", 2, None)]
    assert [one.similarity for one in ranked] == pytest.approx([1 / 2, 1 / 3])
    (ranked,) = rank_classes(calibrated, query, examples)
    assert [(one.label, one.distance, one.probability) for one in ranked] == [("one", 1, 0), ("two", 1, 0)]


def test_examples_that_cannot_be_used_are_reported_and_skipped(calibrated: Embedder, photos: Path) -> None:
    (photos / "cat" / "broken.png").write_bytes(b"text")
    queries: list[images.ImageSource] = [photos / "horse" / "1.png", (photos / "cat" / "2.png").read_bytes()]
    found = compare.classify(calibrated, queries, classes(photos))
    assert [ranked[0].label for ranked in found.answers] == ["horse", "cat"]
    assert all(ranked[0].distance == 0 and ranked[0].probability == 1 for ranked in found.answers)
    assert [len(ranked) for ranked in found.answers] == [3, 3]
    assert [path.name for path, _ in found.failures] == ["broken.png"]
    support = {"cat": [photos / "cat" / "1.png"], "ghost": [photos / "cat" / "broken.png"]}
    with pytest.raises(DataError, match="ghost"):
        compare.classify(calibrated, queries, support)
    with pytest.raises(DataError, match="empty"):
        compare.classify(calibrated, queries, {"cat": [photos / "cat" / "1.png"], "empty": []})
    with pytest.raises(DataError, match="no classes"):
        compare.classify(calibrated, queries, {})
    with pytest.raises(UnreadableImageError):
        compare.classify(calibrated, [photos / "cat" / "broken.png"], classes(photos))


def test_an_image_may_be_an_example_of_two_classes(plain: Embedder, photos: Path) -> None:
    shared = photos / "cat" / "1.png"
    (ranked,) = compare.classify(plain, [shared], {"pet": [shared], "animal": [shared]}).answers
    assert [(one.label, one.distance) for one in ranked] == [("animal", 0), ("pet", 0)]


def test_one_example_of_a_class_is_enough_for_the_toy_shop(tmp_path: Path) -> None:
    chosen = ("mug", "chair", "lamp", "hat", "guitar")
    products = [p for p in sample.catalogue(400, 77) if p.label in sample.CLASSES]
    labels = [label for label in chosen if label in sample.CLASSES] or list(sample.CLASSES[:5])
    of = {label: [p for p in products if p.label == label][:3] for label in labels}
    for label, three in of.items():
        for i, product in enumerate(three):
            product.photo(160).save(tmp_path / f"{label}-{i}.png")
    support = {label: [tmp_path / f"{label}-0.png"] for label in labels}
    queries = [tmp_path / f"{label}-{i}.png" for label in labels for i in (1, 2)]
    answers = compare.classify(Embedder.of(encoders.load("toyshop")), queries, support).answers
    right = [ranked[0].label == q.name.split("-")[0] for ranked, q in zip(answers, queries, strict=True)]
    assert np.mean(right) >= 0.9


@pytest.mark.parametrize("by", ["example", "prototype"])
def test_a_collection_classifies_by_its_labels(zoo: Collection, photos: Path, by: ClassifyBy) -> None:
    labelled = zoo.labelled()
    assert len(labelled.labels) == 12  # the stray image has none
    queries = [photos / "cat" / "1.png", photos / "horse" / "3.png"]
    expected = rank_classes(zoo.embedder, zoo.embedder.embed(queries), labelled, by=by)
    for k in (1, 2, 3, 50):
        assert zoo.classify(queries, k, by=by) == [ranking[:k] for ranking in expected]
    with pytest.raises(UsageError, match="at least 1"):
        zoo.classify(queries, 0)


def test_a_collection_without_labels_cannot_classify(tmp_path: Path, photos: Path, plain: Embedder) -> None:
    with Collection.create(tmp_path / "x.lookalike", plain.encoder) as collection:
        collection.add(photos)
        with pytest.raises(UsageError, match="has a label"):
            collection.classify(photos / "cat" / "1.png")


def test_a_label_does_not_steer_the_terminal() -> None:
    ranking = Ranking((RankedClass("\x1b[31mcat\n", 0.5, 0.5, None),), Metric.EUCLIDEAN)
    assert "cat" in str(ranking)
    assert str(ranking).isprintable()


@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12), chosen=st.sampled_from([Metric.EUCLIDEAN, Metric.COSINE])
)
def test_ranked_examples_agree_with_their_classes(pocket: Path, seed: int, count: int, chosen: Metric) -> None:
    rng = np.random.default_rng(seed)
    query, examples = (rng.normal(size=(n, 48)).astype(np.float32) for n in (1, count))
    labels = [str(label) for label in rng.integers(0, 3, count)]
    embedder = Embedder.of(Encoder.open(pocket), chosen)
    ranked = rank_examples(embedder, query, examples)
    assert sorted(one.index for one in ranked) == list(range(count))
    expected = metric.pairwise(query, examples, chosen)[0]
    np.testing.assert_allclose([one.distance for one in ranked], expected[[one.index for one in ranked]], atol=1e-5)
    assert [one.distance for one in ranked] == sorted(one.distance for one in ranked)
    (ranking,) = rank_classes(embedder, query, LabelledVectors(examples, labels))
    nearest = {labels[one.index]: one.distance for one in reversed(ranked)}
    assert nearest == {one.label: one.distance for one in ranking}
