"""Exact joins of two arrays, and self-joins."""

from collections.abc import Iterator
from typing import SupportsIndex

import numpy as np

from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search.answers import NO_PAIRS, JoinChunk, Pairs
from lookalike.search.arguments import Vectors, check_begin, check_k, check_k_or_range, check_range, check_sides
from lookalike.search.engine import Engine, query_chunks
from lookalike.search.gallery import Gallery
from lookalike.search.prefilters.projected import add_for_nearest, add_for_range
from lookalike.shapes import Int64


def join(
    left: Vectors,
    right: Vectors,
    metric: Metric,
    *,
    k: SupportsIndex | None = None,
    within: DistanceRange | None = None,
    begin: SupportsIndex = 0,
) -> Iterator[JoinChunk]:
    """Pair each left row with its k nearest right rows, or with all right rows in a range of distances.

    Args:
        left: ``(n, d)``, as for `prepare`.
        right: ``(m, d)``.
        metric: of the distances.
        k: as in `knn`. Give this or ``within``.
        within: as in `within`.
        begin: the first left row, to resume a join; see `JoinChunk.done`.

    Returns:
        Chunks of pairs in bounded memory, in the order of left rows. With a range, several chunks may have pairs of one
        left row. A chunk may be empty, and only report that more left rows are done.

    Raises:
        UsageError: both or neither of k and within are given, ``begin`` is not a left row, or as in `knn`. It is raised
            at the call, not at the first chunk.
    """
    a, b = check_sides(left, right, metric)
    start = check_begin(begin, len(a))
    check_k_or_range(k, within)
    if within is not None:
        return _pairs_within(a, b, check_range(within), metric, start)
    count = min(check_k(0 if k is None else k), max(1, len(b)))
    engine = Engine(add_for_nearest(b, a, metric), metric)
    return (
        JoinChunk.of(engine.nearest(a.take(part), count).shifted(part.start), part.stop)
        for part in query_chunks(len(a), count, start)
    )


def self_join(
    vectors: Vectors,
    metric: Metric,
    *,
    k: SupportsIndex | None = None,
    within: DistanceRange | None = None,
    begin: SupportsIndex = 0,
) -> Iterator[JoinChunk]:
    """Pair the rows of one array with each other: each pair once, with left < right.

    With k, two rows are a pair if one is among the k nearest neighbours of the other. With a range, two rows are a pair if
    their distance lies in it.

    Args:
        vectors: ``(n, d)``, as for `prepare`.
        metric: of the distances.
        k: as in `knn`. Give this or ``within``.
        within: as in `within`.
        begin: the first row, to resume a join; see `JoinChunk.done`. With k, earlier rows that are neighbours are
            searched once more.

    Returns:
        Chunks of pairs in bounded memory, and with k 12 more bytes for each row. Several chunks may have pairs of one left
        row. A chunk may be empty, and only report that more rows are done.

    Raises:
        UsageError: as in `join`.
    """
    side, _ = check_sides(vectors, vectors, metric)
    start = check_begin(begin, len(side))
    check_k_or_range(k, within)
    if within is not None:
        return _own_pairs_within(side, check_range(within), metric, start)
    return _own_neighbours(Engine(add_for_nearest(side, side, metric), metric), check_k(0 if k is None else k), start)


def _pairs_within(
    left: Gallery, right: Gallery, within: DistanceRange, metric: Metric, begin: int
) -> Iterator[JoinChunk]:
    """Find all pairs in a range, tile by tile."""
    engine = Engine(add_for_range(right, left, metric, within), metric)
    for part in query_chunks(len(left), begin=begin):
        for pairs in engine.within(left.take(part), within):
            if len(pairs):
                yield JoinChunk.of(pairs.shifted(part.start).sorted(), part.start)
        yield JoinChunk.of(NO_PAIRS, part.stop)


def _own_pairs_within(side: Gallery, within: DistanceRange, metric: Metric, begin: int) -> Iterator[JoinChunk]:
    """Find all pairs of one array in a range, tile by tile; each row is compared only with later rows."""
    engine = Engine(add_for_range(side, side, metric, within), metric)
    for part in query_chunks(len(side), begin=begin):
        for both_orders in engine.within(side.take(part), within, part, part.start):
            pairs = both_orders.keep(both_orders.left + part.start < both_orders.right)
            if len(pairs):
                yield JoinChunk.of(pairs.shifted(part.start).sorted(), part.start)
        yield JoinChunk.of(NO_PAIRS, part.stop)


def _own_neighbours(engine: Engine, k: int, begin: int) -> Iterator[JoinChunk]:
    """Find the pairs of rows of which one is among the k nearest neighbours of the other, each pair once."""
    rows = len(engine.gallery)
    k = min(k, rows - 1)
    # (distance, row) of each row's k-th neighbour
    farthest = np.full(rows, -1, np.float32)
    last = np.full(rows, -1)
    for part in query_chunks(rows, k + 1, begin) if k > 0 else ():
        pairs = _nearest_others(engine, np.arange(part.start, part.stop), k)
        farthest[part], last[part] = pairs.distances[k - 1 :: k], pairs.right[k - 1 :: k]
        unknown = np.unique(pairs.right[(pairs.right < begin) & (last[pairs.right] < 0)])
        for batch in query_chunks(len(unknown), k + 1):
            earlier = _nearest_others(engine, unknown[batch], k)
            farthest[unknown[batch]] = earlier.distances[k - 1 :: k]
            last[unknown[batch]] = earlier.right[k - 1 :: k]
        # An earlier chunk has the pair if the right row is earlier and has the left row among its neighbours.
        left, right, distances = pairs.left, pairs.right, pairs.distances
        mutual = (distances < farthest[right]) | ((distances == farthest[right]) & (left <= last[right]))
        new = (left < right) | ~mutual
        ordered = Pairs(np.minimum(left, right), np.maximum(left, right), distances)
        yield JoinChunk.of(ordered.keep(new).sorted(), part.stop)


def _nearest_others(engine: Engine, rows: Int64[np.ndarray, " m"], k: int) -> Pairs:
    """Find the k nearest neighbours of some rows; the gallery must have more than k rows."""
    pairs = engine.nearest(engine.gallery.take(rows), k + 1, rows)
    # A row with more than k duplicates may not be among its own k + 1 nearest rows; `first` then removes the last one.
    pairs = pairs.keep(rows[pairs.left] != pairs.right).first(k)
    return Pairs(rows[pairs.left], pairs.right, pairs.distances)
