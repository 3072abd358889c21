"""Exact joins of two arrays, or of one with itself."""

from collections.abc import Iterator
from typing import SupportsIndex

import numpy as np

from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search.answers import NO_PAIRS, JoinChunk, Pairs, round_range
from lookalike.search.arguments import Vectors, check_begin, check_k, check_one_of, check_range, check_sides
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
        left: ``(n, d)``, as `prepare` takes them.
        right: ``(m, d)``.
        metric: what to measure with.
        k: as in `knn`.
        within: as in `within`. Give this or k.
        begin: start at this left row, to resume a join that ended early: see `JoinChunk.done`.

    Returns:
        Chunks of pairs in bounded memory, in the order of left rows. With a range a left row may go on in a later chunk;
        with k it never does. A chunk may be empty: it says that more left rows are done.

    Raises:
        UsageError: both or neither of k and within, a ``begin`` that is not a left row, and what `knn` and `within`
            raise. At the call, not at the first chunk.
    """
    a, b = check_sides(left, right, metric)
    start = check_begin(begin, len(a))
    check_one_of(k, within)
    if within is not None:
        return _pairs_within(a, b, check_range(within), metric, start)
    count = min(check_k(0 if k is None else k), max(1, len(b)))
    engine = Engine(add_for_nearest(b, a, metric), metric)
    return (
        JoinChunk.of(_renumber(engine.nearest(a.take(part), count), part.start), part.stop)
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

    With k, two rows are a pair if either is among the k nearest others of the other one. With a range, if their distance
    lies in it.

    Args:
        vectors: ``(n, d)``, as `prepare` takes them.
        metric: what to measure with.
        k: as in `knn`.
        within: as in `within`. Give this or k.
        begin: start at this row, to resume a join that ended early: see `JoinChunk.done`. With k, earlier rows that turn
            up as neighbours are searched once more.

    Returns:
        Chunks of pairs in bounded memory (with k, and 12 bytes for each row). A left row may go on in a later chunk. A
        chunk may be empty: it says that more rows are done.

    Raises:
        UsageError: as in `join`.
    """
    side, _ = check_sides(vectors, vectors, metric)
    start = check_begin(begin, len(side))
    check_one_of(k, within)
    if within is not None:
        return _own_pairs_within(side, check_range(within), metric, start)
    return _neighbours(Engine(add_for_nearest(side, side, metric), metric), check_k(0 if k is None else k), start)


def _pairs_within(
    left: Gallery, right: Gallery, within: DistanceRange, metric: Metric, begin: int
) -> Iterator[JoinChunk]:
    """Find all pairs in a range, tile by tile."""
    engine = Engine(add_for_range(right, left, metric, round_range(within)[1]), metric)
    for part in query_chunks(len(left), begin=begin):
        for pairs in engine.within(left.take(part), within):
            if len(pairs):
                yield JoinChunk.of(_renumber(pairs, part.start).sorted(), part.start)
        yield JoinChunk.of(NO_PAIRS, part.stop)


def _own_pairs_within(side: Gallery, within: DistanceRange, metric: Metric, begin: int) -> Iterator[JoinChunk]:
    """Find all pairs of one array in a range, tile by tile: each row is compared with later ones only."""
    engine = Engine(add_for_range(side, side, metric, round_range(within)[1]), metric)
    for part in query_chunks(len(side), begin=begin):
        for found in engine.within(side.take(part), within, part, part.start):
            pairs = found.keep(found.left + part.start < found.right)
            if len(pairs):
                yield JoinChunk.of(_renumber(pairs, part.start).sorted(), part.start)
        yield JoinChunk.of(NO_PAIRS, part.stop)


def _neighbours(engine: Engine, k: int, begin: int) -> Iterator[JoinChunk]:
    """Find rows of which either is among the k nearest others of the other one, each pair once."""
    rows = len(engine.gallery)
    k = min(k, rows - 1)
    farthest = np.full(rows, -1, np.float32)  # a row's last neighbour, as (distance, row)
    last = np.full(rows, -1)
    for part in query_chunks(rows, k + 1, begin) if k > 0 else ():
        pairs = _nearest_others(engine, np.arange(part.start, part.stop), k)
        farthest[part], last[part] = pairs.distances[k - 1 :: k], pairs.right[k - 1 :: k]
        unknown = np.unique(pairs.right[(pairs.right < begin) & (last[pairs.right] < 0)])
        for some in query_chunks(len(unknown), k + 1):
            earlier = _nearest_others(engine, unknown[some], k)
            farthest[unknown[some]] = earlier.distances[k - 1 :: k]
            last[unknown[some]] = earlier.right[k - 1 :: k]
        # If the other row came before and has this one among its own, the pair was given already.
        left, right, distances = pairs.left, pairs.right, pairs.distances
        nearer = (distances < farthest[right]) | ((distances == farthest[right]) & (left <= last[right]))
        new = (left < right) | ~nearer
        found = Pairs(np.minimum(left, right), np.maximum(left, right), distances).keep(new).sorted()
        yield JoinChunk.of(found, part.stop)


def _nearest_others(engine: Engine, rows: Int64[np.ndarray, " m"], k: int) -> Pairs:
    """Find the k nearest others of some rows, of which there must be as many."""
    found = engine.nearest(engine.gallery.take(rows), k + 1, rows)
    # A row may have more duplicates than k, so that it is not among its own k + 1 nearest; then the last one goes.
    found = found.keep(rows[found.left] != found.right).first(k)
    return Pairs(rows[found.left], found.right, found.distances)


def _renumber(pairs: Pairs, begin: int) -> Pairs:
    """Number the left rows of a batch in the whole of them."""
    return Pairs(pairs.left + begin, pairs.right, pairs.distances)
