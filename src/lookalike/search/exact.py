"""The questions themselves."""

import math
import operator
from collections.abc import Iterator
from typing import SupportsFloat, SupportsIndex

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.search import bounds
from lookalike.search.answers import Hits, Pairs, joined
from lookalike.search.bounds import PAIR, Gallery, blocks, prepare, tiles

_QUERIES = 256
"""Queries in a tile: enough for BLAS to run at its peak."""


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
    parts = [_nearest(left, part, right, most, metric, rows=chosen) for part in _query_blocks(len(left), most)]
    return Hits.from_pairs(parts, len(left))


def within(
    queries: Shaped[np.ndarray, "..."] | Gallery,
    gallery: Shaped[np.ndarray, "..."] | Gallery,
    radius: SupportsFloat,
    metric: Metric,
    *,
    rows: Shaped[np.ndarray, "..."] | None = None,
) -> Hits:
    """All gallery rows whose distance from the query is at most the radius.

    Args:
        queries: ``(q, d)``, as `prepare` takes them.
        gallery: ``(n, d)``; prepare it where it is searched more than once.
        radius: at least 0; infinity is everything. It is rounded to float32, as distances are, so a distance that an
            earlier answer gave, taken as the radius, includes that answer.
        metric: what to measure with.
        rows: search only these gallery rows, ascending. Answers are gallery rows all the same.

    Raises:
        UsageError: a radius that is negative or NaN, and what `knn` raises.
    """
    left, right = _sides(queries, gallery, metric)
    chosen, reach = _checked_rows(rows, len(right)), _checked_radius(radius)
    return Hits.from_pairs(list(_inside(left, right, reach, metric, rows=chosen)), len(left))


def join(
    left: Shaped[np.ndarray, "..."] | Gallery,
    right: Shaped[np.ndarray, "..."] | Gallery,
    metric: Metric,
    *,
    k: SupportsIndex | None = None,
    radius: SupportsFloat | None = None,
) -> Iterator[Pairs]:
    """Pair each left row with its k nearest right rows, or with all right rows within the radius.

    Args:
        left: ``(n, d)``, as `prepare` takes them.
        right: ``(m, d)``.
        metric: what to measure with.
        k: as in `knn`.
        radius: as in `within`. Give this or k.

    Returns:
        Blocks of pairs in bounded memory, none empty. Each is sorted by (left, distance, right). With a radius a left
        row may go on in a later block; with k it never does.

    Raises:
        UsageError: both or neither of k and radius, and what `knn` and `within` raise. At the call, not at the first block.
    """
    one, other = _sides(left, right, metric)
    _check_one_of(k, radius)
    blocks: Iterator[Pairs]
    if k is not None:
        most = min(_checked_k(k), max(1, len(other)))
        blocks = (_nearest(one, part, other, most, metric) for part in _query_blocks(len(one), most))
    else:
        blocks = _inside(one, other, _checked_radius(radius), metric)
    return (block for block in blocks if len(block))


def self_join(
    vectors: Shaped[np.ndarray, "..."] | Gallery,
    metric: Metric,
    *,
    k: SupportsIndex | None = None,
    radius: SupportsFloat | None = None,
) -> Iterator[Pairs]:
    """Pair the rows of one array with each other: never a row with itself, each pair once, with left < right.

    With k, two rows are a pair where either is among the k nearest others of the other one. With a radius, where they
    lie within it.

    Args:
        vectors: ``(n, d)``, as `prepare` takes them.
        metric: what to measure with.
        k: as in `knn`.
        radius: as in `within`. Give this or k.

    Returns:
        Blocks of pairs in bounded memory (with k, and 12 bytes for each row), none empty. Each is sorted by (left,
        distance, right). A left row may go on in a later block.

    Raises:
        UsageError: as in `join`.
    """
    side, _ = _sides(vectors, vectors, metric)
    _check_one_of(k, radius)
    if k is not None:
        blocks = _neighbours(side, _checked_k(k), metric)
    else:
        blocks = _inside(side, side, _checked_radius(radius), metric, once=True)
    return (block for block in blocks if len(block))


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
    best = joined([])
    for tile in tiles(some, gallery, metric, rows):
        reach = _kth(best, k, len(some))
        near = tile.near(reach)
        if np.count_nonzero(near) > 4 * k * len(some):
            # Too many to measure. The k of lowest bound need not be the k nearest, but the k nearest are no farther.
            lowest = np.argpartition(tile.bounds, k - 1, axis=1)[:, :k]
            asking = np.repeat(np.arange(len(some)), k)
            farthest = tile.measure(asking, lowest.ravel()).distances.reshape(lowest.shape).max(axis=1)
            near = tile.near(np.minimum(reach, farthest))
        best = _first(
            joined([best, tile.measure(*np.divmod(np.flatnonzero(near), len(tile.rows)))]).sorted(), k, len(some)
        )
    return Pairs(best.left + part.start, best.right, best.distances)


def _inside(
    queries: Gallery,
    gallery: Gallery,
    radius: np.float32,
    metric: Metric,
    *,
    rows: Int64[np.ndarray, " m"] | None = None,
    once: bool = False,
) -> Iterator[Pairs]:
    """All pairs within the radius, tile by tile; with ``once``, only those whose left row comes before the right one."""
    for part in _query_blocks(len(queries)):
        for tile in tiles(queries.take(part), gallery, metric, rows, part.start if once else 0):
            near = tile.near(np.full(1, radius))
            if once:
                near &= np.arange(part.start, part.stop)[:, None] < tile.rows
            found = tile.measure(*np.divmod(np.flatnonzero(near), len(tile.rows)))
            found = found.keep(found.distances <= radius).sorted()
            yield Pairs(found.left + part.start, found.right, found.distances)


def _neighbours(side: Gallery, k: int, metric: Metric) -> Iterator[Pairs]:
    """Rows of which either is among the k nearest others of the other one, each pair once."""
    k = min(k, len(side) - 1)
    farthest = np.full(len(side), -1, np.float32)  # a row's last neighbour, as (distance, row)
    last = np.full(len(side), -1)
    for part in _query_blocks(len(side), k + 1) if k > 0 else ():
        found = _nearest(side, part, side, k + 1, metric)
        # A row may have so many duplicates that it is not among its own k + 1 nearest; then the last one goes.
        found = found.keep(found.left != found.right)
        local = _first(Pairs(found.left - part.start, found.right, found.distances), k, part.stop - part.start)
        left, right, distances = local.left + part.start, local.right, local.distances
        farthest[part], last[part] = distances[k - 1 :: k], right[k - 1 :: k]
        # Where the other row came before and has this one among its own, the pair is known.
        nearer = (distances < farthest[right]) | ((distances == farthest[right]) & (left <= last[right]))
        new = (left < right) | ~nearer
        yield Pairs(np.minimum(left, right), np.maximum(left, right), distances).keep(new).sorted()


def _first(pairs: Pairs, k: int, queries: int) -> Pairs:
    """The first k pairs of each query, of sorted ones."""
    begins = np.searchsorted(pairs.left, np.arange(queries))
    return pairs.keep(np.arange(len(pairs)) - begins[pairs.left] < k)


def _kth(pairs: Pairs, k: int, queries: int) -> Float32[np.ndarray, " q"]:
    """The distance of each query's k-th pair, of sorted ones; infinite where there are fewer."""
    ends = np.searchsorted(pairs.left, np.arange(queries + 1))
    farthest = np.full(queries, np.inf, np.float32)
    full = np.diff(ends) >= k
    farthest[full] = pairs.distances[ends[:-1][full] + k - 1]
    return farthest


def _query_blocks(queries: int, k: int = 1) -> Iterator[slice]:
    return blocks(queries, min(_QUERIES, math.isqrt(bounds.BUDGET // PAIR), bounds.BUDGET // (PAIR * k)))


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


def _checked_radius(radius: SupportsFloat | None) -> np.float32:
    number = float(0 if radius is None else radius)
    if not number >= 0:
        raise UsageError(f"A radius must be a distance of at least 0, not {number:g}.")
    with np.errstate(over="ignore"):
        return np.float32(number)


def _check_one_of(k: SupportsIndex | None, radius: SupportsFloat | None) -> None:
    if (k is None) == (radius is None):
        raise UsageError("A join takes either k or a radius: give one of them.")
