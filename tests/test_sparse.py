"""Search of sparse vectors: the same answers as over dense arrays, and the files that hold them."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import image_files
from lookalike import search
from lookalike.cli import embed as embed_command
from lookalike.errors import MissingExtraError, UsageError
from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import bounds
from lookalike.search import sparse as sparse_search
from lookalike.search.answers import Hits
from test_cli import Shell

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))  # after the tests, whose modules share a name

import sparse_descriptors

METRICS = st.sampled_from([Metric.EUCLIDEAN, Metric.COSINE])


@st.composite
def vectors(draw: st.DrawFn) -> np.ndarray:
    """Mostly zeros, with empty rows, repeated rows and values of several sizes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(0, 40)), draw(st.integers(1, 30))
    values = rng.standard_normal((n, d)) * draw(st.sampled_from([1e-20, 1e-3, 1.0, 1e3, 1e18]))
    values[rng.random((n, d)) < draw(st.floats(0, 1))] = 0
    if n:
        values[rng.integers(0, n, n // 3)] = values[rng.integers(0, n, n // 3)]
    if draw(st.booleans()):
        values = np.round(values)
    return values.astype(np.float32)


def assert_equal(found: Hits, expected: Hits) -> None:
    assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(found.rows, expected.rows)
    assert np.array_equal(found.distances, expected.distances)
    assert found.exact
    assert found.complete


@given(vectors(), st.integers(1, 50), METRICS, st.integers(1, 50))
def test_the_nearest_are_those_of_the_dense_search(dense: np.ndarray, k: int, metric: Metric, queries: int) -> None:
    asked = dense[::-1][:queries]
    expected = search.knn(asked, dense, k, metric)
    gallery = sparse_search.prepare(sparse.csr_array(dense))
    assert_equal(sparse_search.knn(sparse.csr_array(asked), gallery, k, metric), expected)
    assert_equal(sparse_search.knn(asked, sparse.coo_matrix(dense), k, metric), expected)


@given(vectors(), METRICS, st.floats(0, 2), st.data())
def test_all_in_a_range_are_those_of_the_dense_search(
    dense: np.ndarray, metric: Metric, share: float, data: st.DataObject
) -> None:
    scale = 1.0 if metric is Metric.COSINE else float(np.linalg.norm(dense.astype(float), axis=1).max(initial=1))
    low, high = sorted([share * scale, data.draw(st.floats(0, 2)) * scale])
    within = DistanceRange(low, high)
    expected = search.within(dense, dense, within, metric)
    assert_equal(sparse_search.within(sparse.csr_array(dense), sparse.csr_array(dense), within, metric), expected)


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
def test_a_large_gallery_is_searched_in_tiles(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "BUDGET", 100_000)
    rng = np.random.default_rng(0)
    dense = np.maximum(rng.standard_normal((1_000, 60)) - 1, 0).astype(np.float32)
    expected = search.knn(dense[:70], dense, 7, metric)
    assert_equal(sparse_search.knn(dense[:70], sparse.csr_array(dense), 7, metric), expected)
    within = DistanceRange(0, float(expected.distances.max()))
    assert_equal(
        sparse_search.within(dense[:5], sparse.csr_array(dense), within, metric),
        search.within(dense[:5], dense, within, metric),
    )


def test_entries_given_twice_are_added() -> None:
    twice = sparse.csr_array((np.array([1, 2, 4], np.float32), [0, 0, 1], [0, 2, 3]), shape=(2, 3))
    hits = sparse_search.knn(np.array([[3, 0, 0]], np.float32), twice, 1, Metric.EUCLIDEAN)
    assert (hits.rows.tolist(), hits.distances.tolist()) == ([0], [0])
    assert twice.nnz == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: sparse_search.knn(a, a, 0, Metric.COSINE), "k"),
        (lambda a: sparse_search.knn(a, a, 1, Metric.HAMMING), "Hamming"),
        (lambda a: sparse_search.knn(a[:, :2], a, 1, Metric.COSINE), "dimension 2 and 3"),
        (lambda a: sparse_search.prepare(a * np.nan), "NaN"),
        (lambda a: sparse_search.prepare(a.astype(np.float64) * 1e200), "infinite"),
        (lambda _: sparse_search.prepare(np.zeros(3)), "shape"),
        (lambda _: sparse_search.prepare(np.array([["a"]])), "real numbers"),
        (lambda a: sparse_search.within(a, a, 0.5, Metric.COSINE), "DistanceRange"),  # type: ignore[arg-type]  # refused
    ],
)
def test_a_search_that_makes_no_sense_is_refused(call: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call(sparse.csr_array(np.eye(3, dtype=np.float32)))  # type: ignore[operator]


def test_scipy_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(MissingExtraError, match="sparse"):
        sparse_search.prepare(np.eye(2))


# ---- files


def test_embeddings_are_written_sparse(
    pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embed_command, "_ROWS", 4)
    shutil.copytree(pocket, tmp_path / "pocket")
    image_files.write(tmp_path, {f"images/{i}.png": i for i in range(10)})
    (tmp_path / "images/5.png").write_bytes(b"broken")
    shell = Shell(monkeypatch, capfd)
    for words in (["--out", "dense.npz"], ["--out", "sparse.npz", "--sparse"]):
        assert shell("embed", "images", "--encoder", "pocket", *words).code == 0
    dense, found = np.load("dense.npz"), sparse.load_npz("sparse.npz")
    assert found.format == "csr"
    assert np.array_equal(found.toarray(), dense["embeddings"])
    assert np.array_equal(np.load("sparse.npz")["paths"], dense["paths"])
    assert found.nnz == np.count_nonzero(dense["embeddings"])
    hits = sparse_search.knn(found, found, 1, Metric.COSINE)
    assert hits.rows.tolist() == list(range(9))


def test_the_benchmark_compares_sparse_with_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NUMBERS": 980, "COMPONENTS": 8}.items():
        monkeypatch.setattr(sparse_descriptors, name, value)
    descriptors = sparse_descriptors.random_descriptors(40)
    assert descriptors.shape == (40, 980)
    assert descriptors.nnz == 40 * 98
    found = sparse_descriptors.measure(descriptors, np.arange(40) % 2, 49)
    assert [it["numbers"] for it in found.values()] == [980, 980, 8, 20]
    assert found["sparse"]["bytes"] < found["dense"]["bytes"] / 4
    assert found["sparse"]["map"] == found["dense"]["map"] > 0.5
    assert all(it["query_ms"] > 0 for it in found.values())


def test_all_components_keep_all_distances() -> None:
    vectors = np.random.default_rng(0).standard_normal((12, 40)).astype(np.float32)
    found = sparse_descriptors.project(vectors, 12)
    assert np.allclose(
        np.linalg.norm(found[:1] - found, axis=1), np.linalg.norm(vectors[:1] - vectors, axis=1), atol=1e-4
    )
