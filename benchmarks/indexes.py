"""Approximate indexes: what a query costs at which recall, what an index costs to build and to hold."""

import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import peer_indexes
import peers
from data import QUERIES, Source, say
from measuring import Contender, interleaved, recall
from peer_indexes import CONSTRUCTION, NEIGHBOURS, PIECE, Index, K
from peers import Search

from lookalike.metric import Metric
from lookalike.search import knn, prepare

SIZES = ((1_000_000, 128), (100_000, 512))
GOAL = 0.95
"""Recall at which indexes are compared."""
ROUNDS = 3
LONG = 0.5
"""Seconds that a batch may take; of what would take longer, a share is measured."""
PROTOCOL = (
    f"All HNSW indexes are built with M = {NEIGHBOURS} and efConstruction = {CONSTRUCTION}, all IVF-PQ indexes with a"
    f" byte for {PIECE} numbers and 2√n cells, by the same two threads, one after the other. Recall is of the 10 nearest of 1,000 queries that are not in the"
    f" index. One at a time: one query in each call. Batched: all queries in one call. Contenders and settings take turns, {ROUNDS}"
    f" rounds; times are medians. At recall {GOAL}: on the straight line between the two settings around it, of recall and the"
    " logarithm of queries a second."
)


Builder = Callable[[np.ndarray, Path], Index]


def hnsw(source: Source, sizes: Iterable[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Graphs: Malkov and Yashunin's hierarchical navigable small worlds."""
    builders: dict[str, Builder] = {
        "lookalike": lookalike_hnsw,
        "FAISS": peer_indexes.faiss_hnsw,
        "hnswlib": peer_indexes.hnswlib_hnsw,
        "USearch": peer_indexes.usearch_hnsw,
    }
    return [_compare(source, rows, dimension, builders) for rows, dimension in sizes]


def ivfpq(source: Source, sizes: Iterable[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Cells of codes: Jégou, Douze and Schmid's inverted files of product-quantised residuals."""
    builders: dict[str, Builder] = {
        "lookalike": lookalike_ivfpq,
        "FAISS": peer_indexes.faiss_ivfpq,
        "FAISS, refined": peer_indexes.faiss_ivfpq_refined,
        "LanceDB, refined": peer_indexes.lancedb_ivfpq,
    }
    return [_compare(source, rows, dimension, builders) for rows, dimension in sizes]


def _compare(source: Source, rows: int, dimension: int, builders: dict[str, Builder]) -> dict[str, Any]:
    vectors, queries = source.gallery(rows, dimension), source.queries(QUERIES, dimension)
    farthest = knn(queries, prepare(vectors, Metric.EUCLIDEAN), K, Metric.EUCLIDEAN).distances.reshape(-1, K)[:, -1]
    say(f"  {rows:,} × {dimension}")
    with peers.workplace() as folder:
        built: dict[str, tuple[Index, float]] = {}
        for name, build in builders.items():
            begun = time.perf_counter()
            try:
                index = build(vectors, folder)
            except ModuleNotFoundError as missing:
                say(f"  without {name}: {missing}")
                continue
            built[name] = index, time.perf_counter() - begun
            say(f"  {name}: built in {built[name][1]:.0f} s, {index.size / 1e6:,.0f} MB")
        points = [
            {
                "name": name,
                "setting": setting,
                "recall": recall(search(queries), queries, vectors, farthest, Metric.EUCLIDEAN),
            }
            for name, (index, _) in built.items()
            for setting in index.settings
            for search in [index.search(setting)]
        ]
        alone = [_alone(built[p["name"]][0].search(p["setting"]), queries) for p in points]
        batched = [_batched(built[p["name"]][0].search(p["setting"]), queries) for p in points]
        for point, one, many in zip(points, interleaved(alone, ROUNDS), interleaved(batched, ROUNDS), strict=True):
            point |= {"alone_ms": one["ms"], "alone_qps": 1e3 / one["ms"]}
            point |= {"batched_qps": 1e3 * QUERIES / many["ms"], "share": many["share"]}
    curves = [
        {
            "name": name,
            "build_seconds": seconds,
            "bytes": index.size,
            "points": (mine := [p for p in points if p["name"] == name]),
            "alone_qps": at(mine, "alone_qps"),
            "batched_qps": at(mine, "batched_qps"),
        }
        for name, (index, seconds) in built.items()
    ]
    for curve in curves:
        say(f"  {curve['name']}: at recall {GOAL} {curve['alone_qps']} a second, batched {curve['batched_qps']}")
    return {"rows": rows, "dimension": dimension, "bytes": vectors.nbytes, "curves": curves}


def at(points: list[dict[str, Any]], rate: str, goal: float = GOAL) -> float | None:
    """Queries a second at a recall: the most that any two neighbouring settings give, None where none reaches it."""
    ordered = sorted(points, key=lambda point: point["setting"])
    rates = [point[rate] for point in ordered if point["recall"] >= goal]
    for below, above in pairwise(ordered):
        if below["recall"] < goal <= above["recall"]:
            part = (goal - below["recall"]) / (above["recall"] - below["recall"])
            rates.append(below[rate] ** (1 - part) * above[rate] ** part)
    return max(rates, default=None)


def _alone(search: Search, queries: np.ndarray) -> Contender:
    return Contender("", lambda i: search(queries[i % QUERIES][None]))


def _batched(search: Search, queries: np.ndarray) -> Contender:
    begun = time.perf_counter()
    search(queries[:32])
    count = int(np.clip(LONG * 32 / (time.perf_counter() - begun), 32, QUERIES))
    return Contender("", lambda _: search(queries[:count]), count / QUERIES)


def lookalike_hnsw(vectors: np.ndarray, folder: Path) -> Index:
    """Lookalike's graph."""
    raise NotImplementedError


def lookalike_ivfpq(vectors: np.ndarray, folder: Path) -> Index:
    """Lookalike's cells of codes."""
    raise NotImplementedError
