"""One query over quantised galleries, against the definition."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import Gallery, Precision, bounds, knn, prepare, within, within_sorted
from lookalike.search.prefilters import quantised
from lookalike.search.prefilters.quantised import Quantised
from test_search import COSINE, DATA, EUCLIDEAN, HAMMING, definition, inside, listed, middle, nearest

Array = np.ndarray[Any, np.dtype[Any]]
PRECISIONS: tuple[Precision, ...] = ("int8", "float16")


@pytest.fixture(autouse=True)
def _small_galleries_are_compared_by_codes_in_tiles() -> Iterator[None]:
    usual = quantised._EXTRA, quantised._Query.max_open, bounds.BUDGET
    quantised._EXTRA, bounds.BUDGET = 0, 100 * 32
    yield
    quantised._EXTRA, quantised._Query.max_open, bounds.BUDGET = usual


def codes(gallery: Gallery) -> Quantised | None:
    return next((it for it in gallery.prefilters if isinstance(it, Quantised)), None)


def with_outliers(rng: np.random.Generator, n: int, d: int) -> Array:
    data = rng.standard_normal((n, d)).astype(np.float32)
    data[rng.integers(0, n, 2)] *= np.float32(1e6)
    return data


KINDS = DATA | {"outliers": with_outliers}


@settings(max_examples=100)
@given(
    st.tuples(
        st.sampled_from([EUCLIDEAN, COSINE]),
        st.sampled_from(list(KINDS)),
        st.sampled_from(PRECISIONS),
        st.integers(0, 2**32),
        st.integers(40, 250),
        st.sampled_from([1, 2, 3, 8, 16, 17, 64, 130]),
    ),
    st.integers(1, 5),
    st.floats(0, 1),
    st.sampled_from([1, 32]),
)
def test_answers_by_codes_equal_their_definition(
    case: tuple[Metric, str, Precision, int, int, int], k: int, part: float, open_: int
) -> None:
    metric, kind, precision, seed, n, d = case
    quantised._Query.max_open = 1 / open_
    rng = np.random.default_rng(seed)
    data = KINDS[kind](rng, n + 2, d)
    gallery, queries = prepare(data[:-2], metric, precision), data[-3:]  # one of them is in the gallery
    distances = definition(queries, gallery.array, metric)
    radius, minimum = middle(distances, part), middle(distances, part / 2)
    for i, query in enumerate(queries[:, None]):
        assert listed(knn(query, gallery, k, metric)) == nearest(distances, k)[i : i + 1]
        expected = inside(distances, radius, minimum)[i]
        assert listed(within(query, gallery, DistanceRange(minimum, radius), metric)) == [expected]
        chunks = list(within_sorted(query, gallery, DistanceRange(minimum, radius), metric))
        assert [
            pair for chunk in chunks for pair in zip(chunk.right.tolist(), chunk.distances, strict=True)
        ] == expected


@pytest.mark.parametrize(("metric", "precision"), list(itertools.product([EUCLIDEAN, COSINE], PRECISIONS)))
def test_clustered_data_is_answered_by_codes(
    metric: Metric, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, 32))
    data = (np.repeat(centres, 10, axis=0) + 0.05 * rng.standard_normal((2_000, 32))).astype(np.float32)
    gallery, query = prepare(data, metric, precision), data[:1] + np.float32(0.01)
    distances = definition(query, data, metric)
    monkeypatch.setattr(bounds, "BUDGET", 64 * 2**20)
    monkeypatch.setattr(bounds, "lower_bounds", None)  # the vectors themselves are not compared
    assert listed(knn(query, gallery, 5, metric)) == nearest(distances, 5)
    radius = float(np.sort(distances[0])[9])
    assert listed(within(query, gallery, DistanceRange(0, radius), metric)) == inside(distances, radius)


def test_the_residual_bounds_the_error_of_codes() -> None:
    data = with_outliers(np.random.default_rng(0), 3_000, 20)
    kept = codes(prepare(data, EUCLIDEAN, "int8"))
    assert kept is not None
    restored = kept.scale * (kept.codes.astype(np.float64) - 128) + kept.centre
    residuals = np.linalg.norm(data - restored, axis=1)
    assert set(np.flatnonzero(residuals > kept.residual)) <= set(kept.exceptions)
    assert 0 < len(kept.exceptions) <= 3
    assert kept.residual < 0.2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_codes_may_be_memory_mapped(precision: Precision, tmp_path: Path) -> None:
    data = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    gallery = prepare(data, EUCLIDEAN, precision)
    kept = codes(gallery)
    assert kept is not None
    np.save(tmp_path / "codes.npy", kept.codes)
    mapped = replace(kept, codes=np.load(tmp_path / "codes.npy", mmap_mode="r"))
    restored = replace(gallery, prefilters=(mapped,))
    assert listed(knn(data[:1], restored, 5, EUCLIDEAN)) == nearest(definition(data[:1], data, EUCLIDEAN), 5)


def test_queries_far_outside_the_range_of_codes() -> None:
    data = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    for precision, factor in itertools.product(PRECISIONS, (0, 1e3, 1e9, 1e15, 1e18, 3e37)):
        query = data[:1] * np.float32(factor)
        for metric in (EUCLIDEAN, COSINE):
            gallery = prepare(data, metric, precision)
            expected = nearest(definition(query, data, metric), 5)
            assert listed(knn(query, gallery, 5, metric)) == expected


@pytest.mark.parametrize("metric", [EUCLIDEAN, COSINE])
def test_galleries_of_no_and_one_vector(metric: Metric) -> None:
    for precision in PRECISIONS:
        for n in (0, 1):
            data = np.ones((n, 4), np.float32)
            gallery = prepare(data, metric, precision)
            query = np.ones((1, 4), np.float32)
            assert listed(knn(query, gallery, 3, metric)) == [[(0, 0.0)] * n]
            assert listed(within(query, gallery, DistanceRange(0, 1), metric)) == [[(0, 0.0)] * n]


def test_zeros_have_no_direction() -> None:
    data = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    data[::100] = 0
    gallery = prepare(data, COSINE, "int8")
    kept = codes(gallery)
    assert kept is not None
    assert set(range(0, 500, 100)) <= set(kept.exceptions)
    assert codes(prepare(np.zeros((500, 8), np.float32), COSINE, "int8")) is None
    for query in (data[:1], data[1:2]):
        distances = definition(query, data, COSINE)
        assert listed(knn(query, gallery, 20, COSINE)) == nearest(distances, 20)
        assert listed(within(query, gallery, DistanceRange(0, 1), COSINE)) == inside(distances, 1)


def test_codes_of_one_metric_are_not_used_for_another() -> None:
    data = DATA["offset"](np.random.default_rng(0), 500, 8)
    for made_for, asked in itertools.permutations([EUCLIDEAN, COSINE]):
        gallery = prepare(data, made_for, "int8")
        assert listed(knn(data[:1], gallery, 3, asked)) == nearest(definition(data[:1], data, asked), 3)


def test_bits_are_not_quantised() -> None:
    codes = np.random.default_rng(0).integers(0, 256, (300, 17), np.uint8)
    gallery = prepare(codes, HAMMING, "int8")
    assert not gallery.prefilters
    assert listed(knn(codes[:1], gallery, 9, HAMMING)) == nearest(definition(codes[:1], codes, HAMMING), 9)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match=r"int4.*float32, float16, int8"):
        prepare(np.ones((2, 2)), EUCLIDEAN, "int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", list(Metric))
def test_many_rows_of_a_gallery_and_few(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    data = (rng.standard_normal((20_000, 16)) * 40).astype(metric.dtype)
    gallery, query = prepare(data, metric), data[7:8]
    distances = definition(query, data, metric)[0]
    for rows in (
        np.arange(5),
        np.arange(0, 20_000, 900),
        np.flatnonzero(rng.random(20_000) < 0.9),
        np.arange(19_990, 20_000),
    ):
        expected = [(rows[j], x) for j, x in nearest(distances[None, rows], 8)[0]]
        assert listed(knn(query, gallery, 8, metric, rows=rows)) == [expected]
        expected = [(rows[j], x) for j, x in inside(distances[None, rows], middle(distances))[0]]
        assert listed(within(query, gallery, DistanceRange(0, middle(distances)), metric, rows=rows)) == [expected]
