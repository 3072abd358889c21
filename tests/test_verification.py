"""Verification measures against plain loops, scikit-learn and the figures of R2."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score, roc_auc_score

from lookalike.errors import DataError, UsageError
from lookalike.evaluation import distances as measured
from lookalike.evaluation import verification
from lookalike.evaluation.verification import Roc, Verdicts, draw, judge
from lookalike.metric import Metric, pairwise

# ---- drawing pairs


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 7, 100, 10_000])
def test_pairs_are_balanced_true_and_drawn_once(count: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 6, 60)
    pairs = draw(labels, count, seed)
    assert np.array_equal(pairs.same, labels[pairs.left] == labels[pairs.right])
    assert pairs.same.sum() * 2 == len(pairs)
    assert np.all(pairs.left < pairs.right)
    assert len(set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))) == len(pairs)
    exist = sum(labels[i] == labels[j] for i, j in itertools.combinations(range(60), 2))
    assert len(pairs) == min(count // 2, exist) * 2
    assert pairs.asked == count


def test_the_same_seed_draws_the_same_pairs_and_another_one_others() -> None:
    labels = np.repeat(np.arange(10), 20)
    one, again, other = draw(labels, 100, 1), draw(labels, 100, 1), draw(labels, 100, 2)
    assert np.array_equal(one.left, again.left)
    assert np.array_equal(one.right, again.right)
    assert not np.array_equal(one.left, other.left)


def test_every_pair_is_as_likely_as_any_other_of_its_kind() -> None:
    labels = np.array(["a", "b", "a", "a", "b", "c"])
    seen: dict[tuple[int, int], int] = {}
    for seed in range(2000):
        pairs = draw(labels, 4, seed)
        for pair in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
            seen[pair] = seen.get(pair, 0) + 1
    assert set(seen) == set(itertools.combinations(range(6), 2))
    for (i, j), times in seen.items():
        share = 2 / 4 if labels[i] == labels[j] else 2 / 11
        assert times / 2000 == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 2000))


def test_drawing_from_a_billion_pairs_lists_none_of_them() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 100_000)
    tracemalloc.start()
    pairs = draw(labels, 2000, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) == 2000
    assert peak < 20e6


@pytest.mark.parametrize("labels", [[], [1], [1, 2, 3], [1, 1, 1]])
def test_pairs_of_one_kind_alone_are_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match="There is no pair"):
        draw(np.array(labels, int), 10, 0)


@pytest.mark.parametrize("metric", list(Metric))
def test_pairs_are_at_the_distances_of_the_definition(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    embeddings = (rng.standard_normal((20, 5)) * 50).astype(metric.dtype)
    pairs = draw(rng.integers(0, 3, 20), 50, 0)
    expected = pairwise(embeddings, embeddings, metric).astype(np.float32)[pairs.left, pairs.right]
    assert np.array_equal(pairs.distances(embeddings, metric), expected)


# ---- error rates


def some_pairs(seed: int, n: int = 200, *, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = rng.random(n) < rng.uniform(0.2, 0.8)
    same[:2] = True, False
    distances = rng.random(n) + 0.5 * ~same
    return (np.round(distances, 1) if ties else distances).astype(np.float32), same


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_error_rates_are_what_a_loop_counts(seed: int, ties: bool) -> None:
    distances, same = some_pairs(seed, ties=ties)
    roc = Roc.of_pairs(distances, same)
    assert roc.thresholds.tolist() == sorted(set(distances.tolist()))
    assert roc.far.tolist() == [np.mean(distances[~same] <= t) for t in roc.thresholds]
    assert roc.frr == pytest.approx(np.array([np.mean(distances[same] > t) for t in roc.thresholds]))
    assert roc.auc == pytest.approx(roc_auc_score(same, -distances))
    points = [(judge(distances, same, t.item()), t.item()) for t in roc.thresholds]
    best = min(points, key=lambda p: (round(p[0].far + p[0].frr, 12), p[1]))
    assert roc.best_accuracy().threshold == best[1]
    assert roc.best_accuracy().accuracy == pytest.approx(1 - (best[0].far + best[0].frr) / 2)
    even = min(points, key=lambda p: (round(abs(p[0].far - p[0].frr), 12), p[1]))
    assert roc.equal_error().threshold == even[1]
    for rate in (0.05, 0.5, 1):
        allowed = [p for p in points if p[0].far <= rate]
        if allowed:
            found = roc.at_far(rate)
            assert found.threshold == allowed[-1][1]
            assert (found.far, found.frr) == pytest.approx((allowed[-1][0].far, allowed[-1][0].frr))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_auc_is_the_chance_that_a_genuine_pair_is_nearer(genuine: list[int], impostors: list[int]) -> None:
    roc = Roc.of_pairs(np.array(genuine + impostors, float), np.arange(len(genuine) + len(impostors)) < len(genuine))
    won = [(g < i) + (g == i) / 2 for g in genuine for i in impostors]
    assert roc.auc == pytest.approx(np.mean(won))
    assert 0 <= roc.eer <= 1


def test_the_equal_error_rate_lies_where_the_curve_crosses_the_diagonal() -> None:
    # (FAR, FRR): (0, 1), (0, 1/2) at 1, (1/3, 1/2) at 2, (2/3, 1/2) at 3: FAR = FRR = 1/2 halfway of the last.
    roc = Roc.of_pairs(np.array([1, 2, 3, 4, 5]), np.array([True, False, False, True, False]))
    assert roc.eer == pytest.approx(1 / 2)
    # (0, 1) to (1, 0) straight, where all is tied.
    assert Roc.of_pairs(np.ones(6), np.arange(6) < 2).eer == pytest.approx(1 / 2)
    # Two genuine and one impostor at 1, one impostor at 2: (0, 1) to (1/2, 0); x = 1 - 2x at 1/3.
    assert Roc.of_pairs(np.array([1, 1, 1, 2]), np.array([True, True, False, False])).eer == pytest.approx(1 / 3)


def test_pairs_that_are_told_apart_have_no_error() -> None:
    roc = Roc.of_pairs(np.array([0.1, 0.2, 0.8, 0.9]), np.array([True, True, False, False]))
    assert (roc.auc, roc.eer) == (1, 0)
    point = roc.best_accuracy()
    assert (point.threshold, point.accuracy) == pytest.approx((0.2, 1))
    assert roc.at_far(0.5).threshold == pytest.approx(0.8)


def test_a_rate_that_no_threshold_reaches_is_refused() -> None:
    roc = Roc.of_pairs(np.zeros(4), np.arange(4) < 2)
    with pytest.raises(UsageError, match="2 of 2 impostor pairs"):
        roc.at_far(0.5)
    for rate in (-0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match="between 0 and 1"):
            roc.at_far(rate)


@pytest.mark.parametrize("most", [10, 100, 100_000])
def test_a_curve_is_thinned_with_both_ends(most: int) -> None:
    roc = Roc.of_pairs(*some_pairs(0, 20_000, ties=False))
    curve = roc.curve(most)
    assert curve[0].tolist() == [0, 1]
    assert curve[-1].tolist() == pytest.approx([1, 0])
    assert len(curve) <= most + 2
    assert np.all(np.diff(curve[:, 0]) >= 0)
    assert np.all(np.diff(curve[:, 1]) <= 1e-12)
    whole = {tuple(p) for p in np.stack([roc.far, roc.frr], axis=1)} | {(0.0, 1.0)}
    assert all(tuple(p) in whole for p in curve)


# ---- all pairs of a set


def all_pairs(embeddings: np.ndarray, labels: np.ndarray, metric: Metric) -> Roc:
    upper = np.triu_indices(len(labels), 1)
    distances = pairwise(embeddings, embeddings, metric).astype(np.float32)[upper]
    return Roc.of_pairs(distances, (labels[:, None] == labels)[upper])


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("kind", ["few", "many"])
def test_all_pairs_of_a_set_streamed_are_as_if_held(metric: Metric, kind: str) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, 300)
    drawn = rng.standard_normal((300, 4)) * 9 if kind == "many" else rng.integers(-1, 2, (300, 2))
    embeddings = drawn.astype(np.int8).view(np.uint8) if metric is Metric.HAMMING else drawn.astype(np.float32)
    expected, found = all_pairs(embeddings, labels, metric), Roc.of_all(embeddings, labels, metric)
    assert np.array_equal(found.thresholds, expected.thresholds)
    assert np.array_equal(found.genuine_accepted, expected.genuine_accepted)
    assert np.array_equal(found.impostors_accepted, expected.impostors_accepted)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("held", [1, 50, 1000])
def test_impostors_that_are_only_counted_change_no_figure(
    held: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "HELD", held)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 12, 150)
    embeddings = np.round(rng.standard_normal((150, 2)) + labels[:, None] % 3, 1).astype(np.float32)
    expected, found = all_pairs(embeddings, labels, Metric.EUCLIDEAN), Roc.of_all(embeddings, labels, Metric.EUCLIDEAN)
    assert (found.genuine, found.impostors) == (expected.genuine, expected.impostors)
    assert (found.auc, found.eer) == pytest.approx((expected.auc, expected.eer))
    assert found.best_accuracy() == expected.best_accuracy()
    low = held / expected.impostors / 2
    if expected.far[0] <= low:
        assert found.at_far(low) == expected.at_far(low)
    for rate in (0.1, 0.5, 1):
        assert found.at_far(rate).frr == expected.at_far(rate).frr


def test_all_pairs_of_a_set_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "HELD", 1000)
    monkeypatch.setattr(measured, "BUDGET", 2**20)
    embeddings = np.random.default_rng(0).standard_normal((3000, 4)).astype(np.float32)
    tracemalloc.start()
    roc = Roc.of_all(embeddings, np.arange(3000) // 3, Metric.EUCLIDEAN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (roc.genuine, roc.impostors) == (3000, 3000 * 2999 // 2 - 3000)
    assert peak < 6e6  # their distances alone would take 18 MB


def test_more_genuine_pairs_than_can_be_held_are_refused() -> None:
    with pytest.raises(UsageError, match="draw some"):
        Roc.of_all(np.zeros((10, 2), np.float32), np.arange(10) % 2, Metric.EUCLIDEAN, limit=19)
    with pytest.raises(DataError, match="no pair of two"):
        Roc.of_all(np.zeros((3, 2), np.float32), np.zeros(3, int), Metric.EUCLIDEAN)
    with pytest.raises(DataError, match="no pair of one"):
        Roc.of_all(np.zeros((0, 2), np.float32), np.zeros(0, int), Metric.EUCLIDEAN)


# ---- verdicts


@pytest.mark.parametrize("seed", range(5))
def test_verdicts_are_those_of_scikit_learn(seed: int) -> None:
    distances, same = some_pairs(seed)
    found = judge(distances, same, 0.7)
    said = distances <= np.float32(0.7)
    assert np.array_equal(found.matrix, confusion_matrix(same, said))
    assert found.accuracy == pytest.approx(np.mean(same == said))
    expected = precision_score(same, said), recall_score(same, said), f1_score(same, said)
    assert (found.precision, found.recall, found.f1) == pytest.approx(expected)


def test_the_figures_of_r2_follow_from_its_matrix() -> None:
    r2 = Verdicts(0.5, 3962, 48, 100, 3908)
    assert r2.matrix == ((3962, 48), (100, 3908))
    assert sum(map(sum, r2.matrix)) == 8018
    figures = (r2.accuracy, r2.precision, r2.recall, r2.f1, r2.far, r2.frr)
    assert figures == pytest.approx((0.982, 0.988, 0.975, 0.981, 0.012, 0.025), abs=0.0006)


def test_the_threshold_itself_is_the_same() -> None:
    found = judge(np.array([0.3, 0.3], np.float32), np.array([True, False]), 0.3)
    assert found.matrix == ((0, 1), (0, 1))
    assert judge(np.array([0.3, 0.4]), np.array([True, False]), 1e300).matrix == ((0, 1), (0, 1))


def test_verdicts_on_nothing_have_no_shares() -> None:
    found = judge(np.empty(0), np.empty(0, bool), 1)
    assert all(map(math.isnan, (found.accuracy, found.precision, found.recall, found.f1, found.far, found.frr)))


def test_distances_that_are_none_are_refused() -> None:
    same = np.array([True, False])
    for bad in (math.nan, math.inf, -1, 1e300):
        with pytest.raises(UsageError, match="finite"):
            Roc.of_pairs(np.array([0.5, bad]), same)
        with pytest.raises(UsageError, match="finite"):
            judge(np.array([0.5, bad]), same, 0.5)
    with pytest.raises(UsageError, match="NaN"):
        judge(np.array([0.5, 1]), same, math.nan)
    with pytest.raises(DataError, match="one class"):
        Roc.of_pairs(np.ones(2), np.zeros(2, bool))
    with pytest.raises(UsageError, match="half and half"):
        draw(np.array([1, 1, 2]), 1, 0)
