"""Approximate indexes over arrays: true and sorted distances, at the measured recall."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import ann, search
from lookalike.ann.index import Index, _nearest_in_float32, build, knn, within
from lookalike.ann.tuning import tune
from lookalike.errors import StorageError, UsageError
from lookalike.metric import Metric, paired
from lookalike.query import DistanceRange
from lookalike.search import Gallery
from recorder import Recorder

Array = np.ndarray[Any, np.dtype[Any]]


def clustered(count: int, dimension: int = 16, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((60, dimension))  # the same for every seed
    return (centres[rng.integers(0, 60, count)] + 0.5 * rng.standard_normal((count, dimension))).astype(np.float32)


def made(vectors: Array, metric: Metric, kind: ann.Kind = "hnsw") -> tuple[Index, Gallery, float]:
    gallery = search.prepare(vectors, metric)
    index = build(gallery, metric, kind)
    assert index is not None
    return *(found := tune(index, gallery, 0.95))[:1], gallery, found[1]


@pytest.fixture(scope="module", params=[("hnsw", Metric.EUCLIDEAN), ("hnsw", Metric.COSINE), ("ivf-pq", Metric.COSINE)])
def indexed(request: pytest.FixtureRequest) -> tuple[Index, Gallery, float]:
    kind, metric = request.param
    return made(clustered(1500), metric, kind)


def recall(found: search.Hits, exact: search.Hits) -> float:
    good = [np.count_nonzero(d <= e[-1]) / len(e) for (_, d), (_, e) in zip(found, exact, strict=True) if len(e)]
    return float(np.mean(good))


def test_the_measured_recall_holds_for_other_queries(indexed: tuple[Index, Gallery, float]) -> None:
    index, gallery, stated = indexed
    assert stated >= 0.93  # chosen for 0.95 on one sample, measured on another
    queries = search.prepare(clustered(300, seed=7), index.metric)
    for k in (1, 10, 50):
        found = knn(index, queries, gallery, k)
        assert recall(found, search.knn(queries, gallery, k, index.metric)) >= stated - 0.05
        assert not found.exact


def test_distances_are_true_and_sorted(indexed: tuple[Index, Gallery, float]) -> None:
    index, gallery, _ = indexed
    queries = search.prepare(clustered(20, seed=3), index.metric)
    for number, (rows, distances) in enumerate(knn(index, queries, gallery, 10)):
        expected = paired(queries.array[number][None], gallery.array[rows], index.metric).astype(np.float32)
        assert np.array_equal(distances, expected)
        assert np.array_equal(np.lexsort((rows, distances)), np.arange(10))
        assert len(set(rows.tolist())) == 10


def test_within_finds_all_rows_up_to_the_recall(indexed: tuple[Index, Gallery, float]) -> None:
    index, gallery, stated = indexed
    queries = search.prepare(clustered(30, seed=3), index.metric)
    some = np.sort(search.knn(queries, gallery, 200, index.metric).distances)
    for radius in (some[0], some[len(some) // 2], some[-1]):
        found = within(index, queries, gallery, DistanceRange(0, float(radius)))
        exact = search.within(queries, gallery, DistanceRange(0, float(radius)), index.metric)
        assert found.complete
        assert np.all(found.distances <= radius)
        assert len(found.rows) >= (stated - 0.1) * len(exact.rows)  # stated at k = 10
        assert all(set(rows) <= set(exact_rows) for (rows, _), (exact_rows, _) in zip(found, exact, strict=True))
    everything = within(index, queries, gallery, DistanceRange(0, float("inf")))
    assert len(everything.rows) == 30 * 1500 or not everything.complete


def test_within_has_a_minimum_distance_in_float32(indexed: tuple[Index, Gallery, float]) -> None:
    index, gallery, _ = indexed
    queries = search.prepare(gallery.vectors[:5], index.metric)
    far = float(np.median(search.knn(queries, gallery, 40, index.metric).distances))
    found = within(index, queries, gallery, DistanceRange(far / 2, far))
    assert len(found.rows)
    assert np.all((found.distances >= np.float32(far / 2)) & (found.distances <= np.float32(far)))


def test_a_range_with_too_many_rows_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    index, gallery, _ = made(clustered(1500), Metric.EUCLIDEAN)
    monkeypatch.setattr("lookalike.ann.index._MAX_PROPOSED", 64)
    found = within(index, search.prepare(gallery.vectors[:2], Metric.EUCLIDEAN), gallery, DistanceRange(0, 100))
    assert not found.complete


def test_removed_and_filtered_rows_are_not_found(indexed: tuple[Index, Gallery, float]) -> None:
    index, gallery, _ = indexed
    rng = np.random.default_rng(0)
    kept = np.flatnonzero(rng.random(1500) < 0.6)
    places = np.full(1500, -1)
    places[kept] = np.arange(len(kept))  # the others have gone, so all rows have moved
    among = rng.random(1500) < 0.5
    smaller = gallery.take(kept)
    queries = search.prepare(clustered(50, seed=5), index.metric)
    allowed = places[among & (places >= 0)]
    exact = search.knn(queries, smaller, 10, index.metric, rows=allowed)
    found = knn(index, queries, smaller, 10, row_map=ann.RowMap(places), allowed=among)
    assert set(found.rows.tolist()) <= set(allowed.tolist())
    assert recall(found, exact) >= 0.9


def test_k_may_exceed_the_number_of_rows(indexed: tuple[Index, Gallery, float]) -> None:
    index, gallery, _ = indexed
    ((rows, _),) = knn(index, gallery.take(slice(0, 1)), gallery, 5000)
    assert 1400 <= len(rows) <= 1500
    nothing = knn(index, gallery.take(slice(0, 0)), gallery, 5)
    assert len(nothing) == 0


@pytest.mark.parametrize("kind", ["hnsw", "ivf-pq"])
def test_equal_vectors_and_zeros(kind: ann.Kind) -> None:
    for vectors in (np.ones((1200, 8), np.float32), np.zeros((1200, 8), np.float32)):
        index, gallery, stated = made(vectors, Metric.COSINE, kind)
        assert stated == 1  # all are as near as each other
        ((_, distances),) = knn(index, search.prepare(np.ones((1, 8)), Metric.COSINE), gallery, 20)
        assert len(distances) == 20
        assert len(set(distances.tolist())) == 1


def test_duplicates_have_one_distance_and_the_order_of_rows() -> None:
    vectors = np.repeat(clustered(300), 5, axis=0)
    index, gallery, stated = made(vectors, Metric.EUCLIDEAN)
    assert stated >= 0.9
    ((rows, distances),) = knn(index, gallery.take(slice(50, 51)), gallery, 5)
    assert distances.tolist() == [0] * 5
    assert rows.tolist() == [50, 51, 52, 53, 54]


def test_recall_is_measured_on_queries_outside_the_index() -> None:
    """An index that only finds its own vectors must have a low recall."""
    index, gallery, _ = made(clustered(1500), Metric.EUCLIDEAN, "hnsw")
    blind = Index("hnsw", Metric.EUCLIDEAN, 16, OnlyItself(index.faiss))
    assert tune(blind, gallery, 0.95)[1] < 0.05


class OnlyItself:
    """An index that proposes the nearest vector alone."""

    def __init__(self, index: Any) -> None:  # noqa: ANN401 -- FAISS has no types
        self.index, self.ntotal = index, index.ntotal

    def search(self, queries: Array, count: int, params: object) -> tuple[Array, Array]:
        distances, found = self.index.search(queries, count, params=params)
        found[:, 1:] = -1
        return distances, found


def test_residual_codes_distinguish_vectors_of_tight_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 32))
    vectors = (centres[rng.integers(0, 20, 4000)] + 0.02 * rng.standard_normal((4000, 32))).astype(np.float32)
    index, _, stated = made(vectors, Metric.EUCLIDEAN, "ivf-pq")
    assert index.faiss.by_residual  # codes of the whole vectors would be alike within a group: a recall of 0.2
    assert stated >= 0.95
    assert not made(clustered(2000), Metric.EUCLIDEAN, "ivf-pq")[0].faiss.by_residual


@pytest.mark.parametrize("kind", ["hnsw", "ivf-pq"])
@pytest.mark.parametrize("dimension", [1, 3, 7])
def test_few_and_odd_dimensions(kind: ann.Kind, dimension: int) -> None:
    _, _, stated = made(clustered(1500, dimension), Metric.EUCLIDEAN, kind)
    assert stated >= 0.9


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
def test_the_selection_in_float32_keeps_the_nearest(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 9)).astype(np.float32) * rng.uniform(0.1, 10, (300, 1)).astype(np.float32)
    vectors[:5] = 0
    gallery = search.prepare(vectors, metric)
    queries = search.prepare(np.vstack([vectors[100:120], np.zeros((1, 9), np.float32)]), metric)
    proposed = np.stack([rng.permutation(300)[:60] for _ in range(21)])
    proposed[3, 20:] = proposed[4, :] = -1  # fewer than wanted, and none
    nearer = _nearest_in_float32(metric, queries, gallery, proposed, 30)
    assert nearer.shape == (21, 30)
    for query, rows, found in zip(queries.array, proposed, nearer, strict=True):
        true = np.sort(paired(query[None], vectors[rows[rows >= 0]], metric))[:30]
        found = found[found >= 0]  # noqa: PLW2901
        assert set(found) <= set(rows)
        assert np.allclose(np.sort(paired(query[None], vectors[found], metric)), true, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["hnsw", "ivf-pq"])
def test_vectors_need_not_be_contiguous(kind: ann.Kind) -> None:
    wide = np.hstack([clustered(1500), clustered(1500)])
    apart = search.prepare(wide[:, ::2], Metric.EUCLIDEAN)
    together = search.prepare(np.ascontiguousarray(wide[:, ::2]), Metric.EUCLIDEAN)
    index = build(together, Metric.EUCLIDEAN, kind)
    assert index is not None
    index = replace(index, effort=10**6)
    queries = apart.take(slice(0, 20))
    found, expected = (knn(index, queries, gallery, 10) for gallery in (apart, together))
    assert np.array_equal(found.rows, expected.rows)
    assert np.array_equal(found.distances, expected.distances)
    alone = [knn(index, apart.take(slice(i, i + 1)), apart, 10) for i in range(20)]
    assert np.array_equal(np.concatenate([hits.rows for hits in alone]), expected.rows)


def test_vectors_that_overflow_in_faiss_are_refused() -> None:
    vectors = clustered(1000)
    vectors[7] *= 1e20
    with pytest.raises(UsageError, match=r"at most 4\.6e\+18"):
        build(search.prepare(vectors, Metric.EUCLIDEAN), Metric.EUCLIDEAN, "ivf-pq")
    assert build(search.prepare(vectors, Metric.COSINE), Metric.COSINE, "ivf-pq") is not None


def test_few_vectors_and_bits_are_refused() -> None:
    with pytest.raises(UsageError, match="1,000"):
        build(search.prepare(np.ones((999, 4), np.float32), Metric.EUCLIDEAN), Metric.EUCLIDEAN)
    with pytest.raises(UsageError, match="exactly"):
        build(search.prepare(np.ones((2000, 4), np.uint8), Metric.HAMMING), Metric.HAMMING)


def test_building_reports_progress_and_can_be_stopped() -> None:
    gallery = search.prepare(clustered(5000, 4), Metric.EUCLIDEAN)
    progress = Recorder()
    assert build(gallery, Metric.EUCLIDEAN, progress=progress) is not None
    assert [report[:3] for report in progress.reports] == [("indexing", n, 5000) for n in (0, 4096, 5000)]
    assert build(gallery, Metric.EUCLIDEAN, stopped=lambda: True) is None


def test_a_saved_index_is_read_and_a_damaged_one_is_refused(
    indexed: tuple[Index, Gallery, float], tmp_path: Path
) -> None:
    index, gallery, _ = indexed
    ann.write(index, tmp_path / "index")
    again = Index(index.kind, index.metric, index.effort, ann.read(tmp_path / "index"))
    queries = gallery.take(slice(0, 20))
    assert np.array_equal(knn(again, queries, gallery, 10).rows, knn(index, queries, gallery, 10).rows)
    whole = (tmp_path / "index").read_bytes()
    for content in (b"", b"garbage" * 9, whole[:100], whole[: len(whole) // 2]):
        (tmp_path / "index").write_bytes(content)
        with pytest.raises(StorageError, match="not an index"):
            ann.read(tmp_path / "index")
    with pytest.raises(StorageError, match="disk"):
        ann.write(index, tmp_path / "nowhere" / "index")


# ---- far queries


def answer(index: Index, far: ann.FarQueries, queries: Gallery, gallery: Gallery) -> tuple[search.Hits, Array, Array]:
    """Search as a store does; return the hits, and which queries are far, and which beyond."""
    hits = knn(index, queries, gallery, 10)
    distances = ann.nearest(hits)
    is_far, beyond = distances > far.distance, distances > far.beyond
    if is_far.any():
        deeper = knn(far.deepen(index), queries.take(np.flatnonzero(is_far)), gallery, 10)
        hits = ann.merge(hits, deeper, is_far)
    if beyond.any():
        exact = search.knn(queries.take(np.flatnonzero(beyond)), gallery, 10, index.metric)
        hits = ann.merge(hits, exact, beyond)
    return hits, is_far, beyond


def far_queries(vectors: Array) -> dict[str, Array]:
    rng = np.random.default_rng(11)
    mean, deviation, d = vectors.mean(axis=0), vectors.std(axis=0), vectors.shape[1]
    noise = rng.standard_normal((150, d))
    units = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    length = np.linalg.norm(vectors - mean, axis=1).max()
    return {
        "noise": mean + deviation * noise,
        "uniform": rng.uniform(vectors.min(axis=0), vectors.max(axis=0), (150, d)),
        "wider": mean + 3 * deviation * noise,
        "directions": mean + 2 * length * units,
        "distant": mean + 10 * length * units,
        "shifted": vectors[:150] + 5 * deviation,
        "another range": clustered(150, d, seed=5) * 40 + 100,
    }


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
@pytest.mark.parametrize("kind", ["hnsw", "ivf-pq"])
def test_the_stated_recall_holds_near_and_far(kind: ann.Kind, metric: Metric) -> None:
    vectors = clustered(6_000, 32)
    index, gallery, stated = made(vectors, metric, kind)
    far = ann.tune_far(index, gallery, 0.95)
    kinds = {"like the rows": clustered(300, 32, seed=7), **far_queries(vectors)}
    for name, values in kinds.items():
        queries = search.prepare(values.astype(np.float32), metric)
        hits, is_far, beyond = answer(index, far, queries, gallery)
        exact = search.knn(queries, gallery, 10, metric)
        said = float(np.mean(np.where(beyond, 1, np.where(is_far, far.recall, stated))))
        assert recall(hits, exact) >= said - 0.03, name
        if name == "like the rows":
            assert is_far.mean() < 0.08  # searching them twice takes time
            assert not beyond.any()
        elif metric == Metric.EUCLIDEAN:
            assert is_far.mean() > 0.9, name


def test_hits_of_far_queries_replace_the_first_ones() -> None:
    index, gallery, _ = made(clustered(1500), Metric.EUCLIDEAN)
    far = ann.FarQueries(0.9, 100, 512, 0.99)
    queries = search.prepare(np.concatenate([clustered(5, seed=3), np.full((2, 16), 9, np.float32)]), Metric.EUCLIDEAN)
    hits, is_far, _ = answer(index, far, queries, gallery)
    assert is_far[-2:].all()
    exact = search.knn(queries, gallery, 10, Metric.EUCLIDEAN)
    assert np.diff(hits.offsets).tolist() == [10] * 7
    for number in (5, 6):
        assert list(hits)[number][0].tolist() == list(exact)[number][0].tolist()
    assert not hits.exact


def test_the_nearest_distance_of_an_empty_answer_is_the_default() -> None:
    _, gallery, _ = made(clustered(1500), Metric.EUCLIDEAN)
    hits = search.within(gallery.take(slice(0, 2)), gallery, DistanceRange(0, 1e-9), Metric.EUCLIDEAN)
    assert ann.nearest(hits).tolist() == [0, 0]
    none = search.Hits.from_pairs([], 2)
    assert ann.nearest(none, 0.5).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_vectors_have_no_far_queries(value: float) -> None:
    index, gallery, _ = made(np.full((1_200, 8), value, np.float32), Metric.EUCLIDEAN)
    far = ann.tune_far(index, gallery, 0.95)
    assert far.recall > 0.9
    queries = search.prepare(np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32), Metric.EUCLIDEAN)
    assert np.diff(answer(index, far, queries, gallery)[0].offsets).tolist() == [10] * 3


def test_an_index_that_needs_too_much_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import faiss  # noqa: PLC0415 -- as in the package

    def fail(*_: object) -> None:
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr("lookalike.ann.index._make_hnsw", fail)
    with pytest.raises(StorageError, match="more memory"):
        made(clustered(1500), Metric.EUCLIDEAN)
    monkeypatch.setattr(faiss, "read_index", fail)
    with pytest.raises(StorageError, match="not an index"):
        ann.read(tmp_path / "index")
