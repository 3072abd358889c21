"""Codes with and without re-scoring: recall, items measured, and the time of one query.

    python benchmarks/rescoring.py general.npz            # of `lookalike embed DIR --out general.npz`
    python benchmarks/rescoring.py --time                 # 100,000 random vectors of 256 numbers

Queries are 200 items that are left out. Without --time, it prints for each codec the share of the 10 nearest items that codes
find, and with re-scoring; the number of codes that are measured again; and the share of the items that an exact answer measures.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from data import say

from lookalike.codecs import Codec
from lookalike.compress import parse_codec
from lookalike.metric import Metric, VectorSpace
from lookalike.query import Query
from lookalike.rows import RowFormat
from lookalike.search import knn, prepare
from lookalike.stores import Item, SQLiteStore

CODECS = (
    "scalar:8",
    "scalar:4",
    "rabitq:1",
    "pca:128",
    "pca:128+scalar:8",
    "pca:64+scalar:4",
    "pca:128+product:32",
    "pca:128+product:16",
)
TIMED = ("scalar:8", "scalar:4", "rabitq:1", "pca:128", "pca:128+scalar:8", "pca:128+product:32")
QUERIES = 200
FITTED = 5_000
TURNS = 15
K = 10


def make_store(folder: Path, codec: Codec, embeddings: np.ndarray) -> SQLiteStore:
    """Make a compressed store with the originals."""
    rows = RowFormat(codec.space, codec, originals=True)
    SQLiteStore.create(folder, codec.embeddings).replace_vectors(lambda _: {}, "{}", rows)
    store = SQLiteStore.open(folder, rows, "{}")
    for start in range(0, len(embeddings), FITTED):
        part = embeddings[start : start + FITTED]
        store.upsert([Item(f"{start + i:09}", "/") for i in range(len(part))], rows.encode(part))
    return store


def ids(store: SQLiteStore, query: Query) -> list[set[str]]:
    """Return the ids of the hits of each query."""
    return [{hit.item.id for hit in answer} for answer in store.search(query)]


def measure_recall(path: Path) -> None:
    """Print the recall of each codec on embeddings of images."""
    embeddings = np.ascontiguousarray(np.load(path)["embeddings"], np.float32)
    order = np.random.default_rng(0).permutation(len(embeddings))
    queries, items = embeddings[order[:QUERIES]], embeddings[order[QUERIES:]]
    exact = [
        {f"{row:09}" for row in rows} for rows, _ in knn(queries, prepare(items, Metric.EUCLIDEAN), K, Metric.EUCLIDEAN)
    ]
    say(f"{len(items):,} items, {QUERIES} queries\ncodec bytes codes re-scored measured opened")
    for text in CODECS:
        codec = parse_codec(text, VectorSpace(Metric.EUCLIDEAN, items.shape[1])).fit(items)
        with TemporaryDirectory() as folder:
            store = make_store(Path(folder), codec, items)
            shares = []
            for query in (
                Query(vectors=codec.project(queries), k=K, exact=True),
                Query(vectors=queries, k=K, rescore=True, exact=False),
                Query(vectors=queries, k=K, rescore=True, exact=True),
            ):
                found = ids(store, query)
                shares.append(np.mean([len(a & b) / K for a, b in zip(found, exact, strict=True)]))
            with store._snapshots.open() as snapshot:  # noqa: SLF001 -- no answer says it
                rank = store._load_originals(snapshot).rank  # noqa: SLF001 -- as above
            if shares[-1] != 1:
                raise SystemExit(f"{text}: an exact answer is wrong")
            say(f"{text} {codec.code_bytes} {shares[0]:.3f} {shares[1]:.3f} {rank.count} {rank.opened:.3f}")


def median(call: Callable[[], object]) -> float:
    """Return the median milliseconds of a call."""
    call()
    times = []
    for _ in range(TURNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(1000 * np.median(times))


def measure_time(count: int = 100_000, dimension: int = 256) -> None:
    """Print the milliseconds of one query by floats, by codes, and with re-scoring."""
    random = np.random.default_rng(0)
    # Of low intrinsic dimension, as embeddings are.
    items = (random.standard_normal((count, 32)) @ random.standard_normal((32, dimension))).astype(np.float32)
    items += 0.3 * random.standard_normal(items.shape).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    gallery, query = prepare(items[1:], Metric.EUCLIDEAN), items[:1]
    say(f"floats {median(partial(knn, query, gallery, K, Metric.EUCLIDEAN)):.1f} ms\ncodec codes re-scored exact")
    for text in TIMED:
        codec = parse_codec(text, VectorSpace(Metric.EUCLIDEAN, dimension)).fit(items[1 : FITTED + 1])
        with TemporaryDirectory() as folder:
            store = make_store(Path(folder), codec, items[1:])
            queries = (
                Query(vectors=codec.project(query), k=K, exact=True),
                Query(vectors=query, k=K, rescore=True, exact=False),
                Query(vectors=query, k=K, rescore=True, exact=True),
            )
            times = [median(partial(store.search, asked)) for asked in queries]
            say(f"{text} " + " ".join(f"{ms:.1f}" for ms in times))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path, nargs="?", help="an .npz file of lookalike embed")
    parser.add_argument("--time", action="store_true", help="measure the time of one query")
    given = parser.parse_args()
    if given.embeddings is not None:
        measure_recall(given.embeddings)
    if given.time:
        measure_time()
