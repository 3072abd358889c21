"""Retrieval measures against plain loops, enumeration and scikit-learn."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from lookalike.errors import UsageError
from lookalike.evaluation import distances
from lookalike.evaluation.labels import LabelledVectors
from lookalike.evaluation.retrieval import RetrievalScores, evaluate, hit_rates, leave_one_out, top_1
from lookalike.metric import Metric, pairwise

FLOATS = [Metric.EUCLIDEAN, Metric.COSINE]
KS = (1, 2, 5, 50)


def vectors(rng: np.random.Generator, n: int, metric: Metric, *, columns: int = 3) -> np.ndarray:
    """Return vectors of few values: many are equal, many distances are equal, and some vectors are zero."""
    if metric is Metric.HAMMING:
        return rng.integers(0, 4, (n, 1)).astype(np.uint8)
    return rng.integers(-1, 2, (n, columns)).astype(np.float32)


# ---- distances


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("scale", [1e-44, 1e-20, 1, 1e18, 3e37])
def test_distance_chunks_equal_the_definition(metric: Metric, scale: float) -> None:
    rng = np.random.default_rng(0)
    if metric is Metric.HAMMING:
        a = rng.integers(0, 256, (40, 9)).astype(np.uint8)
    else:
        a = (rng.standard_normal((40, 33)) * scale).astype(np.float32)
        a[7] = 0
        a[8] = a[9] * np.float32(1.000001)
    b = np.concatenate([a[20:], a[:30], a[5:6].repeat(300, axis=0)])
    left, right = distances.prepare_both(a, b, metric)
    with np.errstate(over="ignore"):
        expected = pairwise(a, b, metric).astype(np.float32)
    for part, block in distances.distance_chunks(left, right, metric):
        assert np.array_equal(block, expected[part])


def test_distance_chunks_are_bounded_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((70, 5)).astype(np.float32), rng.standard_normal((111, 5)).astype(np.float32)
    monkeypatch.setattr(distances, "CHUNK_BYTES", 4000)
    scores = list(distances.distance_chunks(*distances.prepare_both(a, b, Metric.EUCLIDEAN), Metric.EUCLIDEAN))
    assert all(block.nbytes <= 4000 for _, block in scores)
    assert [part.start for part, _ in scores] == list(range(0, 70, 9))
    expected = pairwise(a, b, Metric.EUCLIDEAN).astype(np.float32)
    assert np.array_equal(np.concatenate([block for _, block in scores]), expected)


# ---- rank measures, against all orders of ties


def plain(order: list[bool], relevant: int) -> dict[str, float]:
    """Return every rank measure of one ranking without ties."""
    first = next(i for i, hit in enumerate(order, 1) if hit)
    measures = {"top_1": float(order[0]), "r_precision": sum(order[:relevant]) / relevant, "mrr": 1 / first}
    for k in KS:
        scores = sum(order[:k])
        measures |= {f"precision_{k}": scores / k, f"recall_{k}": scores / relevant, f"hit_{k}": float(scores > 0)}
    return measures


def expected_over_orders(row: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    """Return the mean of `plain` over all rankings that the distances allow."""
    groups = [np.flatnonzero(row == d) for d in np.unique(row)]
    orders = itertools.product(*(set(itertools.permutations(relevant[g].tolist())) for g in groups))
    # Permutations of equal truths are one order; every order has the same number of permutations.
    measures = [plain([hit for group in order for hit in group], int(relevant.sum())) for order in orders]
    return {name: float(np.mean([f[name] for f in measures])) for name in measures[0]}


def rank_scores(scores: RetrievalScores) -> dict[str, float]:
    measures = {"top_1": scores.top_1, "r_precision": scores.r_precision, "mrr": scores.mrr}
    for k in KS:
        measures |= {
            f"precision_{k}": scores.precision_at[k],
            f"recall_{k}": scores.recall_at[k],
            f"hit_{k}": scores.hit_rate_at[k],
        }
    return measures


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("seed", range(12))
def test_rank_measures_are_means_over_all_orders_of_ties(metric: Metric, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 10))
    gallery, queries = vectors(rng, n, metric, columns=2), vectors(rng, 3, metric, columns=2)
    labels, query_labels = rng.integers(0, 3, n), rng.integers(0, 3, 3)
    query_labels[0] = labels[0]
    expected = []
    for row, label in zip(pairwise(queries, gallery, metric).astype(np.float32), query_labels, strict=True):
        if np.any(labels == label):
            expected.append(expected_over_orders(row, labels == label))
    scores = evaluate(LabelledVectors(queries, query_labels), LabelledVectors(gallery, labels), metric, ks=KS)
    assert rank_scores(scores) == pytest.approx({k: np.mean([e[k] for e in expected]) for k in expected[0]})
    assert (scores.queries, scores.without_relevant) == (len(expected), 3 - len(expected))


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=7))
def test_any_ranking_scores_the_mean_of_all_its_orders(items: list[tuple[int, bool]]) -> None:
    row, relevant = np.array([d for d, _ in items], np.float32), np.array([hit for _, hit in items])
    if not relevant.any():
        relevant[0] = True
    scores = evaluate(
        LabelledVectors(np.zeros((1, 1), np.float32), np.array([1])),
        LabelledVectors(row[:, None], relevant.astype(int)),
        Metric.EUCLIDEAN,
        ks=KS,
    )
    assert rank_scores(scores) == pytest.approx(expected_over_orders(row, relevant))


# ---- average precision and curves


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("seed", range(10))
def test_average_precision_equals_scikit_learn(metric: Metric, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gallery, queries = vectors(rng, 60, metric), vectors(rng, 20, metric)
    labels, query_labels = rng.integers(0, 4, 60), rng.integers(0, 5, 20)
    scores = evaluate(LabelledVectors(queries, query_labels), LabelledVectors(gallery, labels), metric, ks=(60,))
    rows = pairwise(queries, gallery, metric).astype(np.float32)
    expected = [
        average_precision_score(labels == label, -row) if label < 4 else np.nan
        for row, label in zip(rows, query_labels, strict=True)
    ]
    assert scores.average_precision == pytest.approx(np.array(expected), nan_ok=True)
    assert scores.map == pytest.approx(np.nanmean(expected))
    assert scores.map_at[60] == pytest.approx(scores.map)
    assert scores.without_relevant == np.sum(query_labels == 4)


@pytest.mark.parametrize("seed", range(10))
def test_average_precision_at_k_and_curves_equal_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gallery, queries = rng.standard_normal((40, 2)).astype(np.float32), rng.standard_normal((6, 2)).astype(np.float32)
    labels, query_labels = rng.integers(0, 3, 40), rng.integers(0, 3, 6)
    scores = evaluate(
        LabelledVectors(queries, query_labels), LabelledVectors(gallery, labels), Metric.EUCLIDEAN, ks=(1, 3, 10, 100)
    )
    order = pairwise(queries, gallery, Metric.EUCLIDEAN).argsort(axis=1)
    curves = []
    at: dict[int, list[float]] = {k: [] for k in (1, 3, 10, 100)}
    for ranked, label in zip(order, query_labels, strict=True):
        hits = (labels[ranked] == label).tolist()
        total = sum(hits)
        points = [(sum(hits[:i]), sum(hits[:i]) / i) for i in range(1, 41)]
        curves.append([max(p for hits_so_far, p in points if 100 * hits_so_far >= step * total) for step in range(101)])
        for k, values in at.items():
            gained = [sum(hits[:i]) / i for i in range(1, min(k, 40) + 1) if hits[i - 1]]
            values.append(sum(gained) / min(total, k))
    assert scores.map_at == pytest.approx({k: np.mean(v) for k, v in at.items()})
    assert scores.curve == pytest.approx(np.mean(curves, axis=0))
    assert scores.eleven_points == pytest.approx(np.mean(curves, axis=0)[::10])


def test_a_tie_at_rank_k_counts_by_its_expected_share() -> None:
    # One relevant item is nearest; two of the next four, at one distance, are relevant. k = 3 includes two of these four.
    gallery = np.array([[0], [1], [1], [1], [1]], np.float32)
    scores = evaluate(
        LabelledVectors(gallery[:1], np.array([1])),
        LabelledVectors(gallery, np.array([1, 1, 0, 1, 0])),
        Metric.EUCLIDEAN,
        ks=(3,),
    )
    assert scores.map_at[3] == pytest.approx((1 + (2 * 2 / 4) * (2 / 3)) / 3)


# ---- order of rows, own rows, classes


@pytest.mark.parametrize("metric", list(Metric))
def test_no_score_depends_on_the_order_of_rows(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    items, labels = vectors(rng, 50, metric), rng.integers(0, 4, 50)
    one = leave_one_out(LabelledVectors(items, labels), metric)
    order = rng.permutation(50)
    other = leave_one_out(LabelledVectors(items[order], labels[order]), metric)
    assert other.average_precision == pytest.approx(one.average_precision[order])
    assert other.curve == pytest.approx(one.curve)
    assert (other.top_1, other.map, other.mrr, other.r_precision) == pytest.approx(
        (one.top_1, one.map, one.mrr, one.r_precision)
    )
    for name in ("precision_at", "recall_at", "hit_rate_at", "map_at"):
        assert getattr(other, name) == pytest.approx(getattr(one, name))


@pytest.mark.parametrize("metric", list(Metric))
def test_an_item_is_left_out_of_its_own_ranking(metric: Metric) -> None:
    rng = np.random.default_rng(4)
    items, labels = vectors(rng, 30, metric), rng.integers(0, 3, 30)
    labels[11] = 9  # alone in its class
    scores = leave_one_out(LabelledVectors(items, labels), metric, ks=(3,))
    apart = [
        evaluate(
            LabelledVectors(items[[i]], labels[[i]]),
            LabelledVectors(np.delete(items, i, axis=0), np.delete(labels, i)),
            metric,
            ks=(3,),
        )
        for i in range(30)
        if i != 11
    ]
    assert scores.without_relevant == 1
    assert np.isnan(scores.average_precision[11])
    assert scores.map == pytest.approx(np.mean([a.map for a in apart]))
    assert scores.top_1 == pytest.approx(np.mean([a.top_1 for a in apart]))
    assert scores.mrr == pytest.approx(np.mean([a.mrr for a in apart]))
    assert scores.curve == pytest.approx(np.mean([a.curve for a in apart], axis=0))


def test_scores_by_class_equal_those_of_its_queries_alone() -> None:
    rng = np.random.default_rng(5)
    items, names = vectors(rng, 40, Metric.COSINE), np.array(["hat", "mug", "owl"])[rng.integers(0, 3, 40)]
    names[0] = "alone"
    scores = leave_one_out(LabelledVectors(items, names), Metric.COSINE)
    assert list(scores.by_class) == ["hat", "mug", "owl"]
    for name, of_class in scores.by_class.items():
        rows = np.flatnonzero(names == name)
        alone = evaluate(
            LabelledVectors(items[rows], names[rows]), LabelledVectors(items, names), Metric.COSINE, own_rows=rows
        )
        assert (of_class.queries, of_class.top_1, of_class.map, of_class.r_precision) == pytest.approx(
            (len(rows), alone.top_1, alone.map, alone.r_precision)
        )


def test_a_perfect_encoder_scores_1_and_a_collapsed_one_scores_chance() -> None:
    labels = np.repeat(np.arange(5), 20)
    perfect = leave_one_out(LabelledVectors(np.eye(5, dtype=np.float32)[labels], labels), Metric.COSINE)
    assert (perfect.top_1, perfect.map, perfect.mrr, perfect.r_precision) == (1, 1, 1, 1)
    assert np.all(perfect.curve == 1)
    collapsed = leave_one_out(LabelledVectors(np.ones((100, 3), np.float32), labels), Metric.COSINE)
    assert (collapsed.top_1, collapsed.map, collapsed.r_precision) == pytest.approx((19 / 99,) * 3)
    assert collapsed.precision_at == pytest.approx(dict.fromkeys((1, 5, 10), 19 / 99))


def test_labels_that_number_products_make_only_the_same_product_relevant() -> None:
    rng = np.random.default_rng(6)
    photos = rng.standard_normal((30, 8)).astype(np.float32)
    scores = evaluate(
        LabelledVectors(photos + np.float32(0.001), np.arange(30)),
        LabelledVectors(photos, np.arange(30)),
        Metric.EUCLIDEAN,
    )
    assert (scores.top_1, scores.mrr, scores.map) == (1, 1, 1)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    rng = np.random.default_rng(7)
    gallery, queries = rng.standard_normal((200_000, 4)).astype(np.float32), rng.standard_normal((60, 4))
    labels = rng.integers(0, 1000, 200_000)
    tracemalloc.start()
    evaluate(LabelledVectors(queries, np.arange(60)), LabelledVectors(gallery, labels), Metric.EUCLIDEAN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * distances.CHUNK_BYTES  # the table would take 48 MB in float32, and twice as much in float64


# ---- refusals


def test_invalid_arguments_are_refused() -> None:
    vectors_2d, labels, metric = np.zeros((3, 2), np.float32), np.zeros(3, int), Metric.EUCLIDEAN
    with pytest.raises(UsageError, match="No query has a relevant item"):
        evaluate(LabelledVectors(vectors_2d, labels), LabelledVectors(vectors_2d, labels + 1), metric)
    with pytest.raises(UsageError, match="No query has a relevant item"):
        leave_one_out(LabelledVectors(vectors_2d[:0], labels[:0]), metric)
    with pytest.raises(UsageError, match="No query has a relevant item"):
        leave_one_out(LabelledVectors(vectors_2d[:1], labels[:1]), metric)
    with pytest.raises(UsageError, match="at least 1"):
        leave_one_out(LabelledVectors(vectors_2d, labels), metric, ks=(0,))
    with pytest.raises(UsageError, match="NaN"):
        leave_one_out(LabelledVectors(np.full((3, 2), np.nan, np.float32), labels), metric)
    with pytest.raises(UsageError, match="dimension"):
        evaluate(LabelledVectors(vectors_2d, labels), LabelledVectors(np.zeros((3, 5), np.float32), labels), metric)
    with pytest.raises(UsageError, match="3 labels"):
        evaluate(LabelledVectors(vectors_2d, labels), LabelledVectors(vectors_2d, np.zeros((3, 1), int)), metric)
    with pytest.raises(UsageError, match="whole numbers or strings"):
        evaluate(LabelledVectors(vectors_2d, labels), LabelledVectors(vectors_2d, np.zeros(3)), metric)
    with pytest.raises(UsageError, match="one type"):
        evaluate(LabelledVectors(vectors_2d, labels), LabelledVectors(vectors_2d, labels.astype(str)), metric)
    with pytest.raises(UsageError, match="own row"):
        evaluate(
            LabelledVectors(vectors_2d, labels),
            LabelledVectors(vectors_2d, labels),
            metric,
            own_rows=np.array([0, 1, 3]),
        )


# ---- the fast approximations


def plain_top_1(embeddings: np.ndarray, labels: np.ndarray, metric: Metric) -> float:
    distances = pairwise(embeddings, embeddings, metric).astype(np.float32)
    right = 0
    for i, row in enumerate(distances):
        others = [(row[j], j) for j in range(len(row)) if j != i]
        right += labels[min(others)[1]] == labels[i]
    return right / len(labels)


@pytest.mark.parametrize("metric", FLOATS)
@pytest.mark.parametrize("seed", range(20))
def test_top_1_equals_a_plain_loop(metric: Metric, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    # Few values: many vectors are equal, many distances are equal, and some vectors are zero.
    embeddings = rng.integers(-1, 2, (n, int(rng.integers(1, 4)))).astype(np.float32)
    labels = rng.integers(0, 4, n)
    assert top_1(embeddings, labels, metric) == pytest.approx(plain_top_1(embeddings, labels, metric))


def test_top_1_of_copies_never_finds_the_item_itself() -> None:
    embeddings = np.zeros((5, 2), np.float32)
    assert top_1(embeddings, np.arange(5), Metric.EUCLIDEAN) == 0
    assert top_1(embeddings, np.zeros(5, np.int64), Metric.EUCLIDEAN) == 1
    # In a tie the first row counts: row 1 for row 0, and row 0 for all others.
    assert top_1(embeddings, np.array([0, 1, 0, 1, 0]), Metric.EUCLIDEAN) == pytest.approx(2 / 5)


@pytest.mark.parametrize("n", [0, 1])
def test_top_1_needs_two_items(n: int) -> None:
    with pytest.raises(UsageError, match="two"):
        top_1(np.zeros((n, 2), np.float32), np.zeros(n, np.int64), Metric.EUCLIDEAN)


@pytest.mark.parametrize("metric", FLOATS)
@pytest.mark.parametrize("seed", range(10))
def test_hit_rates_equal_a_plain_loop(metric: Metric, seed: int) -> None:
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
