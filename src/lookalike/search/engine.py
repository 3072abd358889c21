"""The tile engine: queries against a gallery, a tile at a time, in bounded memory.

Each search is by filter and refine (Seidl and Kriegel, "Optimal multi-step k-nearest neighbor search", SIGMOD 1998). A
prefilter, or else BLAS, computes lower bounds of the distances of a tile. Pairs that the bounds do not rule out are
measured by definition. A single query is a batch of one with a shortcut; see `first_k`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from lookalike.metric import Metric
from lookalike.query import DistanceRange
from lookalike.search import bits, bounds
from lookalike.search.answers import NO_PAIRS, Pairs, concatenate, round_range
from lookalike.search.bounds import BoundMatrix, VectorBounds, measure
from lookalike.search.chunks import chunks
from lookalike.search.coded import CodedVectors
from lookalike.search.gallery import BoundPrefilter, Candidates, Gallery, Rows
from lookalike.shapes import Float32, Int64

PAIR = 96
"""Maximum bytes of a pair: its place, its rows and its distance, twice while it is sorted."""

_QUERIES = 256
"""Queries in a tile: enough for BLAS to run at its peak."""

_CELL = 16
"""Maximum bytes of a cell of a tile: its bound, whether it is near, and its place."""

_FEW = 256
"""Remaining candidates of one query that are measured in one round: more rounds would take longer."""


@dataclass(frozen=True, eq=False)
class Engine:
    """The search of one gallery by one metric.

    Attributes:
        gallery: prepared for the metric.
        metric: of the distances.
        rows: the rows to search, ascending; by default all.
    """

    gallery: Gallery
    metric: Metric
    rows: Int64[np.ndarray, " m"] | None = None

    def nearest(self, queries: Gallery, k: int, own: Rows | None = None) -> Pairs:
        """Find the k nearest rows of each query, sorted by (query, distance, row).

        Args:
            queries: few enough for a tile, see `query_chunks`.
            k: at least 1.
            own: the rows of the gallery that are the queries, if they come from it.
        """
        if self._counts_bits(len(queries)):
            return bits.nearest(queries, self.gallery, k, self.rows)
        best = _Best(k, len(queries))
        for tile in self._tiles(queries, own):
            tile.nearest(k, best)
        return best.pairs()

    def within(
        self, queries: Gallery, within: DistanceRange, own: Rows | None = None, begin: int = 0
    ) -> Iterator[Pairs]:
        """Find all rows in a range of distances, in parts of bounded size.

        Args:
            queries: as in `nearest`.
            within: the range, rounded as `round_range` does.
            own: as in `nearest`.
            begin: the first row to search.
        """
        if self._counts_bits(len(queries)):
            yield from bits.within(queries, self.gallery, within, self.rows, begin)
            return
        _, farthest = round_range(within)
        reach = np.full(1, farthest)
        for tile in self._tiles(queries, own, begin):
            for pairs in tile.measure(tile.remaining(reach)):
                yield pairs.within(within)

    def _counts_bits(self, queries: int) -> bool:
        """Return whether to search bits themselves, without a prefilter."""
        if self.metric != Metric.HAMMING:
            return False
        return self.gallery.prefilter(self.metric, queries, subset=self.rows is not None) is None

    def _tiles(self, queries: Gallery, own: Rows | None, begin: int = 0) -> Iterator["Tile"]:
        prefilter = self.gallery.prefilter(self.metric, len(queries), subset=self.rows is not None)
        bound = None if prefilter is None else prefilter.bind(queries, own)
        vectors = VectorBounds(queries, self.gallery, self.metric)
        row_bytes = _CELL * (len(queries) + 1)
        if self.rows is not None or isinstance(self.gallery.vectors, CodedVectors):  # a tile copies or decodes the rows
            row_bytes += vectors.row_bytes + (bound.row_bytes if bound else 0)
        if not queries.dtype == self.gallery.dtype == np.float32:  # a tile converts the rows to float64
            row_bytes += 8 * self.gallery.vectors.shape[1]
        length = len(self.gallery) if self.rows is None else len(self.rows)
        for part in chunks(length, bounds.BUDGET // row_bytes, begin):
            yield Tile(self, queries, part if self.rows is None else self.rows[part], vectors, bound)


class Tile:
    """Some queries against some rows of the gallery."""

    def __init__(
        self, engine: Engine, queries: Gallery, rows: Rows, vectors: VectorBounds, prefilter: BoundPrefilter | None
    ) -> None:
        self.queries, self.rows = queries, rows
        self._engine, self._vectors, self._prefilter = engine, vectors, prefilter
        self._width = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        self._candidates: Candidates = (prefilter or vectors).compare(rows)

    def nearest(self, k: int, best: "_Best") -> None:
        """Update ``best`` with the pairs of the tile."""
        places = self._candidates.lowest(k, best.reach)
        if places is None:
            places = self._compare_vectors().lowest(k, best.reach)
        best.add(self.measure(places))
        if self._candidates.complete:
            return
        # The k pairs with the lowest bounds need not be the k nearest, but the k nearest are not farther.
        places = self.remaining(best.update())
        # Very many candidates mostly lie at similar distances, so an order would help little.
        if len(places) > bounds.BUDGET // PAIR or (len(self.queries) == 1 and len(places) <= _FEW):
            best.add(self.measure(places))
        else:
            self._refine(places, k, best)

    def remaining(self, reach: Float32[np.ndarray, " #q"]) -> Int64[np.ndarray, " n"]:
        """Find the places that may be within ``reach`` and are not measured yet."""
        places = self._candidates.remaining(reach)
        if self._prefilter is None or len(places) <= self._prefilter.max_open * len(self.queries) * self._width:
            return places
        self._compare_vectors()  # its bounds rule out more
        limits = np.broadcast_to(self._candidates.limits(reach), len(self.queries))
        return np.asarray(places[self._candidates.bounds_at(places) <= limits[places // self._width]])

    def measure(self, places: Int64[np.ndarray, " n"]) -> Iterator[Pairs]:
        """Measure pairs by definition, in parts of bounded size."""
        for part in chunks(len(places), bounds.BUDGET // PAIR):
            yield self._measure(places[part])

    def _measure(self, places: Int64[np.ndarray, " n"]) -> Pairs:
        left, columns = np.divmod(places, self._width) if len(self.queries) > 1 else (np.zeros_like(places), places)
        rows = columns + self.rows.start if isinstance(self.rows, slice) else self.rows[columns]
        metric = self._engine.metric
        if metric == Metric.HAMMING and self._prefilter is None:  # the bound of bits is the distance itself
            return Pairs(left, rows, self._candidates.bounds_at(places).astype(np.float32))
        return Pairs(left, rows, measure(self.queries, self._engine.gallery, left, rows, metric))

    def _compare_vectors(self) -> BoundMatrix:
        self._candidates, self._prefilter = compared = self._vectors.compare(self.rows), None
        return compared[0]

    def _refine(self, places: Int64[np.ndarray, " n"], k: int, best: "_Best") -> None:
        """Measure candidates in rounds, in the order of their bounds; each round lowers the reach of the next one."""
        count = k
        while len(places):
            left, values = places // self._width, self._candidates.bounds_at(places)
            order = np.lexsort((values, left))
            places, left, values = places[order], left[order], values[order]
            lowest = np.arange(len(left)) - np.searchsorted(left, left) < count
            best.add(self.measure(places[lowest]))
            limits = np.broadcast_to(self._candidates.limits(best.update()), len(self.queries))
            places, count = places[~lowest & (values <= limits[left])], 2 * count


class _Best:
    """The k nearest pairs of each query so far."""

    def __init__(self, k: int, queries: int) -> None:
        self._k, self._queries = k, queries
        self._best, self._new = NO_PAIRS, list[Pairs]()
        self.reach = np.full(queries, np.inf, np.float32)

    def add(self, parts: Iterable[Pairs]) -> None:
        """Add pairs, and update `reach` after many: sorting costs more than the few pairs that an old reach lets through."""
        for pairs in parts:
            self._new.append(pairs)
            if sum(map(len, self._new)) >= self._k * self._queries:
                self.update()

    def update(self) -> Float32[np.ndarray, " q"]:
        """Compute each query's reach: the distance of its k-th nearest pair, or infinity if it has fewer."""
        if self._new:
            self._best, self._new = first_k(concatenate([self._best, *self._new]), self._k, self._queries), []
            self.reach = kth_distances(self._best, self._k, self._queries)
        return self.reach

    def pairs(self) -> Pairs:
        """Return the pairs, sorted by (query, distance, row)."""
        self.update()
        return self._best


def query_chunks(queries: int, k: int = 1, begin: int = 0) -> Iterator[slice]:
    """Split queries into batches for a tile, with k hits for each query."""
    return chunks(queries, min(_QUERIES, math.isqrt(bounds.BUDGET // PAIR), bounds.BUDGET // (PAIR * k)), begin)


def first_k(pairs: Pairs, k: int, queries: int) -> Pairs:
    """Select the k nearest pairs of each query, sorted by (query, distance, row).

    Pairs of one query need no grouping. This shortcut and the one in `kth_distances` save about 30 of 200 microseconds of a
    query over 14,660 vectors of 64 numbers (``benchmarks/scans.py``).
    """
    if queries == 1:
        return pairs.keep(np.lexsort((pairs.right, pairs.distances))[:k])
    return pairs.sorted().first(k)


def kth_distances(pairs: Pairs, k: int, queries: int) -> Float32[np.ndarray, " q"]:
    """Look up the distance of each query's k-th pair, of sorted pairs; infinite if there are fewer."""
    farthest = np.full(queries, np.inf, np.float32)
    if queries == 1:
        if len(pairs) >= k:
            farthest[0] = pairs.distances[k - 1]
        return farthest
    ends = np.searchsorted(pairs.left, np.arange(queries + 1))
    full = np.diff(ends) >= k
    farthest[full] = pairs.distances[ends[:-1][full] + k - 1]
    return farthest
