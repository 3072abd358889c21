"""Measure how cost grows from a thousand to a million vectors, with exponents over the last two decades."""

import time
from collections.abc import Iterable
from typing import Any

import indexes
import numpy as np
import peers
from data import QUERIES, Source, say
from measuring import Contender, interleaved, recall
from pairs import radius_of

from lookalike.ann import joins
from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import knn, prepare, self_join

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
DIMENSION = 128
JOINED = 100_000
"""Maximum rows of the exact self-join, since ten times the rows take a hundred times as long. Above, only the approximate
self-join is measured."""
NEAR = 2.0
"""Pairs of a row, at `JOINED` rows, within the radius of the self-join."""
FITTED = 10_000
"""Minimum rows for the fit of exponents; the fixed cost of a call affects smaller sizes."""
EFFORT = 64
ROUNDS = 5
K = 10
APPROXIMATE = "self-join, approximate"
NAMES = ("exact", "exact, int8 scan", "HNSW", "building HNSW", "self-join", APPROXIMATE)

PROTOCOL = (
    f"Vectors of {DIMENSION} numbers; the smaller galleries are the first of the larger. One query at a time, contenders in turns,"
    f" {ROUNDS} rounds, medians. HNSW with efSearch {EFFORT}, whose recall the table gives; sizes that the section of"
    " HNSW has are taken from there. The self-join by the radius that gives each of"
    f" {JOINED:,} rows {NEAR:g} pairs, once; the approximate one with its index and its measured recall, which the table gives."
    f" Exponents are slopes of straight lines through logarithms, from {FITTED:,} rows on."
)


def measure(source: Source, sizes: Iterable[int] = SIZES, known: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """Measure times at each size, and fit exponents.

    Args:
        source: of vectors.
        sizes: of galleries.
        known: results of the section of HNSW; sizes that it has are not built again.
    """
    graphs = {case["rows"]: case for case in known if case["dimension"] == DIMENSION}
    sizes = tuple(sizes)
    vectors, queries = source.gallery(max(sizes), DIMENSION), source.queries(QUERIES, DIMENSION)
    radius = radius_of(vectors[:JOINED], int(NEAR * min(JOINED, len(vectors))))
    points: list[dict[str, Any]] = []
    for rows in sizes:
        points += _at(vectors[:rows], queries, radius, graphs.get(rows))
        say(f"  {rows:,}: " + ", ".join(f"{p['name']} {p['ms']:.3g} ms" for p in points if p["rows"] == rows))
    names = list(dict.fromkeys(point["name"] for point in points))
    return {"radius": radius, "points": points, "exponents": {name: exponent(points, name) for name in names}}


def exponent(points: list[dict[str, Any]], name: str) -> float | None:
    """Fit b of a·nᵇ to the times of one name, from `FITTED` rows on; none for fewer than two sizes."""
    chosen = [(point["rows"], point["ms"]) for point in points if point["name"] == name and point["rows"] >= FITTED]
    if len(chosen) < 2:  # noqa: PLR2004 -- a line has two points
        return None
    rows, times = np.log(np.array(chosen)).T
    return float(np.polyfit(rows, times, 1)[0])


def _at(vectors: np.ndarray, queries: np.ndarray, radius: float, known: dict[str, Any] | None) -> list[dict[str, Any]]:
    plain = prepare(vectors, Metric.EUCLIDEAN)
    condensed = prepare(vectors, Metric.EUCLIDEAN, precision="int8")
    contenders = [
        Contender("exact", lambda i: knn(queries[i % QUERIES][None], plain, K, Metric.EUCLIDEAN)),
        Contender("exact, int8 scan", lambda i: knn(queries[i % QUERIES][None], condensed, K, Metric.EUCLIDEAN)),
    ]
    points: list[dict[str, Any]] = []
    if known is None:
        with peers.workplace() as folder:
            begun = time.perf_counter()
            (graph,) = indexes.lookalike_hnsw(vectors, folder)
            points.append({"name": "building HNSW", "ms": 1e3 * (time.perf_counter() - begun)})
        search = graph.search(EFFORT)
        farthest = knn(queries, plain, K, Metric.EUCLIDEAN).distances.reshape(-1, K)[:, -1]
        right = recall(search(queries), queries, vectors, farthest, Metric.EUCLIDEAN)
        contenders.append(Contender("HNSW", lambda i: search(queries[i % QUERIES][None])))
    else:
        curve = next(curve for curve in known["curves"] if curve["name"] == "lookalike")
        point = next(point for point in curve["points"] if point["setting"] == EFFORT)
        points.append({"name": "building HNSW", "ms": 1e3 * curve["build_seconds"]})
        points.append({"name": "HNSW", "ms": point["alone_ms"]})
        right = point["recall"]
    points += [{"name": it["name"], "ms": it["ms"]} for it in interleaved(contenders, ROUNDS)]
    if len(vectors) <= JOINED:
        begun = time.perf_counter()
        pairs = sum(len(chunk) for chunk in self_join(vectors, Metric.EUCLIDEAN, within=DistanceRange(0, radius)))
        points.append({"name": "self-join", "ms": 1e3 * (time.perf_counter() - begun), "pairs": pairs})
    if len(vectors) >= JOINED:
        begun = time.perf_counter()
        found = joins.prepare(plain, plain, Metric.EUCLIDEAN, within=DistanceRange(0, radius))
        pairs = sum(len(chunk) for chunk in found.chunks(0))
        spent = 1e3 * (time.perf_counter() - begun)
        points.append({"name": APPROXIMATE, "ms": spent, "pairs": pairs, "recall": found.recall})
    by_name = {point["name"]: {**point, "rows": len(vectors)} for point in points}
    by_name["HNSW"]["recall"] = right
    return [by_name[name] for name in NAMES if name in by_name]
