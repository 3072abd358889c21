"""Joins and batches over projected galleries, against the definition."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import bounds, join, knn, prepare, self_join, within
from lookalike.search.prefilters import projected
from lookalike.search.prefilters.projected import Projected
from test_search import COSINE, DATA, EUCLIDEAN, definition, inside, listed, middle, nearest, triples

Array = np.ndarray


@pytest.fixture(autouse=True)
def _small_joins_are_projected_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(projected, "MIN_PAIRS", 0)
    monkeypatch.setattr(projected, "MIN_QUERIES", 0)
    monkeypatch.setattr(projected, "DIMENSIONS", (1, 2, 4))
    monkeypatch.setattr(projected, "_MEASURING_COST", (0, 0))
    monkeypatch.setattr(projected, "_MAX_COST", 1e3)
    budget = bounds.BUDGET
    yield
    bounds.BUDGET = budget


def near_a_plane(rng: np.random.Generator, n: int, d: int) -> Array:
    plane = rng.standard_normal((n, 2)) @ rng.standard_normal((2, d))
    return np.asarray(plane + 0.01 * rng.standard_normal((n, d)) + 3, np.float32)


KINDS = DATA | {"near a plane": near_a_plane}


@settings(max_examples=100)
@given(
    st.sampled_from([EUCLIDEAN, COSINE]),
    st.sampled_from(list(KINDS)),
    st.integers(0, 2**32),
    st.sampled_from([1, 4, 8, 17, 130]),
    st.floats(0, 1),
)
def test_joins_equal_their_definition(metric: Metric, kind: str, seed: int, d: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    bounds.BUDGET = int(rng.choice([10_000, 64 * 2**20]))
    data = KINDS[kind](rng, 70, d)
    a, b = data[:20], data[15:]
    distances, own = definition(a, b, metric), definition(b, b, metric)
    radius, minimum = middle(distances, share**3), middle(distances, share**3 / 2)
    expected = sorted((i, j, x) for i, row in enumerate(inside(distances, radius, minimum)) for j, x in row)
    assert triples(join(a, b, metric, within=DistanceRange(minimum, radius))) == expected
    once = sorted((i, j, x) for i, row in enumerate(inside(own, radius)) for j, x in row if i < j)
    assert triples(self_join(b, metric, within=DistanceRange(0, radius))) == once
    assert triples(self_join(b, metric, within=DistanceRange(0, radius), begin=30)) == [
        pair for pair in once if pair[0] >= 30
    ]


@settings(max_examples=100)
@given(
    st.sampled_from([EUCLIDEAN, COSINE]),
    st.sampled_from(list(KINDS)),
    st.integers(0, 2**32),
    st.sampled_from([1, 4, 8, 17, 130]),
    st.integers(1, 60),
)
@pytest.mark.slow
def test_nearest_neighbours_equal_their_definition(metric: Metric, kind: str, seed: int, d: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    bounds.BUDGET = int(rng.choice([10_000, 64 * 2**20]))
    data = KINDS[kind](rng, 70, d)
    a, b = data[:20], data[15:]
    distances = definition(a, b, metric)
    expected = [(i, j, x) for i, row in enumerate(nearest(distances, k)) for j, x in row]
    gallery = prepare(b, metric, "int8")
    assert any(isinstance(it, Projected) for it in gallery.prefilters) == (gallery.dtype == np.float32)
    for ready in (gallery, b):  # projected when it was prepared, and for these queries
        assert listed(knn(a, ready, k, metric)) == nearest(distances, k)
        assert triples(join(a, ready, metric, k=k)) == sorted(expected)
    rows = np.flatnonzero(rng.random(len(b)) < 0.5)
    some = [[(rows[j], x) for j, x in row] for row in nearest(distances[:, rows], k)]
    assert listed(knn(a, gallery, k, metric, rows=rows)) == some
    bounds.BUDGET = 64 * 2**20
    assert triples(self_join(gallery, metric, k=k)) == triples(self_join(b, metric, k=k))
    own = definition(b, b, metric)
    others = [[j for j, _ in row if j != i][:k] for i, row in enumerate(nearest(own, len(b)))]
    near = {(min(i, j), max(i, j)) for i, row in enumerate(others) for j in row}
    assert {pair[:2] for pair in triples(self_join(gallery, metric, k=k))} == near


@pytest.mark.parametrize("metric", [EUCLIDEAN, COSINE])
def test_data_near_a_plane_is_projected_and_noise_is_not(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projected, "_MEASURING_COST", (500, 2))
    monkeypatch.setattr(projected, "_MAX_COST", 1)
    rng = np.random.default_rng(0)
    flat = prepare(near_a_plane(rng, 500, 30), metric)
    noise = prepare(rng.standard_normal((500, 30)).astype(np.float32), metric)
    near = middle(definition(flat.array, flat.array, metric), 0.004)
    assert projected.project_for(flat.array, flat.array, np.array([near], np.float32), metric) is not None
    usual = middle(definition(noise.array, noise.array, metric))
    assert projected.project_for(noise.array, noise.array, np.array([usual], np.float32), metric) is None


def test_a_gallery_is_not_projected_for_a_subset_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = near_a_plane(np.random.default_rng(0), 300, 30)
    rows, distances = np.arange(0, 300, 3), definition(data, data[::3], EUCLIDEAN)
    near = middle(distances, 0.1)
    monkeypatch.delattr(projected, "project_for")
    with pytest.raises(NameError):
        within(data, data, DistanceRange(0, near), EUCLIDEAN)
    for found, expected in (
        (knn(data, data, 4, EUCLIDEAN, rows=rows), nearest(distances, 4)),
        (within(data, data, DistanceRange(0, near), EUCLIDEAN, rows=rows), inside(distances, near)),
    ):
        assert listed(found) == [[(rows[j], x) for j, x in row] for row in expected]


def test_a_range_join_measures_few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    data = near_a_plane(np.random.default_rng(0), 600, 30)
    measured = []

    def counting(*given: object) -> object:
        measured.append(len(given[2]))  # type: ignore[arg-type]
        return real(*given)  # type: ignore[arg-type]

    real = bounds.measure
    monkeypatch.setattr("lookalike.search.engine.measure", counting)
    found = triples(self_join(data, EUCLIDEAN, within=DistanceRange(0, 0.5)))
    assert len(found) > 100
    assert sum(measured) < 3 * len(found) + len(data)


def test_a_knn_batch_measures_few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    data = near_a_plane(np.random.default_rng(0), 2_000, 30)
    gallery, measured = prepare(data[200:], EUCLIDEAN, "int8"), []

    def counting(*given: object) -> object:
        measured.append(len(given[2]))  # type: ignore[arg-type]
        return real(*given)  # type: ignore[arg-type]

    real = bounds.measure
    monkeypatch.setattr("lookalike.search.engine.measure", counting)
    knn(data[:200], gallery, 5, EUCLIDEAN)
    assert sum(measured) < 5 * 5 * 200
