"""Searches with and without a pivot table are bit-identical, on data chosen to break them."""

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookalike.errors import UsageError
from lookalike.metric import Metric, pairwise
from lookalike.query import DistanceRange
from lookalike.search import Gallery, Hits, bounds, knn, prefilters, prepare, update, within
from lookalike.search.prefilters import pivots
from lookalike.search.prefilters.pivots import PivotTable, build, count_measured, estimate

Array = np.ndarray[Any, np.dtype[Any]]
EUCLIDEAN, COSINE, HAMMING = Metric


def scaled(scale: float) -> Callable[[np.random.Generator, int, int], Array]:
    return lambda rng, n, d: (rng.standard_normal((n, d)) * scale).astype(np.float32)


def copies(rng: np.random.Generator, n: int, d: int) -> Array:
    return rng.standard_normal((3, d)).astype(np.float32)[rng.integers(0, 3, n)]


def near_copies(rng: np.random.Generator, n: int, d: int) -> Array:
    return np.nextafter(copies(rng, n, d), np.float32(np.inf), dtype=np.float32) * rng.integers(0, 2, (n, 1))


def line(rng: np.random.Generator, n: int, d: int) -> Array:
    """Bounds that are tight: on a line the inequality is an equality."""
    return (rng.random((n, 1)) * np.ones(d)).astype(np.float32)


def far_from_everything(rng: np.random.Generator, n: int, d: int) -> Array:
    return (rng.standard_normal((n, d)) + 1e6).astype(np.float32)


def mixed(rng: np.random.Generator, n: int, d: int) -> Array:
    return (rng.standard_normal((n, d)) * 10.0 ** rng.integers(-44, 38, (n, 1))).astype(np.float32)


DATA: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "random": scaled(1),
    "grid": lambda rng, n, d: rng.integers(-1, 2, (n, d)).astype(np.float32),
    "copies": copies,
    "near copies": near_copies,
    "line": line,
    "zeros": lambda _rng, n, d: np.zeros((n, d), np.float32),
    "subnormal": scaled(1e-44),
    "tiny": scaled(1e-25),
    "largest": scaled(3e37),
    "offset": far_from_everything,
    "mixed": mixed,
}

cases = st.tuples(
    st.sampled_from(list(Metric)),
    st.sampled_from(list(DATA)),
    st.integers(0, 2**32),
    st.integers(0, 4),
    st.integers(0, 300),
    st.sampled_from([1, 2, 3, 8, 17]),
    st.sampled_from([1, 3, 16]),
)
Case = tuple[Metric, str, int, int, int, int, int]


def made(case: Case) -> tuple[Metric, Array, Gallery]:
    metric, kind, seed, q, n, d, count = case
    rng = np.random.default_rng(seed)
    both = rng.integers(0, 4, (q + n, d), np.uint8) if metric is HAMMING else DATA[kind](rng, q + n, d)
    return metric, both[:q], with_pivots(both[q:], metric, count)


def with_pivots(vectors: Array, metric: Metric, count: int = 16) -> Gallery:
    gallery = prepare(vectors, metric)
    return replace(gallery, prefilters=(build(gallery, metric, count),))


def same(found: Hits, expected: Hits) -> None:
    assert found.exact
    assert found.complete
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.fixture(params=[1, 1 / 16])
def _share_left_open(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1 the vectors themselves are never compared: what the table leaves open is measured."""
    monkeypatch.setattr(pivots._Batch, "max_open", request.param)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases, st.integers(1, 310))
@pytest.mark.usefixtures("_share_left_open")
def test_knn_with_a_table_equals_knn_without(case: Case, k: int) -> None:
    metric, queries, gallery = made(case)
    same(knn(queries, gallery, k, metric), knn(queries, gallery.array, k, metric))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases, st.floats(0, 1))
@pytest.mark.usefixtures("_share_left_open")
def test_within_with_a_table_equals_within_without(case: Case, part: float) -> None:
    metric, queries, gallery = made(case)
    with np.errstate(over="ignore"):
        distances = np.sort(pairwise(queries, gallery.array, metric).astype(np.float32), axis=None)
    ends = DistanceRange(0, float(distances[int(part * (len(distances) - 1))]) if len(distances) else 1.0)
    same(within(queries, gallery, ends, metric), within(queries, gallery.array, ends, metric))


@settings(max_examples=60)
@given(cases, st.randoms(use_true_random=False))
def test_rows_and_changed_galleries_keep_their_answers(case: Case, random: Random) -> None:
    metric, queries, gallery = made(case)
    rows = np.array(sorted(random.sample(range(len(gallery)), random.randint(0, len(gallery)))), np.int64)
    same(knn(queries, gallery, 3, metric, rows=rows), knn(queries, gallery.array, 3, metric, rows=rows))
    # Half of the old rows, and new vectors between them.
    known = np.arange(2 * len(rows)) % 2 == 0
    vectors = np.repeat(gallery.vectors[rows], 2, axis=0)
    vectors[~known] = vectors[~known][::-1]
    changed = update(gallery, vectors, rows, known, metric)
    assert changed.prefilters
    same(knn(queries, changed, 3, metric), knn(queries, vectors, 3, metric))


@pytest.mark.parametrize("metric", list(Metric))
def test_a_table_is_restored_and_one_for_other_vectors_is_refused(metric: Metric) -> None:
    vectors = np.random.default_rng(0).integers(0, 9, (60, 5)).astype(metric.dtype)
    gallery = with_pivots(vectors, metric, 4)
    metadata, arrays = prefilters.save(gallery.prefilters)
    restored = prefilters.load(json.loads(json.dumps(metadata)), arrays, vectors.shape)
    same(knn(vectors[:3], replace(gallery, prefilters=restored), 4, metric), knn(vectors[:3], vectors, 4, metric))
    for shape in ((59, 5), (60, 4)):
        with pytest.raises(ValueError, match="other vectors"):
            prefilters.load(metadata, arrays, shape)


def needed(queries: Array, gallery: Gallery, metric: Metric, k: int) -> Array:
    """Count the distances that each k-NN query needs."""
    (table,) = gallery.prefilters
    assert isinstance(table, PivotTable)
    side, reach = prepare(queries, metric), knn(queries, gallery, k, metric).distances.reshape(-1, k)[:, -1]
    return count_measured(gallery, side, table, reach)


@pytest.mark.parametrize("metric", [EUCLIDEAN, COSINE])
def test_long_vectors(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((2000, 2)) @ rng.standard_normal((2, 1024)) + 3).astype(np.float32)
    vectors[1000:1100] = vectors[:100]
    gallery = with_pivots(vectors[50:], metric, 4)
    same(knn(vectors[30:70], gallery, 10, metric), knn(vectors[30:70], vectors[50:], 10, metric))
    assert needed(vectors[30:70], gallery, metric, 10).mean() < 0.15 * 2000


def test_few_distances_are_measured_at_low_intrinsic_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.random((20_000, 3)) @ np.linalg.qr(rng.standard_normal((32, 3)))[0].T).astype(np.float32)
    gallery, measured, real = with_pivots(vectors, EUCLIDEAN, 8), [], bounds.measure

    def counting(*given: object) -> object:
        measured.append(len(given[2]))  # type: ignore[arg-type]
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("lookalike.search.engine.measure", counting)
    for query in vectors[:20, None]:
        measured.clear()
        knn(query, gallery, 5, EUCLIDEAN)
        assert sum(measured) < 400
    assert needed(vectors[:20], gallery, EUCLIDEAN, 5).max() < 400
    noise = rng.standard_normal((5_000, 64)).astype(np.float32)
    assert needed(noise[:5], with_pivots(noise, EUCLIDEAN, 8), EUCLIDEAN, 5).min() > 4_000


def test_the_table_holds_distances_of_a_true_metric() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 4)).astype(np.float32)
    vectors[::9] = 0
    for metric, pivot in ((EUCLIDEAN, 1), (COSINE, 1), (COSINE, 0)):
        table = build(prepare(vectors, metric), metric, 50)
        assert len(np.unique(table.pivots, axis=0)) == len(table.pivots)
        plain = pairwise(table.pivots, vectors, metric)
        expected = np.sqrt(2 * plain) if metric is COSINE else plain
        np.testing.assert_allclose(table.distances, expected, rtol=1e-6)
        directions = np.sqrt(2 * pairwise(vectors, vectors, COSINE))
        assert np.all(directions <= directions[:, [pivot]] + directions[[pivot]] + 1e-6)


def test_the_same_seed_gives_the_same_table() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    gallery = prepare(vectors, EUCLIDEAN)
    one, other = build(gallery, EUCLIDEAN, 5, seed=3), build(gallery, EUCLIDEAN, 5, seed=3)
    np.testing.assert_array_equal(one.pivots, other.pivots)
    assert len(one.pivots) == 5


def test_redundant_pivots_are_left_out() -> None:
    assert len(build(prepare(np.ones((50, 3)), EUCLIDEAN), EUCLIDEAN, 16).pivots) == 1
    assert len(build(prepare(np.ones((0, 3)), EUCLIDEAN), EUCLIDEAN, 16).pivots) == 0
    assert (
        len(build(prepare(np.eye(3), EUCLIDEAN), EUCLIDEAN, 16).pivots) == 2
    )  # the third would bound no pair any better


SIDE = prepare(np.ones((3, 2), np.float32), EUCLIDEAN)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build(SIDE, EUCLIDEAN, 0), "at least 1 pivot, not 0"),
        (lambda: build(SIDE, HAMMING), "hamming"),
        (lambda: estimate(SIDE, EUCLIDEAN), "at least 1,000"),
    ],
)
def test_invalid_arguments_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_the_intrinsic_dimension_follows_chavez() -> None:
    rng = np.random.default_rng(0)
    sample = rng.random((3_000, 1)).astype(np.float32)
    # Distances of uniform points on a line: mean 1/3, variance 1/18, so 1/9 over 1/9.
    assert estimate(prepare(sample, EUCLIDEAN), EUCLIDEAN).intrinsic_dimension == pytest.approx(1, abs=0.05)
    few = estimate(prepare(rng.standard_normal((3_000, 4)), EUCLIDEAN), EUCLIDEAN)
    many = estimate(prepare(rng.standard_normal((3_000, 400)), EUCLIDEAN), EUCLIDEAN)
    assert few.intrinsic_dimension < 6
    assert many.intrinsic_dimension > 100
    assert few.share < 0.2
    assert 0.9 < many.share <= 1
    assert not many.pays
