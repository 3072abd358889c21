"""Exact search over arrays: the k nearest, everything within a radius, and joins of two collections or of one.

This is the oracle that everything else is compared with: the answers, rows and distances alike, are those of
`lookalike.metric.pairwise` rounded to float32 and sorted by (distance, row), on any data.

They come by filter and refine (Seidl and Kriegel, "Optimal multi-step k-nearest neighbor search", SIGMOD 1998). BLAS
gives a *lower bound* of every distance at the speed of memory; what the bound cannot rule out is measured by definition.
So rounding in BLAS, and the cancellation in ‖a‖² - 2ab + ‖b‖², cost a few more measurements and never a wrong answer.

Queries and galleries go through in tiles, so that the memory in use does not grow with either.
"""

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped, UInt8, UInt64

from lookalike.errors import UsageError
from lookalike.metric import Metric, paired, squared_norms

_BUDGET = 64 * 2**20
"""Bytes that a tile may take beside its answer."""

_PAIR = 96
"""Bytes that one (query, row) pair of a tile may take: its bound, its place in the order, its indices, its distance."""

_QUERIES = 256
"""Queries in a tile: enough for BLAS to run at its peak."""

_CACHED = 2**16
"""Numbers measured at a time: a float64 array of so many stays in the processor's cache."""

_SAFE = (2.0**-80, 2.0**100)
"""Squared norms between which no step of the float32 bound overflows, or loses more than its margin to underflow."""

_SHORT = 2**20
"""Dimension below which the margin of the float32 bound is small enough for the bound to say something."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows of two arrays, sorted by (left, distance, right).

    Attributes:
        left: rows of the first array.
        right: rows of the second.
        distances: in the metric's unit.
    """

    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " n"]
    distances: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.left)

    def keep(self, chosen: Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]) -> "Pairs":
        """Those of a mask, or those at these places."""
        return Pairs(self.left[chosen], self.right[chosen], self.distances[chosen])

    def sorted(self) -> "Pairs":
        """By (left, distance, right)."""
        return self.keep(np.lexsort((self.right, self.distances, self.left)))


@dataclass(frozen=True, eq=False)
class Hits:
    """The answers to ``q`` queries: those to query ``i`` are ``hits[i]``, sorted by (distance, row).

    Attributes:
        offsets: ``(q + 1,)``; the answers of query ``i`` stand at ``offsets[i]:offsets[i + 1]`` of the other two.
        rows: of the gallery.
        distances: in the metric's unit.
        exact: these are the very nearest, not approximately.
        complete: no row within the radius is missing.
    """

    offsets: Int64[np.ndarray, " offsets"]
    rows: Int64[np.ndarray, " total"]
    distances: Float32[np.ndarray, " total"]
    exact: bool = True
    complete: bool = True

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.offsets) - 1

    def __getitem__(self, query: int) -> tuple[Int64[np.ndarray, " hits"], Float32[np.ndarray, " hits"]]:
        """Rows and distances of one query's answers."""
        if not 0 <= query < len(self):
            raise IndexError(query)
        mine = slice(self.offsets[query], self.offsets[query + 1])
        return self.rows[mine], self.distances[mine]

    def __iter__(self) -> Iterator[tuple[Int64[np.ndarray, " hits"], Float32[np.ndarray, " hits"]]]:
        """Rows and distances, query by query."""
        return (self[query] for query in range(len(self)))

    @classmethod
    def from_pairs(cls, parts: list[Pairs], queries: int, *, exact: bool = True, complete: bool = True) -> "Hits":
        """The answers of which these are the pairs (query, row), in any order."""
        pairs = _joined(parts).sorted()
        offsets = np.searchsorted(pairs.left, np.arange(queries + 1))
        return cls(offsets, pairs.right, pairs.distances, exact, complete)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Vectors made ready by `prepare`: checked, and measured once for any number of searches.

    Attributes:
        vectors: float32, or uint8 for Hamming. A memory-mapped array stays one.
        squared_norms: of each vector; zeros for Hamming, which needs none.
        dtype: the precision in which lower bounds of these vectors can be computed.
    """

    vectors: Float32[np.ndarray, "n d"] | UInt8[np.ndarray, "n d"]
    squared_norms: Float64[np.ndarray, " n"]
    dtype: "np.dtype[Any]" = field(default=np.dtype(np.float32))

    def __len__(self) -> int:
        """The number of vectors."""
        return len(self.vectors)

    def take(self, rows: slice | Int64[np.ndarray, " m"]) -> "Gallery":
        """These of its vectors, without checking or measuring them again."""
        return Gallery(self.vectors[rows], self.squared_norms[rows], self.dtype)


def prepare(vectors: Shaped[np.ndarray, "..."], metric: Metric) -> Gallery:
    """Check vectors and compute what every search over them needs. It reads them once, block by block.

    What is prepared for Euclidean distance serves cosine distance too, and the other way round.

    Args:
        vectors: ``(n, d)``; real numbers, which are converted to float32 where they are something else, or for Hamming
            bits packed into uint8.
        metric: what they will be compared with.

    Raises:
        UsageError: another shape or type, or values that are infinite, NaN, or become so in float32.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:  # noqa: PLR2004
        raise UsageError(f"Vectors come as an array of shape (n, d), not {vectors.shape}; one vector v is v[None].")
    if metric == Metric.HAMMING:
        if vectors.dtype != np.uint8:
            raise UsageError(f"Hamming distance compares bits packed into uint8, not {vectors.dtype}: numpy.packbits.")
        return Gallery(vectors, np.zeros(len(vectors)))
    if vectors.dtype.kind not in "fiu":
        raise UsageError(f"The {metric.unit} compares real numbers, not {vectors.dtype}; convert them to float32.")
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused below
        vectors = vectors.astype(np.float32, copy=False)
    norms = np.empty(len(vectors))
    for block in _blocks(len(vectors), _CACHED // (vectors.shape[1] + 1)):
        norms[block] = squared_norms(vectors[block])
    if len(bad := np.flatnonzero(~np.isfinite(norms))):  # no float32 has a square that overflows float64
        raise UsageError(f"Row {bad[0]} ({len(bad)} in all) holds NaN or infinite values; leave such vectors out.")
    safe = np.all((norms == 0) | ((norms > _SAFE[0]) & (norms < _SAFE[1]))) and vectors.shape[1] < _SHORT
    return Gallery(vectors, norms, np.dtype(np.float32 if safe else np.float64))


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


@dataclass(frozen=True, eq=False)
class _Tile:
    """Some queries, counted from their own first, against some rows of the gallery."""

    queries: Gallery
    gallery: Gallery
    rows: Int64[np.ndarray, " m"]
    metric: Metric
    bounds: Float[np.ndarray, "q m"]
    """Lower bounds of distances, each less a constant of its query: see `_lower_bounds`."""

    def near(self, reach: Float32[np.ndarray, " #q"]) -> Bool[np.ndarray, "q m"]:
        """Pairs that may be within reach, one for all queries or one for each: all that are, and few others."""
        return np.asarray(self.bounds <= _limits(reach, self.queries, self.metric, self.bounds.dtype)[:, None])

    def measure(self, left: Int64[np.ndarray, " n"], columns: Int64[np.ndarray, " n"]) -> Pairs:
        """These pairs with their distances, by definition."""
        distances = np.empty(len(left), np.float32)
        with np.errstate(over="ignore"):  # beyond float32 there is only infinity
            for part in _blocks(len(left), _CACHED // (self.queries.vectors.shape[1] + 1)):
                ours, theirs = self.queries.vectors[left[part]], self.gallery.vectors[columns[part]]
                distances[part] = paired(ours, theirs, self.metric)
        return Pairs(left, self.rows[columns], distances)


def _tiles(
    queries: Gallery, gallery: Gallery, metric: Metric, rows: Int64[np.ndarray, " m"] | None = None, begin: int = 0
) -> Iterator[_Tile]:
    """These queries against the gallery, or these rows of it, from one place on."""
    # A vector may be copied to float64, and makes a pair with each query.
    size = _BUDGET // (_PAIR * len(queries) + 8 * queries.vectors.shape[1])
    for block in _blocks(len(gallery) if rows is None else len(rows), size, begin):
        some = gallery.take(block if rows is None else rows[block])
        numbers = np.arange(block.start, block.stop) if rows is None else rows[block]
        yield _Tile(queries, some, numbers, metric, _lower_bounds(queries, some, metric))


def _lower_bounds(queries: Gallery, gallery: Gallery, metric: Metric) -> Float[np.ndarray, "q m"]:
    """A lower bound of each distance, less a constant of its query that `_limits` takes into account.

    With s from `_slack`, x a query and y a row, as BLAS computes them:
    Euclidean, of the square: ‖x‖²(1 - s) + ‖y‖²(1 - s) - 2xy; here without its first term.
    Cosine: 1 - s - xy / ‖x‖‖y‖; here without 1 - s.
    Hamming: the distance itself.
    """
    if metric == Metric.HAMMING:
        return _differing_bits(_words(queries.vectors), _words(gallery.vectors))
    dtype = np.promote_types(queries.dtype, gallery.dtype)
    vectors = gallery.vectors.astype(dtype, copy=False)
    bounds: Float[np.ndarray, "q m"]
    if metric == Metric.EUCLIDEAN:
        bounds = (-2 * queries.vectors.astype(dtype, copy=False)) @ vectors.T
        bounds += (gallery.squared_norms * (1 - _slack(vectors.shape[1], dtype))).astype(dtype)
    else:
        directions = queries.vectors * -_inverse(np.sqrt(queries.squared_norms))[:, None]
        bounds = directions.astype(dtype) @ vectors.T
        bounds *= _inverse(np.sqrt(gallery.squared_norms)).astype(dtype)
    return bounds


def _limits(
    reach: Float32[np.ndarray, " #q"], queries: Gallery, metric: Metric, dtype: "np.dtype[Any]"
) -> Float[np.ndarray, " q"]:
    """What a query's lower bounds may not exceed for a distance to be within reach after rounding to float32."""
    with np.errstate(over="ignore", under="ignore"):
        # What rounds to the reach is smaller than the next float32.
        limits = np.nextafter(reach, np.float32(np.inf)).astype(np.float64)
        slack = _slack(queries.vectors.shape[1], dtype)
        if metric == Metric.EUCLIDEAN:
            limits = limits**2 - queries.squared_norms * (1 - slack)
        elif metric == Metric.COSINE:
            limits = limits - (1 - slack)
        return np.asarray(np.nextafter(limits.astype(dtype), dtype.type(np.inf)))


def _slack(dimension: int, dtype: "np.dtype[Any]") -> float:
    """How far bound and distance may be wrong together, in proportion to ‖x‖² + ‖y‖² (Euclidean) or to 1 (cosine).

    A sum of d products, in any order, is wrong by at most gamma(d)·Σ|xᵢyᵢ|, where gamma(d) = du / (1 - du) and u is the unit
    roundoff (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1). Σ|xᵢyᵢ| ≤ ‖x‖‖y‖, and
    2‖x‖‖y‖ ≤ ‖x‖² + ‖y‖². Each rounding besides (of the norms, the scaled query, the last addition) adds one to d:
    fewer than 8 of them in the bound. The distance by definition takes three such sums in float64, two of which under
    a root: 2d and fewer than 16. Underflow, at most 2⁻¹²⁶ for each product, is less than one more u of a `_SAFE` norm.
    """

    def gamma(roundings: int, unit: float) -> float:
        return roundings * unit / (1 - roundings * unit)

    return gamma(dimension + 8, float(np.finfo(dtype).eps) / 2) + gamma(2 * dimension + 16, 2.0**-53)


def _inverse(norms: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """1 / norm; 0 for a zero vector, whose cosine is 0 by definition."""
    return np.asarray(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0))


def _words(codes: UInt8[np.ndarray, "n bytes"]) -> UInt64[np.ndarray, "n words"]:
    """Eight bytes in one number; zeros fill the last."""
    if codes.shape[1] % 8:
        codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8)))
    return np.ascontiguousarray(codes).view(np.uint64)


def _differing_bits(a: UInt64[np.ndarray, "q words"], b: UInt64[np.ndarray, "m words"]) -> Float32[np.ndarray, "q m"]:
    bits = np.zeros((len(a), len(b)), np.float32)
    for ours, theirs in zip(a.T, b.T, strict=True):
        bits += np.bitwise_count(ours[:, None] ^ theirs)
    return bits


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
    best = _joined([])
    for tile in _tiles(some, gallery, metric, rows):
        reach = _kth(best, k, len(some))
        near = tile.near(reach)
        if np.count_nonzero(near) > 4 * k * len(some):
            # Too many to measure. The k of lowest bound need not be the k nearest, but the k nearest are no farther.
            lowest = np.argpartition(tile.bounds, k - 1, axis=1)[:, :k]
            asking = np.repeat(np.arange(len(some)), k)
            farthest = tile.measure(asking, lowest.ravel()).distances.reshape(lowest.shape).max(axis=1)
            near = tile.near(np.minimum(reach, farthest))
        best = _first(
            _joined([best, tile.measure(*np.divmod(np.flatnonzero(near), len(tile.rows)))]).sorted(), k, len(some)
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
        for tile in _tiles(queries.take(part), gallery, metric, rows, part.start if once else 0):
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


def _joined(parts: list[Pairs]) -> Pairs:
    return Pairs(
        np.concatenate([np.empty(0, np.int64), *(part.left for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.right for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.distances for part in parts)]),
    )


def _blocks(length: int, size: int, begin: int = 0) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(start + size, length)) for start in range(begin, length, size))


def _query_blocks(queries: int, k: int = 1) -> Iterator[slice]:
    return _blocks(queries, min(_QUERIES, math.isqrt(_BUDGET // _PAIR), _BUDGET // (_PAIR * k)))


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
