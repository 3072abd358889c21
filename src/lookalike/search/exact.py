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
        queries: ``(q, d)``, as `prepare` takes them.
        gallery: ``(n, d)``; prepare it if it is searched more than once.
        k: at least 1.
        metric: what to measure with.
        rows: search only these gallery rows, ascending. Hits are gallery rows all the same.

    Raises:
        UsageError: k < 1, rows that do not ascend within the gallery, or vectors that `prepare` refuses or that do not
            have the same dimension.
    """
    left, right = check_sides(queries, gallery, metric)
    subset, count = check_rows(rows, len(right)), min(check_k(k), max(1, len(right)))
    if subset is None:  # to project a gallery for some of its rows would cost more than it saves
        right = add_for_nearest(right, left, metric)
    engine = Engine(right, metric, subset)
    if len(left) == 1:
        return Hits.from_sorted(engine.nearest(left, count))
    return Hits.from_pairs(
        [_shift(engine.nearest(left.take(part), count), part.start) for part in query_chunks(len(left), count)],
        len(left),
    )


def within(
    queries: Vectors,
    gallery: Vectors,
    within: DistanceRange,
    metric: Metric,
    *,
    rows: Shaped[np.ndarray, "..."] | None = None,
) -> Hits:
    """Find all gallery rows whose distance from the query lies in a range, however many there are.

    Args:
        queries: ``(q, d)``, as `prepare` takes them.
        gallery: ``(n, d)``; prepare it if it is searched more than once.
        within: the range. Its ends are included, and rounded to float32 as distances are: the distance of an earlier
            answer, used as an end, includes that answer.
        metric: what to measure with.
        rows: search only these gallery rows, ascending. Hits are gallery rows all the same.

    Raises:
        UsageError: as `knn` raises it.
    """
    left, right = check_sides(queries, gallery, metric)
    subset, (_, farthest) = check_rows(rows, len(right)), round_range(check_range(within))
    if subset is None:
        right = add_for_range(right, left, metric, farthest)
    engine = Engine(right, metric, subset)
    if len(left) == 1:
        pairs = concatenate(list(engine.within(left, within)))
        return Hits.from_sorted(first_k(pairs, len(pairs), 1))
    parts = [
        _shift(pairs, part.start)
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
    """Find what `within` finds for one query, in sorted chunks of bounded size, nearest first.

    A chunk holds as many hits as `bounds.BUDGET` allows, some hundred thousand, and takes one pass over the gallery. A
    caller that stops early waits for one pass only.

    Args:
        query: ``(1, d)``, as `prepare` takes it.
        gallery: as in `within`.
        within: as in `within`.
        metric: what to measure with.
        rows: as in `within`.

    Returns:
        Chunks of pairs, none empty, sorted by (distance, right) one after the other; left is always 0.

    Raises:
        UsageError: more or fewer queries than one, and what `within` raises. At the call, not at the first chunk.
    """
    left, right = check_sides(query, gallery, metric)
    if len(left) != 1:
        raise UsageError(f"Sorted chunks are for one query of shape (1, d), not for {len(left)}.")
    engine = Engine(right, metric, check_rows(rows, len(right)))
    return _ascending(engine, left, check_range(within))


def _ascending(engine: Engine, query: Gallery, within: DistanceRange) -> Iterator[Pairs]:
    """Find all of one query's pairs in a range, sorted, a chunk in each pass over the gallery."""
    size = max(1, bounds.BUDGET // PAIR)
    nearest, farthest = round_range(within)
    last: tuple[np.float32, int] = nearest, -1  # the last pair that was yielded, as (distance, right)
    while True:
        best = NO_PAIRS
        for found in engine.within(query, DistanceRange(float(last[0]), float(farthest))):
            after = (found.distances > last[0]) | (found.right > last[1])
            best = first_k(concatenate([best, found.keep(after)]), size, 1)
        if len(best):
            yield best
        if len(best) < size:
            return
        last = best.distances[-1], int(best.right[-1])


def _shift(pairs: Pairs, begin: int) -> Pairs:
    """Number the queries of a batch in the whole of them."""
    return Pairs(pairs.left + begin, pairs.right, pairs.distances) if begin else pairs
