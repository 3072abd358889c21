"""Exact search against its definition, on data chosen to break float32, ties and chunk boundaries."""

import itertools
import math
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import (
    Gallery,
    Hits,
    JoinChunk,
    Pairs,
    bounds,
    engine,
    join,
    knn,
    prepare,
    self_join,
    within,
    within_sorted,
)
from lookalike.search.prefilters import projected

Array = np.ndarray[Any, np.dtype[Any]]
EUCLIDEAN, COSINE, HAMMING = Metric
BUDGETS = [1_000, 10_000, 64 * 2**20]


def definition(a: Array, b: Array, metric: Metric) -> Array:
    """Compute distances by the plain formula."""
    if metric == HAMMING:
        return np.asarray(np.unpackbits(np.bitwise_xor(a[:, None], b), axis=2).sum(axis=2), np.float32)
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)
    if metric == EUCLIDEAN:
        with np.errstate(over="ignore"):
            return np.asarray(np.sqrt(((a - b) ** 2).sum(axis=2)), np.float32)
    norms = np.sqrt((a * a).sum(axis=2) * (b * b).sum(axis=1))
    cosines = (a * b).sum(axis=2) / np.where(norms > 0, norms, 1)
    return np.asarray(np.clip(1 - cosines, 0, 2), np.float32)


def middle(distances: Array, part: float = 0.5) -> float:
    """Choose a distance that occurs, so that a range must include it."""
    return float(np.sort(distances, axis=None)[int(part * (distances.size - 1))]) if distances.size else 1.0


def nearest(distances: Array, k: int) -> list[list[tuple[int, float]]]:
    return [[(j, row[j]) for j in np.argsort(row, kind="stable")[:k].tolist()] for row in distances]


def inside(distances: Array, radius: float, minimum: float = 0) -> list[list[tuple[int, float]]]:
    low, high = np.float32(minimum), np.float32(radius)
    return [[(j, x) for j, x in row if low <= x <= high] for row in nearest(distances, distances.shape[1])]


def listed(hits: Hits) -> list[list[tuple[int, float]]]:
    assert hits.exact
    assert hits.complete
    assert [array.dtype.name for array in (hits.offsets, hits.rows, hits.distances)] == ["int64", "int64", "float32"]
    return [list(zip(rows.tolist(), distances, strict=True)) for rows, distances in hits]


def triples(chunks: Iterator[JoinChunk]) -> list[tuple[int, int, float]]:
    found: list[tuple[int, int, float]] = []
    done = 0
    for chunk in chunks:
        assert chunk.done >= done
        assert len(chunk) or chunk.done > done
        done = chunk.done
        assert [array.dtype.name for array in (chunk.left, chunk.right, chunk.distances)] == [
            "int64",
            "int64",
            "float32",
        ]
        these = list(zip(chunk.left.tolist(), chunk.right.tolist(), chunk.distances, strict=True))
        assert these == sorted(these, key=lambda pair: (pair[0], pair[2], pair[1]))
        found += these
    assert len({pair[:2] for pair in found}) == len(found)
    return sorted(found)


def grid(rng: np.random.Generator, n: int, d: int) -> Array:
    return rng.integers(-1, 2, (n, d)).astype(np.float32)


def duplicates(rng: np.random.Generator, n: int, d: int) -> Array:
    return rng.standard_normal((3, d)).astype(np.float32)[rng.integers(0, 3, n)]


def near_duplicates(rng: np.random.Generator, n: int, d: int) -> Array:
    return np.nextafter(duplicates(rng, n, d), np.float32(np.inf), dtype=np.float32) * grid(rng, n, 1)


def scaled(scale: float) -> Callable[[np.random.Generator, int, int], Array]:
    return lambda rng, n, d: (rng.standard_normal((n, d)) * scale).astype(np.float32)


def offset(by: float) -> Callable[[np.random.Generator, int, int], Array]:
    return lambda rng, n, d: (rng.integers(-2, 3, (n, 1)) * 4 + rng.standard_normal((n, d)) + by).astype(np.float32)


def mixed_scales(rng: np.random.Generator, n: int, d: int) -> Array:
    return (rng.standard_normal((n, d)) * 10.0 ** rng.integers(-44, 38, (n, 1))).astype(np.float32)


DATA: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "random": scaled(1),
    "grid": grid,
    "duplicates": duplicates,
    "near duplicates": near_duplicates,
    "zeros": lambda _rng, n, d: np.zeros((n, d), np.float32),
    "subnormal": scaled(1e-44),
    "tiny": scaled(1e-25),
    "small": scaled(1e-12),
    "large": scaled(1e14),
    "huge": scaled(1e18),
    "largest": scaled(3e37),
    "offset": offset(1e3),
    "far offset": offset(1e6),
    "mixed scales": mixed_scales,
}

cases = st.tuples(
    st.sampled_from(list(Metric)),
    st.sampled_from(list(DATA)),
    st.integers(0, 2**32),
    st.integers(0, 12),
    st.integers(0, 60),
    st.sampled_from([1, 2, 3, 8, 17, 130]),
    st.sampled_from(BUDGETS),
)
Case = tuple[Metric, str, int, int, int, int, int]


def made(case: Case) -> tuple[Metric, Array, Array]:
    metric, kind, seed, q, n, d, _ = case
    rng = np.random.default_rng(seed)
    if metric == HAMMING:
        return metric, rng.integers(0, 4, (q, d), np.uint8), rng.integers(0, 4, (n, d), np.uint8)
    both = DATA[kind](rng, q + n, d)
    return metric, both[:q], both[q:]


@pytest.fixture(autouse=True)
def _usual_budget() -> Iterator[None]:
    budget = bounds.BUDGET
    yield
    bounds.BUDGET = budget


@settings(max_examples=300)
@given(cases, st.integers(1, 70))
def test_knn_equals_its_definition(case: Case, k: int) -> None:
    metric, a, b = made(case)
    bounds.BUDGET = case[-1]
    distances = definition(a, b, metric)
    assert listed(knn(a, b, k, metric)) == nearest(distances, k)


@settings(max_examples=300)
@given(cases, st.floats(0, 1))
def test_within_equals_its_definition(case: Case, part: float) -> None:
    metric, a, b = made(case)
    bounds.BUDGET = case[-1]
    distances = definition(a, b, metric)
    radius = middle(distances, part)
    assert listed(within(a, b, DistanceRange(0, radius), metric)) == inside(distances, radius)


@given(cases, st.floats(0, 1), st.floats(0, 1))
def test_within_from_a_minimum_distance_on(case: Case, one: float, other: float) -> None:
    metric, a, b = made(case)
    bounds.BUDGET = case[-1]
    distances = definition(a, b, metric)
    minimum, radius = (middle(distances, part) for part in sorted((one, other)))
    expected = inside(distances, radius, minimum)
    assert listed(within(a, b, DistanceRange(minimum, radius), metric)) == expected
    assert triples(join(a, b, metric, within=DistanceRange(minimum, radius))) == sorted(
        (i, j, x) for i, row in enumerate(expected) for j, x in row
    )
    once = [
        (i, j, x) for i, row in enumerate(inside(definition(b, b, metric), radius, minimum)) for j, x in row if i < j
    ]
    assert triples(self_join(b, metric, within=DistanceRange(minimum, radius))) == sorted(once)


@given(cases, st.floats(0, 1), st.floats(0, 1), st.randoms(use_true_random=False))
def test_within_sorted_equals_within_in_chunks(case: Case, one: float, other: float, random: Random) -> None:
    metric, a, b = made(case)
    bounds.BUDGET = case[-1]
    rows = np.array(sorted(random.sample(range(len(b)), random.randint(0, len(b)))), np.int64)
    for query in a[:3, None]:
        distances = definition(query, b[rows], metric)
        minimum, radius = (middle(distances, part) for part in sorted((one, other)))
        chunks = list(within_sorted(query, b, DistanceRange(minimum, radius), metric, rows=rows))
        found = [pair for chunk in chunks for pair in zip(chunk.right.tolist(), chunk.distances, strict=True)]
        assert found == [(rows[j], x) for j, x in inside(distances, radius, minimum)[0]]
        assert all(0 < len(chunk) <= max(1, bounds.BUDGET // engine.PAIR) for chunk in chunks)
        assert not any(chunk.left.any() for chunk in chunks)


@given(cases, st.integers(1, 70), st.integers(0, 20))
def test_a_join_resumes_at_a_left_row(case: Case, k: int, stop: int) -> None:
    metric, a, b = made(case)
    bounds.BUDGET = case[-1]
    radius = middle(definition(b, b, metric))
    asks: list[Callable[[int], Iterator[JoinChunk]]] = [
        lambda begin: join(b, a, metric, k=k, begin=begin),
        lambda begin: join(b, a, metric, within=DistanceRange(0, radius), begin=begin),
        lambda begin: self_join(b, metric, k=k, begin=begin),
        lambda begin: self_join(b, metric, within=DistanceRange(0, radius), begin=begin),
    ]
    for ask in asks:
        whole = triples(ask(0))
        given: list[JoinChunk] = list(itertools.islice(ask(0), stop))
        grown = [i for i, chunk in enumerate(given) if chunk.done > (given[i - 1].done if i else 0)]
        kept = given[: grown[-1] + 1] if grown else []
        rest = ask(kept[-1].done if kept else 0)
        assert triples(itertools.chain(kept, rest)) == whole


@given(cases, st.integers(1, 70), st.randoms(use_true_random=False))
def test_rows_restrict_the_search(case: Case, k: int, random: Random) -> None:
    metric, a, b = made(case)
    bounds.BUDGET = case[-1]
    rows = np.array(sorted(random.sample(range(len(b)), random.randint(0, len(b)))), np.int64)
    distances = definition(a, b[rows], metric)
    radius = middle(distances)
    for found, expected in (
        (knn(a, b, k, metric, rows=rows), nearest(distances, k)),
        (within(a, b, DistanceRange(0, radius), metric, rows=rows), inside(distances, radius)),
    ):
        assert listed(found) == [[(rows[j], x) for j, x in row] for row in expected]


@given(cases, st.integers(1, 70))
def test_join_equals_knn_and_within_of_each_row(case: Case, k: int) -> None:
    metric, a, b = made(case)
    bounds.BUDGET = case[-1]
    distances = definition(a, b, metric)
    radius = middle(distances)
    for found, expected in (
        (join(a, b, metric, k=k), nearest(distances, k)),
        (join(a, b, metric, within=DistanceRange(0, radius)), inside(distances, radius)),
    ):
        assert triples(found) == sorted((i, j, x) for i, row in enumerate(expected) for j, x in row)


@given(cases, st.integers(1, 70))
def test_self_join_gives_each_pair_once_and_no_row_with_itself(case: Case, k: int) -> None:
    metric, _, b = made(case)
    bounds.BUDGET = case[-1]
    distances = definition(b, b, metric)
    radius = middle(distances)
    near = [(i, j, x) for i, row in enumerate(inside(distances, radius)) for j, x in row if i < j]
    assert triples(self_join(b, metric, within=DistanceRange(0, radius))) == sorted(near)
    others = [[(j, x) for j, x in row if j != i][:k] for i, row in enumerate(nearest(distances, len(b)))]
    pairs = {(min(i, j), max(i, j), x) for i, row in enumerate(others) for j, x in row}
    assert triples(self_join(b, metric, k=k)) == sorted(pairs)


@pytest.mark.parametrize("metric", [EUCLIDEAN, COSINE])
@pytest.mark.slow
def test_many_long_vectors(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((10_000, 2_048), np.float32)
    gallery[5_000:5_050] = gallery[100:150]
    queries = np.concatenate([gallery[100:103], rng.standard_normal((2, 2_048), np.float32)])
    distances = np.concatenate([definition(query[None], gallery, metric) for query in queries])
    radius = float(np.sort(distances[4])[50])
    assert listed(knn(queries, gallery, 20, metric)) == nearest(distances, 20)
    assert listed(within(queries, gallery, DistanceRange(0, radius), metric)) == inside(distances, radius)
    assert knn(queries, gallery, 2, metric)[0][0].tolist() == [100, 5_000]
    assert knn(queries, gallery, 2, metric)[0][1].tolist() == [0, 0]


@pytest.mark.parametrize("metric", list(Metric))
def test_single_queries_and_batches_are_bit_identical(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((2, 600, 96)) * 40).astype(metric.dtype)
    prepared = prepare(b, metric)
    radius = float(knn(a, prepared, 30, metric)[0][1][-1])
    asks: list[Callable[[Array], Hits]] = [
        lambda x: knn(x, prepared, 30, metric),
        lambda x: within(x, prepared, DistanceRange(0, radius), metric),
    ]
    for ask in asks:
        single = list(itertools.chain.from_iterable(listed(ask(a[i : i + 1])) for i in range(len(a))))
        assert listed(ask(a)) == listed(ask(a)) == single


@pytest.mark.parametrize("radius", [0, math.inf])
@pytest.mark.parametrize("kind", list(DATA))
def test_the_ends_of_the_radius(kind: str, radius: float) -> None:
    data = DATA[kind](np.random.default_rng(1), 50, 5)
    distances = definition(data, data, EUCLIDEAN)
    assert listed(within(data, data, DistanceRange(0, radius), EUCLIDEAN)) == inside(distances, radius)


@pytest.mark.parametrize("metric", list(Metric))
def test_one_side_empty(metric: Metric) -> None:
    none, some = np.zeros((0, 3), metric.dtype), np.ones((4, 3), metric.dtype)
    asks: list[Callable[[Array, Array], Hits]] = [
        lambda x, y: knn(x, y, 5, metric),
        lambda x, y: within(x, y, DistanceRange(0, 5), metric),
    ]
    for ask in asks:
        assert listed(ask(none, some)) == []
        assert listed(ask(some, none)) == [[]] * 4
        assert listed(ask(none, none)) == []
    for chunks in (
        join(none, some, metric, k=1),
        join(some, none, metric, within=DistanceRange(0, 1)),
        join(some, none, metric, k=1),
        self_join(none, metric, k=1),
        self_join(none, metric, within=DistanceRange(0, 1)),
        self_join(some[:1], metric, k=3),
    ):
        assert triples(chunks) == []
    assert list(within_sorted(some[:1], none, DistanceRange(0, 1), metric)) == []


def test_a_gallery_serves_euclidean_and_cosine_distance() -> None:
    data = DATA["random"](np.random.default_rng(0), 40, 6)
    for made_for, asked in itertools.product((EUCLIDEAN, COSINE), repeat=2):
        prepared = prepare(data, made_for)
        assert listed(knn(prepared, prepared, 3, asked)) == nearest(definition(data, data, asked), 3)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8", ">f4", "<f4"])
def test_other_numbers_become_float32(dtype: str) -> None:
    data = np.random.default_rng(0).integers(0, 9, (30, 5))
    assert listed(knn(data.astype(dtype), data.astype(dtype), 4, EUCLIDEAN)) == nearest(
        definition(data, data, EUCLIDEAN), 4
    )


def test_any_layout_in_memory() -> None:
    data = np.random.default_rng(0).standard_normal((80, 20)).astype(np.float32)
    for other in (np.asfortranarray(data), data[::2, ::3], data[::-1], data.T):
        assert listed(knn(other, other, 4, EUCLIDEAN)) == nearest(definition(other, other, EUCLIDEAN), 4)
    codes = np.random.default_rng(0).integers(0, 256, (40, 24), np.uint8)
    for other in (np.asfortranarray(codes), codes[::2, ::3], codes[:, 1:], codes.T):
        assert listed(knn(other, other, 4, HAMMING)) == nearest(definition(other, other, HAMMING), 4)


@pytest.mark.parametrize("metric", list(Metric))
def test_a_memory_mapped_gallery_stays_memory_mapped(metric: Metric, tmp_path: Path) -> None:
    data = (np.random.default_rng(0).standard_normal((50, 11)) * 50).astype(metric.dtype)
    np.save(tmp_path / "gallery.npy", data)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    prepared = prepare(mapped, metric)
    assert np.shares_memory(prepared.vectors, mapped)
    assert listed(knn(data, prepared, 3, metric)) == nearest(definition(data, data, metric), 3)


def peak(work: Callable[[], object]) -> int:
    """Measure the peak memory of a call, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("k", "within"), [(3, None), (None, DistanceRange(0, math.inf))])
@pytest.mark.slow
def test_a_join_takes_bounded_memory(k: int | None, within: DistanceRange | None) -> None:
    rng = np.random.default_rng(0)
    left, right = (prepare(rng.standard_normal((4_000, 8), np.float32), EUCLIDEAN) for _ in range(2))
    bounds.BUDGET = 2**20
    counts: list[int] = []
    used = peak(lambda: counts.extend(map(len, join(left, right, EUCLIDEAN, k=k, within=within))))
    assert sum(counts) == 4_000 * (k or 4_000)
    # The budget, a few arrays of 2¹⁶ float64 that are measured at a time, and the previous chunk, which map() holds.
    assert used < bounds.BUDGET + 4 * 8 * bounds.CACHED + 2**20


@pytest.mark.parametrize("case", ["chosen rows", "a part of each row", "float64"])
def test_a_batch_copies_no_more_than_a_tile_of_the_gallery(case: str) -> None:
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((40_000, 128), np.float32) * (1e30 if case == "float64" else 1)
    gallery = prepare(wide[:, :64] if case == "a part of each row" else wide, EUCLIDEAN)
    rows = np.arange(0, len(wide), 8) if case == "chosen rows" else None
    queries = gallery.take(np.array([3, 5]))
    bounds.BUDGET = 2**20
    assert peak(lambda: knn(queries, gallery, 2, EUCLIDEAN, rows=rows)) < bounds.BUDGET + 5 * 8 * bounds.CACHED


def test_projection_takes_bounded_memory() -> None:
    flat = np.random.default_rng(0).random((300_000, 2), np.float32)
    assert peak(lambda: projected.project(flat, EUCLIDEAN)) < bounds.BUDGET


def test_numpy_integers_and_scalars_are_numbers() -> None:
    data = np.eye(4, dtype=np.float32)
    assert listed(knn(data, data, np.int64(2), COSINE)) == listed(knn(data, data, 2, COSINE))
    assert listed(within(data, data, DistanceRange(0, 0.5), COSINE)) == [[(i, 0)] for i in range(4)]


def test_hits() -> None:
    parts = [
        Pairs(np.array([2, 0, 2]), np.array([7, 5, 1]), np.array([1, 2, 1], np.float32)),
        Pairs(np.array([0]), np.array([9]), np.array([0], np.float32)),
    ]
    hits = Hits.from_pairs(parts, 4, exact=False)
    assert len(hits) == 4
    assert [rows.tolist() for rows, _ in hits] == [[9, 5], [], [1, 7], []]
    assert not hits.exact
    with pytest.raises(IndexError):
        hits[4]


DATA_2 = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: knn(DATA_2, DATA_2, 0, EUCLIDEAN), "k must be at least 1, not 0"),
        (lambda: knn(DATA_2, np.ones((3, 4)), 1, EUCLIDEAN), "dimension 2 and 4"),
        (lambda: knn(DATA_2[0], DATA_2, 1, EUCLIDEAN), r"v\[None\]"),
        (lambda: knn(DATA_2, DATA_2 * np.nan, 1, EUCLIDEAN), r"Row 0 \(3 in all\) holds NaN"),
        (lambda: knn(DATA_2 * np.inf, DATA_2, 1, COSINE), "infinite"),
        (lambda: prepare(DATA_2.astype(np.float64) * 1e300, COSINE), "infinite"),
        (lambda: knn(DATA_2, DATA_2 * 1j, 1, EUCLIDEAN), "complex64"),
        (lambda: knn(DATA_2, np.array([["a", "b"]]), 1, EUCLIDEAN), "real numbers"),
        (lambda: knn(DATA_2, DATA_2, 1, HAMMING), "packbits"),
        (lambda: knn(DATA_2, prepare(DATA_2.astype(np.uint8), HAMMING), 1, EUCLIDEAN), "not prepared for"),
        (lambda: knn(DATA_2, DATA_2, 1, EUCLIDEAN, rows=np.array([2, 1])), "ascend"),
        (lambda: knn(DATA_2, DATA_2, 1, EUCLIDEAN, rows=np.array([1, 1])), "ascend"),
        (lambda: knn(DATA_2, DATA_2, 1, EUCLIDEAN, rows=np.array([1, 3])), "between 0 and 2"),
        (lambda: knn(DATA_2, DATA_2, 1, EUCLIDEAN, rows=np.array([-1, 1])), "between 0 and 2"),
        (
            lambda: within(DATA_2, DATA_2, DistanceRange(0, 1), EUCLIDEAN, rows=np.array([True, False, True])),
            "flatnonzero",
        ),
        (lambda: within(DATA_2, DATA_2, 0.5, EUCLIDEAN), "DistanceRange"),  # type: ignore[arg-type]
        (lambda: self_join(DATA_2, EUCLIDEAN, within=0.5), "DistanceRange"),  # type: ignore[arg-type]
        (lambda: join(DATA_2, DATA_2, EUCLIDEAN), "either k or"),
        (lambda: join(DATA_2, DATA_2, EUCLIDEAN, k=1, within=DistanceRange(0, 1)), "either k or"),
        (lambda: join(DATA_2, DATA_2, EUCLIDEAN, k=0), "at least 1"),
        (lambda: self_join(DATA_2, EUCLIDEAN), "either k or"),
        (lambda: within_sorted(DATA_2, DATA_2, DistanceRange(0, 1), EUCLIDEAN), r"shape \(1, d\), not for 3"),
        (lambda: join(DATA_2, DATA_2, EUCLIDEAN, k=1, begin=4), "between 0 and 3, not at 4"),
        (lambda: self_join(DATA_2, EUCLIDEAN, within=DistanceRange(0, 1), begin=-1), "between 0 and 3, not at -1"),
    ],
)
def test_wrong_arguments_are_refused_at_once(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_a_gallery_has_a_length() -> None:
    assert len(prepare(DATA_2, COSINE)) == 3
    assert isinstance(prepare(DATA_2, COSINE), Gallery)
