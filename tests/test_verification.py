"""Verification measures against plain loops, scikit-learn and the published scores of R2."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from lookalike.errors import DataError, UsageError
from lookalike.evaluation import distances as pair_distances
from lookalike.evaluation import roc as roc_module
from lookalike.evaluation.labels import LabelledVectors
from lookalike.evaluation.roc import Roc
from lookalike.evaluation.verification import ConfusionMatrix, confusion_matrix, draw_pairs
from lookalike.metric import Metric, pairwise

# ---- drawing pairs


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 7, 100, 10_000])
def test_drawn_pairs_are_balanced_true_and_distinct(count: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 6, 60)
    pairs = draw_pairs(labels, count, seed)
    assert np.array_equal(pairs.same, labels[pairs.left] == labels[pairs.right])
    assert pairs.same.sum() * 2 == len(pairs)
    assert np.all(pairs.left < pairs.right)
    assert len(set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))) == len(pairs)
    exist = sum(labels[i] == labels[j] for i, j in itertools.combinations(range(60), 2))
    assert len(pairs) == min(count // 2, exist) * 2
    assert pairs.requested == count


def test_the_seed_decides_the_pairs() -> None:
    labels = np.repeat(np.arange(10), 20)
    one, again, other = draw_pairs(labels, 100, 1), draw_pairs(labels, 100, 1), draw_pairs(labels, 100, 2)
    assert np.array_equal(one.left, again.left)
    assert np.array_equal(one.right, again.right)
    assert not np.array_equal(one.left, other.left)


def test_pairs_of_a_kind_are_equally_likely() -> None:
    labels = np.array(["a", "b", "a", "a", "b", "c"])
    seen: dict[tuple[int, int], int] = {}
    for seed in range(2000):
        pairs = draw_pairs(labels, 4, seed)
        for pair in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
            seen[pair] = seen.get(pair, 0) + 1
    assert set(seen) == set(itertools.combinations(range(6), 2))
    for (i, j), times in seen.items():
        share = 2 / 4 if labels[i] == labels[j] else 2 / 11
        assert times / 2000 == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 2000))


def test_drawing_from_a_billion_pairs_takes_little_memory() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 100_000)
    tracemalloc.start()
    pairs = draw_pairs(labels, 2000, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) == 2000
    assert peak < 20e6


@pytest.mark.parametrize("labels", [[], [1], [1, 2, 3], [1, 1, 1]])
def test_pairs_of_one_kind_alone_are_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match="There is no pair"):
        draw_pairs(np.array(labels, int), 10, 0)


@pytest.mark.parametrize("metric", list(Metric))
def test_distances_of_pairs_equal_the_definition(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    embeddings = (rng.standard_normal((20, 5)) * 50).astype(metric.dtype)
    pairs = draw_pairs(rng.integers(0, 3, 20), 50, 0)
    expected = pairwise(embeddings, embeddings, metric).astype(np.float32)[pairs.left, pairs.right]
    assert np.array_equal(pairs.distances(embeddings, metric), expected)


# ---- error rates


def random_pairs(seed: int, n: int = 200, *, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = rng.random(n) < rng.uniform(0.2, 0.8)
    same[:2] = True, False
    distances = rng.random(n) + 0.5 * ~same
    return (np.round(distances, 1) if ties else distances).astype(np.float32), same


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_error_rates_equal_a_plain_loop(seed: int, ties: bool) -> None:
    distances, same = random_pairs(seed, ties=ties)
    roc = Roc.of_pairs(distances, same)
    assert roc.thresholds.tolist() == sorted(set(distances.tolist()))
    assert roc.false_accept_rates.tolist() == [np.mean(distances[~same] <= t) for t in roc.thresholds]
    assert roc.false_reject_rates == pytest.approx(np.array([np.mean(distances[same] > t) for t in roc.thresholds]))
    assert roc.auc == pytest.approx(roc_auc_score(same, -distances))
    points = [(confusion_matrix(distances, same, t.item()), t.item()) for t in roc.thresholds]
    best = min(points, key=lambda p: (round(p[0].false_accept_rate + p[0].false_reject_rate, 12), p[1]))
    assert roc.best_accuracy().threshold == best[1]
    assert roc.best_accuracy().accuracy == pytest.approx(
        1 - (best[0].false_accept_rate + best[0].false_reject_rate) / 2
    )
    even = min(points, key=lambda p: (round(abs(p[0].false_accept_rate - p[0].false_reject_rate), 12), p[1]))
    assert roc.equal_error().threshold == even[1]
    for rate in (0.05, 0.5, 1):
        allowed = [p for p in points if p[0].false_accept_rate <= rate]
        if allowed:
            found = roc.at_false_accept_rate(rate)
            assert found.threshold == allowed[-1][1]
            assert (found.false_accept_rate, found.false_reject_rate) == pytest.approx(
                (allowed[-1][0].false_accept_rate, allowed[-1][0].false_reject_rate)
            )


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_auc_is_the_probability_that_a_genuine_pair_is_nearer(genuine: list[int], impostors: list[int]) -> None:
    roc = Roc.of_pairs(np.array(genuine + impostors, float), np.arange(len(genuine) + len(impostors)) < len(genuine))
    won = [(g < i) + (g == i) / 2 for g in genuine for i in impostors]
    assert roc.auc == pytest.approx(np.mean(won))
    assert 0 <= roc.eer <= 1


def test_the_equal_error_rate_is_where_the_curve_crosses_the_diagonal() -> None:
    # (FAR, FRR): (0, 1), (0, 1/2) at 1, (1/3, 1/2) at 2, (2/3, 1/2) at 3: FAR = FRR = 1/2 halfway of the last.
    roc = Roc.of_pairs(np.array([1, 2, 3, 4, 5]), np.array([True, False, False, True, False]))
    assert roc.eer == pytest.approx(1 / 2)
    # (0, 1) to (1, 0) straight, where all is tied.
    assert Roc.of_pairs(np.ones(6), np.arange(6) < 2).eer == pytest.approx(1 / 2)
    # Two genuine and one impostor at 1, one impostor at 2: (0, 1) to (1/2, 0); x = 1 - 2x at 1/3.
    assert Roc.of_pairs(np.array([1, 1, 1, 2]), np.array([True, True, False, False])).eer == pytest.approx(1 / 3)


def test_separable_pairs_have_no_error() -> None:
    roc = Roc.of_pairs(np.array([0.1, 0.2, 0.8, 0.9]), np.array([True, True, False, False]))
    assert (roc.auc, roc.eer) == (1, 0)
    point = roc.best_accuracy()
    assert (point.threshold, point.accuracy) == pytest.approx((0.2, 1))
    assert roc.at_false_accept_rate(0.5).threshold == pytest.approx(0.8)


def test_a_rate_that_no_threshold_reaches_is_refused() -> None:
    roc = Roc.of_pairs(np.zeros(4), np.arange(4) < 2)
    with pytest.raises(UsageError, match="2 of 2 impostor pairs"):
        roc.at_false_accept_rate(0.5)
    for rate in (-0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match="between 0 and 1"):
            roc.at_false_accept_rate(rate)


@pytest.mark.parametrize("limit", [10, 100, 100_000])
def test_a_thinned_curve_keeps_both_ends(limit: int) -> None:
    roc = Roc.of_pairs(*random_pairs(0, 20_000, ties=False))
    curve = roc.curve(limit)
    assert curve[0].tolist() == [0, 1]
    assert curve[-1].tolist() == pytest.approx([1, 0])
    assert len(curve) <= limit + 2
    assert np.all(np.diff(curve[:, 0]) >= 0)
    assert np.all(np.diff(curve[:, 1]) <= 1e-12)
    whole = {tuple(p) for p in np.stack([roc.false_accept_rates, roc.false_reject_rates], axis=1)} | {(0.0, 1.0)}
    assert all(tuple(p) in whole for p in curve)


# ---- all pairs of a set


def all_pairs(embeddings: np.ndarray, labels: np.ndarray, metric: Metric) -> Roc:
    upper = np.triu_indices(len(labels), 1)
    distances = pairwise(embeddings, embeddings, metric).astype(np.float32)[upper]
    return Roc.of_pairs(distances, (labels[:, None] == labels)[upper])


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("kind", ["few", "many"])
def test_streamed_pairs_of_a_set_equal_all_pairs_in_memory(metric: Metric, kind: str) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, 300)
    drawn = rng.standard_normal((300, 4)) * 9 if kind == "many" else rng.integers(-1, 2, (300, 2))
    embeddings = drawn.astype(np.int8).view(np.uint8) if metric is Metric.HAMMING else drawn.astype(np.float32)
    expected, found = (
        all_pairs(embeddings, labels, metric),
        Roc.of_all_pairs(LabelledVectors(embeddings, labels), metric),
    )
    assert np.array_equal(found.thresholds, expected.thresholds)
    assert np.array_equal(found.genuine_accepted, expected.genuine_accepted)
    assert np.array_equal(found.impostors_accepted, expected.impostors_accepted)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kept", [1, 50, 1000])
def test_impostors_that_are_only_counted_change_no_score(kept: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roc_module, "MAX_IMPOSTORS", kept)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 12, 150)
    embeddings = np.round(rng.standard_normal((150, 2)) + labels[:, None] % 3, 1).astype(np.float32)
    expected, found = (
        all_pairs(embeddings, labels, Metric.EUCLIDEAN),
        Roc.of_all_pairs(LabelledVectors(embeddings, labels), Metric.EUCLIDEAN),
    )
    assert (found.genuine, found.impostors) == (expected.genuine, expected.impostors)
    assert (found.auc, found.eer) == pytest.approx((expected.auc, expected.eer))
    assert found.best_accuracy() == expected.best_accuracy()
    low = kept / expected.impostors / 2
    if expected.false_accept_rates[0] <= low:
        assert found.at_false_accept_rate(low) == expected.at_false_accept_rate(low)
    for rate in (0.1, 0.5, 1):
        assert (
            found.at_false_accept_rate(rate).false_reject_rate == expected.at_false_accept_rate(rate).false_reject_rate
        )


@pytest.mark.slow
def test_all_pairs_of_a_set_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roc_module, "MAX_IMPOSTORS", 1000)
    monkeypatch.setattr(pair_distances, "CHUNK_BYTES", 2**20)
    embeddings = np.random.default_rng(0).standard_normal((3000, 4)).astype(np.float32)
    tracemalloc.start()
    roc = Roc.of_all_pairs(LabelledVectors(embeddings, np.arange(3000) // 3), Metric.EUCLIDEAN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (roc.genuine, roc.impostors) == (3000, 3000 * 2999 // 2 - 3000)
    assert peak < 6e6  # their distances alone would take 18 MB


def test_more_genuine_pairs_than_fit_into_memory_are_refused() -> None:
    with pytest.raises(UsageError, match="draw_pairs"):
        Roc.of_all_pairs(
            LabelledVectors(np.zeros((10, 2), np.float32), np.arange(10) % 2), Metric.EUCLIDEAN, max_genuine=19
        )
    with pytest.raises(DataError, match="no pair of different"):
        Roc.of_all_pairs(LabelledVectors(np.zeros((3, 2), np.float32), np.zeros(3, int)), Metric.EUCLIDEAN)
    with pytest.raises(DataError, match="no pair of the same"):
        Roc.of_all_pairs(LabelledVectors(np.zeros((0, 2), np.float32), np.zeros(0, int)), Metric.EUCLIDEAN)


# ---- confusion matrix


@pytest.mark.parametrize("seed", range(5))
def test_the_confusion_matrix_equals_scikit_learn(seed: int) -> None:
    distances, same = random_pairs(seed)
    found = confusion_matrix(distances, same, 0.7)
    accepted = distances <= np.float32(0.7)
    assert np.array_equal(found.matrix, sklearn_confusion_matrix(same, accepted))
    assert found.accuracy == pytest.approx(np.mean(same == accepted))
    expected = precision_score(same, accepted), recall_score(same, accepted), f1_score(same, accepted)
    assert (found.precision, found.recall, found.f1) == pytest.approx(expected)


def test_the_published_scores_of_r2_follow_from_its_matrix() -> None:
    r2 = ConfusionMatrix(0.5, 3962, 48, 100, 3908)
    assert r2.matrix == ((3962, 48), (100, 3908))
    assert sum(map(sum, r2.matrix)) == 8018
    figures = (r2.accuracy, r2.precision, r2.recall, r2.f1, r2.false_accept_rate, r2.false_reject_rate)
    assert figures == pytest.approx((0.982, 0.988, 0.975, 0.981, 0.012, 0.025), abs=0.0006)


def test_a_distance_equal_to_the_threshold_is_accepted() -> None:
    found = confusion_matrix(np.array([0.3, 0.3], np.float32), np.array([True, False]), 0.3)
    assert found.matrix == ((0, 1), (0, 1))
    assert confusion_matrix(np.array([0.3, 0.4]), np.array([True, False]), 1e300).matrix == ((0, 1), (0, 1))


def test_without_pairs_every_rate_is_nan() -> None:
    found = confusion_matrix(np.empty(0), np.empty(0, bool), 1)
    assert all(
        map(
            math.isnan,
            (found.accuracy, found.precision, found.recall, found.f1, found.false_accept_rate, found.false_reject_rate),
        )
    )


def test_invalid_distances_are_refused() -> None:
    same = np.array([True, False])
    for bad in (math.nan, math.inf, -1, 1e300):
        with pytest.raises(UsageError, match="finite"):
            Roc.of_pairs(np.array([0.5, bad]), same)
        with pytest.raises(UsageError, match="finite"):
            confusion_matrix(np.array([0.5, bad]), same, 0.5)
    with pytest.raises(UsageError, match="NaN"):
        confusion_matrix(np.array([0.5, 1]), same, math.nan)
    with pytest.raises(DataError, match="no pair of the same class"):
        Roc.of_pairs(np.ones(2), np.zeros(2, bool))
    with pytest.raises(UsageError, match="half and half"):
        draw_pairs(np.array([1, 1, 2]), 1, 0)
