"""Searches by codes and originals: they answer as a store of the originals, and say what they are."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike import search
from lookalike.codecs import Codec
from lookalike.compress import parse_codec
from lookalike.errors import UsageError
from lookalike.metric import Metric, VectorSpace, pairwise
from lookalike.query import DistanceRange, Filter, Query
from lookalike.rows import RowFormat
from lookalike.search import Gallery, rescoring
from lookalike.search.rescoring import CodeBounds
from lookalike.stores import Item, SQLiteStore
from lookalike.stores.sqlite import originals

Array = np.ndarray[Any, np.dtype[Any]]

BOUNDED = [
    "scalar:int8",
    "scalar:2",
    "pca:5",
    "pca:6:rotate+scalar:4",
    "product:4",
    "pca:8+product:4:no-rotate",
    "rabitq:1",
]


def vectors(count: int, seed: int, scale: float = 1.0) -> Array:
    """Random vectors, of which some are equal, and some are zero."""
    drawn = np.random.default_rng(seed).standard_normal((count, 12)).astype(np.float32) * np.float32(scale)
    drawn[1::5] = drawn[: len(drawn[1::5])]
    drawn[2::7] = 0
    return drawn


@cache
def fitted(text: str, metric: Metric) -> Codec:
    return parse_codec(text, VectorSpace(metric, 12)).fit(vectors(60, 9))


def with_bounds(originals: Array, metric: Metric, text: str) -> Gallery:
    codec = fitted(text, metric)
    rows = RowFormat(codec.space, codec)
    codes = search.prepare(rows.decode(codec.encode(originals)), codec.space.metric)
    gallery = search.prepare(originals, metric)
    assert codec.stretch is not None
    residuals = rescoring.find_residuals(originals, codes.vectors, codec.project)
    longest = float(np.sqrt(gallery.squared_norms.max(initial=0)))
    bounds = CodeBounds(codes, residuals, codec.project, codec.stretch, metric, longest)
    return Gallery(gallery.vectors, gallery.squared_norms, gallery.dtype, code_bounds=bounds)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    count=st.sampled_from([0, 1, 2, 40]),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
    text=st.sampled_from(BOUNDED),
    metric=st.sampled_from([Metric.EUCLIDEAN, Metric.COSINE]),
)
def test_bounds_from_codes_never_change_an_answer(
    seed: int, count: int, scale: float, text: str, metric: Metric
) -> None:
    if metric is Metric.COSINE and "+" in text:
        text = "scalar:4"
    gallery, queries = with_bounds(vectors(count, seed, scale), metric, text), vectors(3, seed + 1, scale)
    queries[: min(1, count)] = gallery.array[:1]
    distances = pairwise(queries, gallery.array, metric).astype(np.float32)
    rows = np.arange(0, count, 2)
    for subset in (None, rows):
        hits = search.knn(queries, gallery, 4, metric, rows=subset)
        for query in range(3):
            allowed = np.arange(count) if subset is None else subset
            order = allowed[np.lexsort((allowed, distances[query, allowed]))][:4]
            np.testing.assert_array_equal(hits[query][0], order)
            np.testing.assert_array_equal(hits[query][1], distances[query, order])
    if count:
        reach = float(np.median(distances))
        found = search.within(queries, gallery, DistanceRange(0, reach), metric)
        assert len(found.rows) == np.count_nonzero(distances <= np.float32(reach))


def test_fine_codes_rule_out_most_rows() -> None:
    drawn = np.random.default_rng(0).standard_normal((2000, 12)).astype(np.float32)
    gallery = with_bounds(drawn, Metric.EUCLIDEAN, "scalar:int8")
    queries = search.prepare(drawn[:5], Metric.EUCLIDEAN)
    reach = search.knn(queries, gallery, 10, Metric.EUCLIDEAN).distances.reshape(5, 10)[:, -1]
    assert isinstance(gallery.code_bounds, CodeBounds)
    assert rescoring.share_opened(queries, gallery.code_bounds, reach) < 0.02


def compressed(folder: Path, text: str, metric: Metric, embeddings: Array) -> SQLiteStore:
    space = VectorSpace(metric, 12)
    codec = parse_codec(text, space).fit(embeddings)
    rows = RowFormat(codec.space, codec, originals=True)
    SQLiteStore.create(folder, space).replace_vectors(lambda _: {}, "{}", rows)
    store = SQLiteStore.open(folder, rows, "{}")
    write(store, rows, embeddings, range(len(embeddings)))
    return store


def write(store: SQLiteStore, rows: RowFormat, embeddings: Array, numbers: range) -> None:
    items = [Item(f"{i:03}", f"/{i}.png", label="even" if i % 2 == 0 else "odd") for i in numbers]
    store.upsert(items, rows.encode(embeddings))


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("scalar:4", Metric.EUCLIDEAN),
        ("pca:6+product:3", Metric.EUCLIDEAN),
        ("scalar:2", Metric.COSINE),
        ("binary:16:sign", Metric.EUCLIDEAN),
    ],
)
def test_an_exact_answer_is_that_of_the_originals(text: str, metric: Metric, tmp_path: Path) -> None:
    drawn = vectors(60, 3)
    store = compressed(tmp_path, text, metric, drawn[:50])
    queries = vectors(3, 4)

    def check(drawn: Array) -> None:
        distances = pairwise(queries, drawn, metric).astype(np.float32)
        for where, allowed in (
            (Filter(), np.arange(len(drawn))),
            (Filter(labels=frozenset({"odd"})), np.arange(1, len(drawn), 2)),
        ):
            for answer, row in zip(
                store.search(Query(vectors=queries, k=5, where=where, rescore=True)), distances, strict=True
            ):
                nearest = allowed[np.lexsort((allowed, row[allowed]))][:5]
                assert [hit.item.id for hit in answer] == [f"{i:03}" for i in nearest]
                assert [hit.distance for hit in answer] == [float(row[i]) for i in nearest]
                assert (answer.exact, answer.metric) == (True, metric)
        reach = DistanceRange(0, float(np.median(distances[0])))
        query = Query(vectors=queries[:1], within=reach, rescore=True)
        parts = [hit for answer in store.stream(query) for hit in answer]
        assert parts == list(store.search(query)[0])
        assert len(parts) == np.count_nonzero(distances[0] <= np.float32(reach.max))

    check(drawn[:50])
    other = SQLiteStore.open(tmp_path, store._rows, "{}")  # reads the cache
    assert other.sample(4, originals=True).shape == (4, 12)
    (cached,) = (tmp_path / "cache").glob("originals-*")
    cached.unlink()  # the store has it mapped
    cached.write_bytes(b"damaged")
    assert SQLiteStore.open(tmp_path, store._rows, "{}").sample(4, originals=True).shape == (4, 12)
    write(store, store._rows, drawn[50:53], range(50, 53))  # too few to write the cache again
    check(drawn[:53])
    write(store, store._rows, drawn[53:], range(53, 60))
    check(drawn)


def test_an_approximate_answer_measures_the_nearest_codes_and_says_its_recall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.random.default_rng(5).standard_normal((400, 12)).astype(np.float32)
    store = compressed(tmp_path, "scalar:4", Metric.EUCLIDEAN, drawn)
    queries = np.random.default_rng(6).standard_normal((50, 12)).astype(np.float32)
    exact = store.search(Query(vectors=queries, exact=True, rescore=True))
    rough = store.search(Query(vectors=queries, exact=False, rescore=True))
    found = [len({hit.item.id for hit in a} & {hit.item.id for hit in b}) for a, b in zip(exact, rough, strict=True)]
    assert np.mean(found) >= 9.8
    assert not rough[0].exact
    assert rough[0].recall is not None
    assert 0.995 <= rough[0].recall <= 1
    assert rough[0].hits[0] == exact[0].hits[0]
    with store._snapshots.open() as snapshot:
        rank = store._load_originals(snapshot).rank
        assert 10 <= rank.count <= 40
        assert rank.opened < 0.5
    store.tune(lambda now: now.model_copy(update={"budget": 0}))
    assert not store.search(Query(vectors=queries[:1], rescore=True))[0].exact


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("exact", [True, False])
def test_few_items_are_all_found(count: int, exact: bool, tmp_path: Path) -> None:
    drawn = vectors(20, 7)
    store = compressed(tmp_path, "scalar:4", Metric.EUCLIDEAN, drawn[:5])
    store.delete([f"{i:03}" for i in range(count, 5)])
    (answer,) = store.search(Query(vectors=drawn[5:6], rescore=True, exact=exact))
    assert len(answer) == count


def test_a_store_without_originals_cannot_rescore(tmp_path: Path) -> None:
    store = SQLiteStore.create(tmp_path, VectorSpace(Metric.EUCLIDEAN, 12))
    with pytest.raises(UsageError, match="no original vectors"):
        store.search(Query(vectors=vectors(1, 0), rescore=True))


def test_the_rank_is_measured_on_items_that_are_left_out(tmp_path: Path) -> None:
    drawn = np.random.default_rng(5).standard_normal((100, 12)).astype(np.float32)
    store = compressed(tmp_path, "pca:3", Metric.EUCLIDEAN, drawn)
    with store._snapshots.open() as snapshot:
        loaded = store._load_originals(snapshot)
    distances = pairwise(drawn, drawn, Metric.EUCLIDEAN)
    by_codes = pairwise(np.asarray(loaded.codes.vectors[:]), np.asarray(loaded.codes.vectors[:]), Metric.EUCLIDEAN)
    ranks = []
    for item in range(100):
        others = np.delete(np.arange(100), item)
        near = others[np.argsort(distances[item, others])][:10]
        order = others[np.argsort(by_codes[item, others])]
        ranks += [int(np.flatnonzero(order == i)[0]) + 1 for i in near]
    share = np.mean(np.array(ranks) <= loaded.rank.count)
    assert share >= originals._RECALL
    assert np.mean(np.array(ranks) <= loaded.rank.count - 1) < originals._RECALL
    assert loaded.rank.recall == pytest.approx(share)
