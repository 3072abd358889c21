"""The questions themselves."""

import math
import operator
from collections.abc import Iterator
from dataclasses import replace
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import bounds, single
from lookalike.search.answers import Hits, JoinChunk, Pairs, joined, round_range
from lookalike.search.bounds import Gallery, kth, prepare
from lookalike.search.chunks import chunks
from lookalike.search.projection import WORTH, Projection, projected, shortened
from lookalike.search.tiles import PAIR, Tile, tiles

_QUERIES = 256
"""Queries in a tile: enough for BLAS to run at its peak."""

_MANY = 4 * _QUERIES
"""Queries for the nearest for which a gallery that is not in fewer dimensions already is brought there; for all in a radius
a quarter of them, since it is chosen by the very radius."""


def knn(
    queries: Shaped[np.ndarray, "..."] | Gallery,
    gallery: Shaped[np.ndarray, "..."] | Gallery,
    k: SupportsIndex,
    metric: Metric,
    *,
    rows: Shaped[np.ndarray, "..."] | None = None,
) -> Hits:
    """The k nearest gallery rows of each query; all of them where there are fewer. Of equals, the lower rows win.

    Args:
        queries: ``(q, d)``, as `prepare` takes them.
        gallery: ``(n, d)``; prepare it where it is searched more than once.
        k: at least 1.
        metric: what to measure with.
        rows: search only these gallery rows, ascending. Answers are gallery rows all the same.

    Raises:
        UsageError: k < 1, rows that do not ascend within the gallery, or vectors that `prepare` refuses or that do not
            have the same dimension.
    """
    left, right = _sides(queries, gallery, metric)
    chosen, most = _checked_rows(rows, len(right)), min(_checked_k(k), max(1, len(right)))
    if len(left) == 1:
        return _one(single.nearest(left, right, most, metric, chosen))
    if (
        chosen is None
    ):  # to bring all of a gallery into fewer dimensions for some of its rows would cost more than these
        right = _shortened(left, right, metric)
    parts = [_nearest(left, part, right, most, metric, rows=chosen) for part in _query_chunks(len(left), most)]
    return Hits.from_pairs(parts, len(left))


def within(
    queries: Shaped[np.ndarray, "..."] | Gallery,
    gallery: Shaped[np.ndarray, "..."] | Gallery,
    within: DistanceRange,
    metric: Metric,
    *,
    rows: Shaped[np.ndarray, "..."] | None = None,
) -> Hits:
    """All gallery rows whose distance from the query is at most the radius, and at least so much.

    Args:
        queries: ``(q, d)``, as `prepare` takes them.
        gallery: ``(n, d)``; prepare it where it is searched more than once.
        within: the distances to find. Its ends are rounded to float32, as distances are, so a distance that an earlier
            answer gave, taken as an end, includes that answer.
        metric: what to measure with.
        rows: search only these gallery rows, ascending. Answers are gallery rows all the same.

    Raises:
        UsageError: what `knn` raises.
    """
    left, right = _sides(queries, gallery, metric)
    chosen, within = _checked_rows(rows, len(right)), _checked_range(within)
    if len(left) == 1:
        return _one(joined(list(single.inside(left, right, within, metric, chosen))).sorted())
    return Hits.from_pairs(list(_inside(left, right, within, metric, rows=chosen)), len(left))


def within_sorted(
    query: Shaped[np.ndarray, "..."] | Gallery,
    gallery: Shaped[np.ndarray, "..."] | Gallery,
    within: DistanceRange,
    metric: Metric,
    *,
    rows: Shaped[np.ndarray, "..."] | None = None,
) -> Iterator[Pairs]:
    """What `within` gives for one query, however much it is: nearest first, in blocks of bounded size.

    A block holds as many hits as `bounds.BUDGET` allows, some hundred thousand, and takes one pass over the gallery.
    So whoever stops early, or asks for fewer, waits for one pass only.

    Args:
        query: ``(1, d)``, as `prepare` takes it.
        gallery: as in `within`.
        within: as in `within`.
        metric: what to measure with.
        rows: as in `within`.

    Returns:
        Blocks of pairs, none empty, one after the other sorted by (distance, right); left is always 0.

    Raises:
        UsageError: more or fewer queries than one, and what `within` raises. At the call, not at the first block.
    """
    left, right = _sides(query, gallery, metric)
    if len(left) != 1:
        raise UsageError(f"Sorted answers in blocks are for one query of shape (1, d), not for {len(left)}.")
    chosen, within = _checked_rows(rows, len(right)), _checked_range(within)
    return _ascending(left, right, within, metric, chosen)


def join(
    left: Shaped[np.ndarray, "..."] | Gallery,
    right: Shaped[np.ndarray, "..."] | Gallery,
    metric: Metric,
    *,
    k: SupportsIndex | None = None,
    within: DistanceRange | None = None,
    begin: SupportsIndex = 0,
) -> Iterator[JoinChunk]:
    """Pair each left row with its k nearest right rows, or with all right rows within the radius.

    Args:
        left: ``(n, d)``, as `prepare` takes them.
        right: ``(m, d)``.
        metric: what to measure with.
        k: as in `knn`.
        within: as in `within`. Give this or k.
        begin: start at this left row, to go on with a join that ended early: see `JoinChunk.done`.

    Returns:
        Blocks of pairs in bounded memory, in the order of left rows. Each is sorted by (left, distance, right). With a
        radius a left row may go on in a later block; with k it never does. A block may be empty: it says that more left
        rows are done.

    Raises:
        UsageError: both or neither of k and radius, a left row to begin at that is not there, and what `knn` and
            `within` raise. At the call, not at the first block.
    """
    one, other = _sides(left, right, metric)
    start = _checked_begin(begin, len(one))
    _check_one_of(k, within)
    if k is None:
        return _inside(one, other, _checked_range(within), metric, begin=start)
    most = min(_checked_k(k), max(1, len(other)))
    other = _shortened(one, other, metric)
    return (
        JoinChunk.of(_nearest(one, part, other, most, metric), part.stop)
        for part in _query_chunks(len(one), most, start)
    )


def self_join(
    vectors: Shaped[np.ndarray, "..."] | Gallery,
    metric: Metric,
    *,
    k: SupportsIndex | None = None,
    within: DistanceRange | None = None,
    begin: SupportsIndex = 0,
) -> Iterator[JoinChunk]:
    """Pair the rows of one array with each other: never a row with itself, each pair once, with left < right.

    With k, two rows are a pair where either is among the k nearest others of the other one. With a radius, where they
    lie within it.

    Args:
        vectors: ``(n, d)``, as `prepare` takes them.
        metric: what to measure with.
        k: as in `knn`.
        within: as in `within`. Give this or k.
        begin: start at this row, to go on with a join that ended early: see `JoinChunk.done`. With k, rows before it that
            turn up as neighbours are searched once more.

    Returns:
        Blocks of pairs in bounded memory (with k, and 12 bytes for each row). Each is sorted by (left, distance,
        right). A left row may go on in a later block. A block may be empty: it says that more rows are done.

    Raises:
        UsageError: as in `join`.
    """
    side, _ = _sides(vectors, vectors, metric)
    start = _checked_begin(begin, len(side))
    _check_one_of(k, within)
    if k is None:
        return _inside(side, side, _checked_range(within), metric, begin=start, once=True)
    return _neighbours(_shortened(side, side, metric), _checked_k(k), metric, start)


def _one(pairs: Pairs) -> Hits:
    """The sorted answers to one query."""
    return Hits(np.array([0, len(pairs)]), pairs.right, pairs.distances)


def _nearest(
    queries: Gallery,
    part: slice,
    gallery: Gallery,
    k: int,
    metric: Metric,
    *,
    rows: Int64[np.ndarray, " m"] | None = None,
) -> Pairs:
    """The k nearest of this part of the queries."""
    some = queries.take(part)
    best: Pairs = joined([])
    fresh: list[Pairs] = []
    for tile in tiles(some, gallery, metric, rows=rows, fewer=_fewer(queries, part, gallery, metric)):
        for found in _lowest(tile, k, _kth(best, k, len(some))):
            fresh.append(found)
            # Sorting costs more than the few pairs that a reach of some tiles ago lets through.
            if sum(len(pairs) for pairs in fresh) >= k * len(some):
                best, fresh = joined([best, *fresh]).sorted().first(k), []
    best = joined([best, *fresh]).sorted().first(k)
    return Pairs(best.left + part.start, best.right, best.distances)


def _lowest(tile: Tile, k: int, reach: Float32[np.ndarray, " q"]) -> Iterator[Pairs]:
    """All pairs of a tile that can be among the k nearest of their query, of those within reach."""
    limits = tile.limits(reach)
    near = np.asarray(tile.bounds <= limits)
    if np.count_nonzero(near) <= k * len(reach):
        yield from tile.measured(np.flatnonzero(near))
        return
    # The k of lowest bound need not be the k nearest, but the k nearest are no farther.
    ceilings = np.minimum(kth(tile.bounds, k)[:, None], limits)
    found: Pairs = joined([])
    for some in tile.measured(np.flatnonzero(tile.bounds <= ceilings)):
        found = joined([found, some]).sorted().first(k)
    reach = np.minimum(reach, _kth(found, k, len(reach)))
    near = np.asarray((tile.bounds <= np.minimum(limits, tile.limits(reach))) & (tile.bounds > ceilings))
    places = np.flatnonzero(tile.sifted(near, reach))
    if len(places) > bounds.BUDGET // PAIR:  # most are as near as each other, and an order would help little
        yield found
        yield from tile.measured(places)
    else:
        yield _refined(tile, places, k, found, reach)


def _refined(
    tile: Tile, places: Int64[np.ndarray, " n"], k: int, found: Pairs, reach: Float32[np.ndarray, " q"]
) -> Pairs:
    """The k nearest of these pairs and those that were found, in rounds: each reaches less far than the one before."""
    most = k
    while len(places):
        left, values = places // len(tile.rows), tile.bounds.reshape(-1)[places]
        order = np.lexsort((values, left))
        places, left, values = places[order], left[order], values[order]
        lowest = np.arange(len(left)) - np.searchsorted(left, left) < most
        found = joined([found, *tile.measured(places[lowest])]).sorted().first(k)
        reach = np.minimum(reach, _kth(found, k, len(reach)))
        limits = np.broadcast_to(tile.limits(reach)[:, 0], len(reach))
        places, most = places[~lowest & (values <= limits[left])], 2 * most
    return found


def _inside(
    queries: Gallery,
    gallery: Gallery,
    within: DistanceRange,
    metric: Metric,
    *,
    rows: Int64[np.ndarray, " m"] | None = None,
    begin: int = 0,
    once: bool = False,
) -> Iterator[JoinChunk]:
    """All pairs in the ring, tile by tile; with ``once``, only those whose left row comes before the right one."""
    _, farthest = round_range(within)
    radius = np.full(1, farthest)
    if rows is None and farthest < np.inf and len(queries) >= _MANY // 4 and _worth(queries, gallery, metric):
        gallery = replace(gallery, short=projected(queries.vectors, gallery.vectors, radius, metric))
        queries = gallery if once else queries
    for part in _query_chunks(len(queries), begin=begin):
        start, fewer = part.start if once else 0, _fewer(queries, part, gallery, metric)
        for tile in tiles(queries.take(part), gallery, metric, rows=rows, begin=start, fewer=fewer):
            for pairs in tile.measured(np.flatnonzero(tile.near(radius))):
                found = pairs.within(within)
                mine = found.keep(found.left + part.start < found.right) if once else found
                if len(mine):
                    yield JoinChunk.of(Pairs(mine.left + part.start, mine.right, mine.distances).sorted(), part.start)
        yield JoinChunk.of(joined([]), part.stop)


def _worth(queries: Gallery, gallery: Gallery, metric: Metric) -> bool:
    """Whether so many comparisons may be worth a projection, and it would be safe."""
    safe = queries.dtype == gallery.dtype == np.float32
    return safe and metric != Metric.HAMMING and len(queries) * len(gallery) >= WORTH


def _shortened(queries: Gallery, gallery: Gallery, metric: Metric) -> Gallery:
    """The gallery, in fewer dimensions as well where so many queries are worth it."""
    if gallery.short is not None or len(queries) < _MANY or not _worth(queries, gallery, metric):
        return gallery
    return replace(gallery, short=shortened(gallery.vectors, metric))


def _fewer(queries: Gallery, part: slice, gallery: Gallery, metric: Metric) -> tuple[Projection, Projection] | None:
    """A part of the queries, and the gallery, in fewer dimensions if there are such."""
    short = gallery.short
    if short is None or short.metric != metric or queries.dtype != np.float32:
        return None
    return short.take(part) if queries is gallery else short.of(queries.vectors[part]), short


def _ascending(
    query: Gallery, gallery: Gallery, within: DistanceRange, metric: Metric, rows: Int64[np.ndarray, " m"] | None
) -> Iterator[Pairs]:
    """All of one query's pairs in the ring, sorted, a block in each pass over the gallery."""
    size = max(1, bounds.BUDGET // PAIR)
    nearest, farthest = round_range(within)
    last: tuple[np.float32, int] = nearest, -1  # the pair that went out last, as (distance, right)
    while True:
        best = joined([])
        for found in single.inside(query, gallery, DistanceRange(float(last[0]), float(farthest)), metric, rows):
            after = (found.distances > last[0]) | (found.right > last[1])
            best = single.first(joined([best, found.keep(after)]), size)
        if len(best):
            yield best
        if len(best) < size:
            return
        last = best.distances[-1], int(best.right[-1])


def _neighbours(side: Gallery, k: int, metric: Metric, begin: int) -> Iterator[JoinChunk]:
    """Rows of which either is among the k nearest others of the other one, each pair once."""
    k = min(k, len(side) - 1)
    farthest = np.full(len(side), -1, np.float32)  # a row's last neighbour, as (distance, row)
    last = np.full(len(side), -1)
    for part in _query_chunks(len(side), k + 1, begin) if k > 0 else ():
        pairs = _others(side, np.arange(part.start, part.stop), k, metric)
        farthest[part], last[part] = pairs.distances[k - 1 :: k], pairs.right[k - 1 :: k]
        unknown = np.unique(pairs.right[(pairs.right < begin) & (last[pairs.right] < 0)])
        for some in _query_chunks(len(unknown), k + 1):
            earlier = _others(side, unknown[some], k, metric)
            farthest[unknown[some]] = earlier.distances[k - 1 :: k]
            last[unknown[some]] = earlier.right[k - 1 :: k]
        # Where the other row came before and has this one among its own, the pair is known.
        left, right, distances = pairs.left, pairs.right, pairs.distances
        nearer = (distances < farthest[right]) | ((distances == farthest[right]) & (left <= last[right]))
        new = (left < right) | ~nearer
        found = Pairs(np.minimum(left, right), np.maximum(left, right), distances).keep(new).sorted()
        yield JoinChunk.of(found, part.stop)


def _others(side: Gallery, rows: Int64[np.ndarray, " m"], k: int, metric: Metric) -> Pairs:
    """The k nearest others of each of these rows, of which there are as many."""
    found = _nearest(side.take(rows), slice(0, len(rows)), side, k + 1, metric)
    # A row may have so many duplicates that it is not among its own k + 1 nearest; then the last one goes.
    found = found.keep(rows[found.left] != found.right).first(k)
    return Pairs(rows[found.left], found.right, found.distances)


def _kth(pairs: Pairs, k: int, queries: int) -> Float32[np.ndarray, " q"]:
    """The distance of each query's k-th pair, of sorted ones; infinite where there are fewer."""
    ends = np.searchsorted(pairs.left, np.arange(queries + 1))
    farthest = np.full(queries, np.inf, np.float32)
    full = np.diff(ends) >= k
    farthest[full] = pairs.distances[ends[:-1][full] + k - 1]
    return farthest


def _query_chunks(queries: int, k: int = 1, begin: int = 0) -> Iterator[slice]:
    return chunks(queries, min(_QUERIES, math.isqrt(bounds.BUDGET // PAIR), bounds.BUDGET // (PAIR * k)), begin)


def _sides(
    left: Shaped[np.ndarray, "..."] | Gallery, right: Shaped[np.ndarray, "..."] | Gallery, metric: Metric
) -> tuple[Gallery, Gallery]:
    one = left if isinstance(left, Gallery) else prepare(left, metric)
    other = one if right is left else right if isinstance(right, Gallery) else prepare(right, metric)
    for side in (one, other):
        if side.vectors.dtype != metric.dtype:
            raise UsageError(
                f"A gallery of {side.vectors.dtype} was not prepared for the {metric} metric; prepare it so."
            )
    ours, theirs = one.vectors.shape[1], other.vectors.shape[1]
    if ours != theirs:
        raise UsageError(f"Vectors of dimension {ours} and {theirs} cannot be compared; one encoder must make both.")
    return one, other


def _checked_rows(rows: Shaped[np.ndarray, "..."] | None, length: int) -> Int64[np.ndarray, " m"] | None:
    if rows is None:
        return None
    rows = np.asarray(rows)
    if rows.ndim != 1 or (rows.dtype.kind not in "iu" and len(rows)):
        raise UsageError("Rows to search are a flat array of row numbers; numpy.flatnonzero makes one of a mask.")
    rows = rows.astype(np.int64, copy=False)
    if len(rows) and (rows[0] < 0 or rows[-1] >= length or np.any(rows[1:] <= rows[:-1])):
        raise UsageError(f"Rows to search must ascend, each once, between 0 and {length - 1}; numpy.unique sorts them.")
    return rows


def _checked_k(k: SupportsIndex) -> int:
    number = operator.index(k)
    if number < 1:
        raise UsageError(f"k must be at least 1, not {number}.")
    return number


def _checked_begin(begin: SupportsIndex, length: int) -> int:
    number = operator.index(begin)
    if not 0 <= number <= length:
        raise UsageError(f"A join of {length} left rows begins between 0 and {length}, not at {number}.")
    return number


def _checked_range(within: DistanceRange | None) -> DistanceRange:
    if not isinstance(within, DistanceRange):
        raise UsageError(f"Distances to find are given as a DistanceRange(min, max), not as {within!r}.")
    return within


def _check_one_of(k: SupportsIndex | None, within: DistanceRange | None) -> None:
    if (k is None) == (within is None):
        raise UsageError("A join takes either k or a distance range: give one of them.")
