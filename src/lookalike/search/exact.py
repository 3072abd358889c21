"""Exact k-NN and range search."""

from collections.abc import Iterator
from typing import SupportsIndex

import numpy as np

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import bounds
from lookalike.search.answers import NO_PAIRS, Hits, Pairs, concatenate, round_range
from lookalike.search.arguments import Vectors, check_k, check_range, check_rows, check_sides
from lookalike.search.engine import PAIR, Engine, first_k, query_chunks
from lookalike.search.gallery import Gallery
from lookalike.search.prefilters.projected import add_for_nearest, add_for_range
from lookalike.shapes import Shaped


def knn(
    queries: Vectors,
    gallery: Vectors,
    k: SupportsIndex,
    metric: Metric,
    *,
    rows: Shaped[np.ndarray, "..."] | None = None,
) -> Hits:
    """Find the k nearest gallery rows of each query, or all rows if there are fewer; ties go to the lower row.

    Args:
        queries: ``(q, d)``, as for `prepare`.
        gallery: ``(n, d)``; prepare it to search it more than once.
        k: at least 1.
        metric: of the distances.
        rows: search only these gallery rows, ascending. Hits still number all gallery rows.

    Raises:
        UsageError: k is below 1, the rows do not ascend within the gallery, `prepare` refuses the vectors, or their
            dimensions differ.
    """
    left, right = check_sides(queries, gallery, metric)
    subset, count = check_rows(rows, len(right)), min(check_k(k), max(1, len(right)))
    if subset is None:  # projecting the whole gallery for some rows would take longer
        right = add_for_nearest(right, left, metric)
    engine = Engine(right, metric, subset)
    if len(left) == 1:
        return Hits.from_sorted(engine.nearest(left, count))
    parts = [engine.nearest(left.take(part), count).shifted(part.start) for part in query_chunks(len(left), count)]
    return Hits.from_sorted(concatenate(parts), len(left))


def within(
    queries: Vectors,
    gallery: Vectors,
    within: DistanceRange,
    metric: Metric,
    *,
    rows: Shaped[np.ndarray, "..."] | None = None,
) -> Hits:
    """Find all gallery rows whose distance from the query lies in a range.

    Args:
        queries: ``(q, d)``, as for `prepare`.
        gallery: ``(n, d)``; prepare it to search it more than once.
        within: the range. Its ends are included, and rounded to float32 as distances are: a range that ends at the
            distance of a hit includes that hit.
        metric: of the distances.
        rows: search only these gallery rows, ascending. Hits still number all gallery rows.

    Raises:
        UsageError: as in `knn`.
    """
    left, right = check_sides(queries, gallery, metric)
    subset = check_rows(rows, len(right))
    check_range(within)
    if subset is None:
        right = add_for_range(right, left, metric, within)
    engine = Engine(right, metric, subset)
    if len(left) == 1:
        pairs = concatenate(list(engine.within(left, within)))
        return Hits.from_sorted(first_k(pairs, len(pairs), 1))
    parts = [
        pairs.shifted(part.start)
        for part in query_chunks(len(left))
        for pairs in engine.within(left.take(part), within)
    ]
    return Hits.from_pairs(parts, len(left))


def within_sorted(
    query: Vectors,
    gallery: Vectors,
    within: DistanceRange,
    metric: Metric,
    *,
    rows: Shaped[np.ndarray, "..."] | None = None,
) -> Iterator[Pairs]:
    """Find all gallery rows in a range for one query, in sorted chunks of bounded size, nearest first.

    A chunk has at most as many hits as `bounds.BUDGET` allows, several hundred thousand, and takes one pass over the
    gallery. So a caller that stops early waits for one pass only.

    Args:
        query: ``(1, d)``, as for `prepare`.
        gallery: as in `within`.
        within: as in `within`.
        metric: of the distances.
        rows: as in `within`.

    Returns:
        Chunks of pairs, none empty, sorted by (distance, right) across chunks; left is always 0.

    Raises:
        UsageError: there is not exactly one query, or as in `within`. It is raised at the call, not at the first chunk.
    """
    left, right = check_sides(query, gallery, metric)
    if len(left) != 1:
        raise UsageError(f"Sorted chunks are for one query of shape (1, d), not for {len(left)}.")
    engine = Engine(right, metric, check_rows(rows, len(right)))
    return _ascending(engine, left, check_range(within))


def _ascending(engine: Engine, query: Gallery, within: DistanceRange) -> Iterator[Pairs]:
    """Find one query's pairs in a range, nearest first, one chunk in each pass over the gallery."""
    size = max(1, bounds.BUDGET // PAIR)
    nearest, farthest = round_range(within)
    last: tuple[np.float32, int] = nearest, -1  # (distance, right) of the last yielded pair
    while True:
        best = NO_PAIRS
        for pairs in engine.within(query, DistanceRange(float(last[0]), float(farthest))):
            after = (pairs.distances > last[0]) | (pairs.right > last[1])
            best = first_k(concatenate([best, pairs.keep(after)]), size, 1)
        if len(best):
            yield best
        if len(best) < size:
            return
        last = best.distances[-1], int(best.right[-1])
