"""Measure approximate indexes: query time at each recall, build time and memory."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import peer_indexes
import peers
from data import QUERIES, Source, say
from measuring import Contender, interleaved, recall
from peer_indexes import CONSTRUCTION, EFFORTS, NEIGHBOURS, PIECE, PROBES, REFINED, Index, K
from peers import Search

from lookalike import ann
from lookalike.metric import Metric
from lookalike.search import knn, prepare

SIZES = ((1_000_000, 128), (100_000, 512))
GOAL = 0.95
"""Recall at which indexes are compared."""
ROUNDS = 3
LONG = 0.5
"""Maximum seconds of a batch; of a slower one, a share is measured."""
PROTOCOL = (
    f"HNSW of the peers is built with M = {NEIGHBOURS} and efConstruction = {CONSTRUCTION} over float32; IVF-PQ of the peers with"
    f" 2√n cells and a byte for {PIECE} numbers, and where it is refined the best {REFINED} k are measured anew. lookalike's are as it"
    " builds them (HNSW: M = 20 and efConstruction = 150 over 8 bits a number; IVF-PQ: 2√n cells and 4 bits for 2 numbers), every answer"
    " measured anew. All by the same two threads, one after the other. Recall is of the 10 nearest of 1,000 queries that are not in the index. One at a time: one query in"
    f" each call. Batched: all queries in one call. Contenders and settings take turns, {ROUNDS} rounds; times are medians. At recall"
    f" {GOAL}: on the straight line between the two settings around it, of recall and the logarithm of queries a second. MB are"
    " what is kept, the float32 vectors included where answers need them."
)


Builder = Callable[[np.ndarray, Path], list[Index]]


def hnsw(source: Source, sizes: Iterable[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Compare HNSW graphs."""
    builders = (lookalike_hnsw, peer_indexes.faiss_hnsw, peer_indexes.hnswlib_hnsw, peer_indexes.usearch_hnsw)
    return [_compare(source, rows, dimension, builders) for rows, dimension in sizes]


def ivfpq(source: Source, sizes: Iterable[tuple[int, int]] = SIZES) -> list[dict[str, Any]]:
    """Compare IVF-PQ indexes."""
    builders = (lookalike_ivfpq, peer_indexes.faiss_ivfpq, peer_indexes.lancedb_ivfpq)
    return [_compare(source, rows, dimension, builders) for rows, dimension in sizes]


def _compare(source: Source, rows: int, dimension: int, builders: Iterable[Builder]) -> dict[str, Any]:
    vectors, queries = source.gallery(rows, dimension), source.queries(QUERIES, dimension)
    farthest = knn(queries, prepare(vectors, Metric.EUCLIDEAN), K, Metric.EUCLIDEAN).distances.reshape(-1, K)[:, -1]
    say(f"  {rows:,} × {dimension}")
    with peers.workplace() as folder:
        built: dict[str, tuple[Index, float]] = {}
        for build in builders:
            begun = time.perf_counter()
            try:
                made = build(vectors, folder)
            except ModuleNotFoundError as missing:
                say(f"  without {build.__name__}: {missing}")
                continue
            seconds = time.perf_counter() - begun
            built |= {index.name: (index, seconds) for index in made}
            say(f"  {made[0].name}: built in {seconds:.0f} s, {made[0].size / 1e6:,.0f} MB")
        points: list[dict[str, Any]] = [
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
    """Interpolate the queries a second at a recall between neighbouring settings; none if no setting reaches it."""
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


def lookalike_hnsw(vectors: np.ndarray, folder: Path) -> list[Index]:
    """Build lookalike's HNSW: FAISS's over 8 bits a number, M = 20; 1.5 k rows are proposed and measured."""
    return [_lookalike(vectors, folder, "hnsw", EFFORTS)]


def lookalike_ivfpq(vectors: np.ndarray, folder: Path) -> list[Index]:
    """Build lookalike's IVF-PQ: 2√n cells; of 8 to 20 k proposed rows, the nearest in float32 are measured."""
    return [_lookalike(vectors, folder, "ivf-pq", PROBES)]


def _lookalike(vectors: np.ndarray, folder: Path, kind: ann.Kind, settings: tuple[int, ...]) -> Index:
    gallery = prepare(vectors, Metric.EUCLIDEAN)
    index = ann.build(gallery, Metric.EUCLIDEAN, kind)
    if index is None:
        raise AssertionError("nobody stopped it")
    ann.write(index, folder / "lookalike")

    def search(effort: int) -> Search:
        trying = replace(index, effort=effort)

        def ask(queries: np.ndarray) -> np.ndarray:
            hits = ann.knn(trying, prepare(queries, Metric.EUCLIDEAN), gallery, K)
            if len(hits.rows) == len(queries) * K:
                return hits.rows.reshape(-1, K)
            return np.stack([np.pad(rows, (0, K - len(rows)), constant_values=-1) for rows, _ in hits])

        return ask

    return Index("lookalike", search, settings, (folder / "lookalike").stat().st_size + vectors.nbytes)
