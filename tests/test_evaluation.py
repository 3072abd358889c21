"""Measures of an embedding against plain loops."""

import numpy as np
import pytest

from lookalike.errors import UsageError
from lookalike.evaluation.retrieval import hit_rates, top_1
from lookalike.metric import Metric, pairwise

FLOATS = [Metric.EUCLIDEAN, Metric.COSINE]


def plain_top_1(embeddings: np.ndarray, labels: np.ndarray, metric: Metric) -> float:
    distances = pairwise(embeddings, embeddings, metric).astype(np.float32)
    right = 0
    for i, row in enumerate(distances):
        others = [(row[j], j) for j in range(len(row)) if j != i]
        right += labels[min(others)[1]] == labels[i]
    return right / len(labels)


@pytest.mark.parametrize("metric", FLOATS)
@pytest.mark.parametrize("seed", range(20))
def test_top_1_is_what_a_loop_finds(metric: Metric, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    # Few different vectors: many are the same, and many at the same distance; some are zero.
    embeddings = rng.integers(-1, 2, (n, int(rng.integers(1, 4)))).astype(np.float32)
    labels = rng.integers(0, 4, n)
    assert top_1(embeddings, labels, metric) == pytest.approx(plain_top_1(embeddings, labels, metric))


def test_top_1_of_copies_never_finds_the_item_itself() -> None:
    embeddings = np.zeros((5, 2), np.float32)
    assert top_1(embeddings, np.arange(5), Metric.EUCLIDEAN) == 0
    assert top_1(embeddings, np.zeros(5, np.int64), Metric.EUCLIDEAN) == 1
    # Of equals the first row counts: row 1 for row 0, and row 0 for all others.
    assert top_1(embeddings, np.array([0, 1, 0, 1, 0]), Metric.EUCLIDEAN) == pytest.approx(2 / 5)


@pytest.mark.parametrize("n", [0, 1])
def test_top_1_of_fewer_than_two_makes_no_sense(n: int) -> None:
    with pytest.raises(UsageError, match="two"):
        top_1(np.zeros((n, 2), np.float32), np.zeros(n, np.int64), Metric.EUCLIDEAN)


@pytest.mark.parametrize("metric", FLOATS)
@pytest.mark.parametrize("seed", range(10))
def test_hit_rates_are_what_a_loop_finds(metric: Metric, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery = rng.integers(-1, 2, (9, 3)).astype(np.float32), rng.integers(-1, 2, (12, 3)).astype(np.float32)
    relevant = rng.random((9, 12)) < 0.1
    distances = pairwise(queries, gallery, metric).astype(np.float32)
    ks = (1, 5, 12, 30)
    expected = {}
    for k in ks:
        nearest = [np.argsort(row, kind="stable")[:k] for row in distances]
        expected[k] = np.mean([any(relevant[i, j] for j in rows) for i, rows in enumerate(nearest)])
    assert hit_rates(queries, gallery, relevant, ks, metric) == pytest.approx(expected)
