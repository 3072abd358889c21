"""A pivot table against the plain search: the same answers, to the last bit, on data chosen to break it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike import search
from lookalike.ann import pivots
from lookalike.ann.pivots import PivotTable, build, knn, pays, within
from lookalike.errors import UsageError
from lookalike.metric import Metric, pairwise
from lookalike.query import DistanceRange

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


def made(case: Case) -> tuple[Metric, Array, PivotTable]:
    metric, kind, seed, q, n, d, count = case
    rng = np.random.default_rng(seed)
    both = rng.integers(0, 4, (q + n, d), np.uint8) if metric is HAMMING else DATA[kind](rng, q + n, d)
    return metric, both[:q], build(both[q:], metric, count)


def same(pruned: pivots.Pruned, hits: search.Hits, table: PivotTable) -> None:
    found = pruned.hits
    assert found.exact
    assert found.complete
    assert [array.dtype.name for array in (found.offsets, found.rows, found.distances)] == ["int64", "int64", "float32"]
    np.testing.assert_array_equal(found.offsets, hits.offsets)
    np.testing.assert_array_equal(found.rows, hits.rows)
    np.testing.assert_array_equal(found.distances, hits.distances)
    assert np.all(pruned.measured <= len(table.pivots) + len(table.gallery))
    assert np.all(pruned.measured >= np.diff(found.offsets))


@settings(deadline=None, max_examples=120)
@given(cases, st.integers(1, 310))
def test_knn_is_that_of_search(case: Case, k: int) -> None:
    metric, queries, table = made(case)
    same(knn(queries, table, k), search.knn(queries, table.gallery, k, metric), table)


@settings(deadline=None, max_examples=120)
@given(cases, st.floats(0, 1))
def test_within_is_that_of_search(case: Case, part: float) -> None:
    metric, queries, table = made(case)
    with np.errstate(over="ignore"):
        distances = np.sort(pairwise(queries, table.gallery.vectors, metric).astype(np.float32), axis=None)
    radius = float(distances[int(part * (len(distances) - 1))]) if len(distances) else 1.0
    same(within(queries, table, radius), search.within(queries, table.gallery, DistanceRange(0, radius), metric), table)


@pytest.mark.parametrize("metric", [EUCLIDEAN, COSINE])
def test_long_vectors(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((2000, 2)) @ rng.standard_normal((2, 1024)) + 3).astype(np.float32)
    vectors[1000:1100] = vectors[:100]
    table = build(vectors[50:], metric, 4)
    found = knn(vectors[30:70], table, 10)
    same(found, search.knn(vectors[30:70], table.gallery, 10, metric), table)
    assert found.measured.mean() < 0.15 * 2000


def test_few_distances_are_measured_where_few_dimensions_matter() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.random((20_000, 3)) @ np.linalg.qr(rng.standard_normal((32, 3)))[0].T).astype(np.float32)
    table = build(vectors, EUCLIDEAN, 8)
    assert knn(vectors[:20], table, 5).measured.max() < 400
    noise = rng.standard_normal((5_000, 64)).astype(np.float32)
    assert knn(noise[:5], build(noise, EUCLIDEAN, 8), 5).measured.min() > 4_000


def test_the_table_holds_distances_of_a_true_metric() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 4)).astype(np.float32)
    vectors[::9] = 0
    for metric, pivot in ((EUCLIDEAN, 1), (COSINE, 1), (COSINE, 0)):
        table = build(vectors, metric, 50)
        assert len(set(table.pivots.tolist())) == len(table.pivots)
        plain = pairwise(vectors[table.pivots], vectors, metric)
        expected = np.sqrt(2 * plain) if metric is COSINE else plain
        np.testing.assert_allclose(table.distances, expected, rtol=1e-6)
        directions = np.sqrt(2 * pairwise(vectors, vectors, COSINE))
        assert np.all(directions <= directions[:, [pivot]] + directions[[pivot]] + 1e-6)


def test_the_same_seed_gives_the_same_table() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    one, other = build(vectors, EUCLIDEAN, 5, seed=3), build(vectors, EUCLIDEAN, 5, seed=3)
    assert one.pivots.tolist() == other.pivots.tolist()
    assert len(one.pivots) == 5


def test_pivots_that_say_nothing_new_are_left_out() -> None:
    assert len(build(np.ones((50, 3)), EUCLIDEAN, 16).pivots) == 1
    assert len(build(np.ones((0, 3)), EUCLIDEAN, 16).pivots) == 0
    assert len(build(np.eye(3), EUCLIDEAN, 16).pivots) == 2  # the third would bound no pair any better


VECTORS = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: build(VECTORS, EUCLIDEAN, 0), "at least 1 pivot, not 0"),
        (lambda: build(VECTORS * np.nan, EUCLIDEAN), "holds NaN"),
        (lambda: build(VECTORS, HAMMING), "packbits"),
        (lambda: build(search.prepare(VECTORS, EUCLIDEAN), HAMMING), "not prepared for the hamming"),
        (lambda: knn(VECTORS, build(VECTORS, EUCLIDEAN), 0), "k must be at least 1"),
        (lambda: knn(np.ones((1, 3)), build(VECTORS, EUCLIDEAN), 1), "dimension 3 and 2"),
        (lambda: within(VECTORS, build(VECTORS, EUCLIDEAN), -1), "at least 0, not -1"),
        (lambda: within(VECTORS, build(VECTORS, EUCLIDEAN), np.nan), "at least 0, not nan"),
        (lambda: pays(VECTORS, EUCLIDEAN), "at least 1,000"),
    ],
)
def test_what_makes_no_sense_is_refused(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ask()


def test_the_intrinsic_dimension_is_that_of_chavez() -> None:
    rng = np.random.default_rng(0)
    sample = rng.random((3_000, 1)).astype(np.float32)
    # Distances of uniform points on a line: mean 1/3, variance 1/18, so 1/9 over 1/9.
    assert pays(sample, EUCLIDEAN).intrinsic_dimension == pytest.approx(1, abs=0.05)
    few = pays(rng.standard_normal((3_000, 4)).astype(np.float32), EUCLIDEAN)
    many = pays(rng.standard_normal((3_000, 400)).astype(np.float32), EUCLIDEAN)
    assert few.intrinsic_dimension < 6
    assert many.intrinsic_dimension > 100
    assert few.share < 0.2
    assert 0.9 < many.share <= 1
    assert not many.pays
