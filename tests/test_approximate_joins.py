"""Approximate joins: true distances, unique pairs, and the measured recall."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from lookalike import search
from lookalike.ann import joins
from lookalike.ann.joins import ApproximateJoin, prepare
from lookalike.metric import Metric, paired
from lookalike.query import DistanceRange
from lookalike.search import Gallery, Pairs
from lookalike.search.answers import concatenate

Array = np.ndarray[Any, np.dtype[Any]]


class Rule(NamedTuple):
    """The condition of a pair: k or a range."""

    k: int | None = None
    within: DistanceRange | None = None

    def prepare(self, left: Gallery, right: Gallery, metric: Metric, recall: float = joins.RECALL) -> ApproximateJoin:
        return prepare(left, right, metric, k=self.k, within=self.within, recall=recall)


NEAREST, WITHIN = Rule(5), Rule()
CASES = [(m, q, i) for m in Metric for q in (NEAREST, WITHIN) for i in (False, True)]


def vectors(metric: Metric, count: int, seed: int) -> Array:
    """Make a cloud of few dimensions with duplicates and zero vectors."""
    rng = np.random.default_rng(seed)
    cloud = rng.standard_normal((count, 4)) @ np.random.default_rng(0).standard_normal((4, 32))
    cloud[::50] = cloud[:1]
    if metric is Metric.HAMMING:
        return np.packbits(cloud > 0, axis=1) if count else np.zeros((0, 4), np.uint8)
    cloud[::97] = 0
    return cloud.astype(np.float32)


def sides(metric: Metric, *, itself: bool, count: int = 1500) -> tuple[Gallery, Gallery]:
    right = search.prepare(vectors(metric, count, 1), metric)
    return (right, right) if itself else (search.prepare(vectors(metric, count // 2, 2), metric), right)


def with_range(rule: Rule, left: Gallery, right: Gallery, metric: Metric) -> Rule:
    """Choose a range with about ten pairs a row."""
    if rule.k is not None:
        return rule
    some = search.knn(left.take(slice(0, 100)), right, 30, metric)
    radius = float(np.median([distances[-1] for _, distances in some]))
    return Rule(within=DistanceRange(radius / 4, radius))


def exact(left: Gallery, right: Gallery, metric: Metric, rule: Rule) -> Pairs:
    if left is right:
        return concatenate(list(search.self_join(left, metric, k=rule.k, within=rule.within)))
    return concatenate(list(search.join(left, right, metric, k=rule.k, within=rule.within)))


@pytest.mark.parametrize(("metric", "rule", "itself"), CASES)
def test_pairs_are_unique_and_reach_the_measured_recall(metric: Metric, rule: Rule, itself: bool) -> None:
    left, right = sides(metric, itself=itself)
    rule = with_range(rule, left, right, metric)
    prepared = rule.prepare(left, right, metric)
    chunks = list(prepared.chunks(0))
    found, true = concatenate(list(chunks)), exact(left, right, metric, rule)
    assert chunks[-1].done == len(left)
    assert len(true) > 1000
    assert len(set(zip(found.left.tolist(), found.right.tolist(), strict=True))) == len(found)
    measured = paired(left.vectors[found.left], right.vectors[found.right], metric).astype(np.float32)
    np.testing.assert_array_equal(measured, found.distances)
    if itself:
        assert np.all(found.left < found.right)
    if rule.within is not None:
        assert len(found.within(rule.within)) == len(found)
        assert prepared.recall == pytest.approx(len(found) / len(true), abs=0.04)
    else:
        assert np.all(np.bincount(found.left if not itself else np.concatenate([found.left, found.right])) >= 5)
    assert prepared.recall is not None
    assert prepared.recall > 0.9
    for chunk in chunks:
        expected = Pairs(chunk.left, chunk.right, chunk.distances).sorted()
        np.testing.assert_array_equal(chunk.left, expected.left)
        np.testing.assert_array_equal(chunk.right, expected.right)


@pytest.mark.parametrize(("rule", "itself"), [(q, i) for q in (NEAREST, WITHIN) for i in (False, True)])
@pytest.mark.slow
def test_an_approximate_join_resumes_at_a_left_row(rule: Rule, itself: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "_ROWS", 128)
    left, right = sides(Metric.EUCLIDEAN, itself=itself)
    rule = with_range(rule, left, right, Metric.EUCLIDEAN)
    chunks = list(rule.prepare(left, right, Metric.EUCLIDEAN).chunks(0))
    for place in (0, 2, len(chunks) - 2):
        later = list(rule.prepare(left, right, Metric.EUCLIDEAN).chunks(chunks[place].done))
        assert len(later) == len(chunks) - place - 1
        for one, other in zip(chunks[place + 1 :], later, strict=True):
            assert one.done == other.done
            for a, b in ((one.left, other.left), (one.right, other.right), (one.distances, other.distances)):
                np.testing.assert_array_equal(a, b)


def test_a_low_recall_increases_the_probes() -> None:
    left, right = sides(Metric.EUCLIDEAN, itself=True, count=4000)
    noise = search.prepare(np.random.default_rng(0).standard_normal((4000, 64)).astype(np.float32), Metric.EUCLIDEAN)
    easy = NEAREST.prepare(left, right, Metric.EUCLIDEAN)
    hard = NEAREST.prepare(noise, noise, Metric.EUCLIDEAN)
    whole = NEAREST.prepare(noise, noise, Metric.EUCLIDEAN, recall=1)
    assert easy.recall is not None
    assert hard.recall is not None
    assert min(easy.recall, hard.recall) > 0.93
    assert whole.recall == 1  # which takes all cells


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_few_rows_are_compared_with_all(metric: Metric, count: int) -> None:
    right = search.prepare(vectors(metric, count, 1), metric)
    for rule in (Rule(100), Rule(within=DistanceRange(0, 1e9))):
        prepared = rule.prepare(right, right, metric)
        found = concatenate(list(prepared.chunks(0)))
        assert len(found) == count * (count - 1) // 2
        assert prepared.recall == (1 if count > 1 else None)
        none = search.prepare(vectors(metric, 0, 1), metric)
        assert not any(map(len, rule.prepare(none, right, metric).chunks(0)))
        assert not any(map(len, rule.prepare(right, none, metric).chunks(0)))
