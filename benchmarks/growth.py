"""How cost grows with the number of vectors: from a thousand to a million, with the exponents of the last two decades."""

import time
from collections.abc import Iterable
from typing import Any

import indexes
import numpy as np
import peers
from data import QUERIES, Source, say
from measuring import Contender, interleaved, recall
from pairs import radius_of

from lookalike.metric import Metric
from lookalike.search import knn, prepare, self_join

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
DIMENSION = 128
JOINED = 100_000
"""Rows beyond which the self-join is left out, for it takes a hundred times as long for ten times as many."""
NEAR = 2.0
"""Pairs of a row, at `JOINED` rows, within the radius of the self-join."""
FITTED = 10_000
"""Rows from which on exponents are fitted: below, what a call costs in itself shows."""
EFFORT = 64
K = 10

PROTOCOL = (
    f"Vectors of {DIMENSION} numbers; the smaller galleries are the first of the larger. One query at a time, contenders in turns, 5"
    f" rounds, medians. HNSW with efSearch {EFFORT}, whose recall the table gives. The self-join by the radius that gives each of"
    f" {JOINED:,} rows {NEAR:g} pairs, once. Exponents are slopes of straight lines through logarithms, from {FITTED:,} rows on."
)


def measure(source: Source, sizes: Iterable[int] = SIZES) -> dict[str, Any]:
    """Times at each size, and exponents."""
    sizes = tuple(sizes)
    vectors, queries = source.gallery(max(sizes), DIMENSION), source.queries(QUERIES, DIMENSION)
    radius = radius_of(vectors[:JOINED], int(NEAR * min(JOINED, len(vectors))))
    points: list[dict[str, Any]] = []
    for rows in sizes:
        points += _at(vectors[:rows], queries, radius)
        say(f"  {rows:,}: " + ", ".join(f"{p['name']} {p['ms']:.3g} ms" for p in points if p["rows"] == rows))
    names = list(dict.fromkeys(point["name"] for point in points))
    return {"radius": radius, "points": points, "exponents": {name: exponent(points, name) for name in names}}


def exponent(points: list[dict[str, Any]], name: str) -> float | None:
    """B of a·nᵇ through the times of one name, from `FITTED` rows on; None of fewer than two sizes."""
    chosen = [(point["rows"], point["ms"]) for point in points if point["name"] == name and point["rows"] >= FITTED]
    if len(chosen) < 2:  # noqa: PLR2004 -- a line has two points
        return None
    rows, times = np.log(np.array(chosen)).T
    return float(np.polyfit(rows, times, 1)[0])


def _at(vectors: np.ndarray, queries: np.ndarray, radius: float) -> list[dict[str, Any]]:
    plain = prepare(vectors, Metric.EUCLIDEAN)
    reduced = prepare(vectors, Metric.EUCLIDEAN, scan="int8")
    with peers.workplace() as folder:
        begun = time.perf_counter()
        graph = indexes.lookalike_hnsw(vectors, folder)
        built = time.perf_counter() - begun
        search = graph.search(EFFORT)
        farthest = knn(queries, plain, K, Metric.EUCLIDEAN).distances.reshape(-1, K)[:, -1]
        figures = interleaved(
            [
                Contender("exact", lambda i: knn(queries[i % QUERIES][None], plain, K, Metric.EUCLIDEAN)),
                Contender("exact, int8 scan", lambda i: knn(queries[i % QUERIES][None], reduced, K, Metric.EUCLIDEAN)),
                Contender("HNSW", lambda i: search(queries[i % QUERIES][None])),
            ],
            5,
        )
        found = recall(search(queries), queries, vectors, farthest, Metric.EUCLIDEAN)
    points = [{"name": it["name"], "rows": len(vectors), "ms": it["ms"]} for it in figures]
    points[-1]["recall"] = found
    points.append({"name": "building HNSW", "rows": len(vectors), "ms": 1e3 * built})
    if len(vectors) <= JOINED:
        begun = time.perf_counter()
        pairs = sum(len(block) for block in self_join(vectors, Metric.EUCLIDEAN, radius=radius))
        points.append(
            {"name": "self-join", "rows": len(vectors), "ms": 1e3 * (time.perf_counter() - begun), "pairs": pairs}
        )
    return points
