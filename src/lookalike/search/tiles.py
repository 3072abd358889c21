"""Queries against a gallery, a tile of pairs at a time, each with a lower bound of its distance."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64

from lookalike.metric import Metric
from lookalike.search import bounds
from lookalike.search.answers import Pairs
from lookalike.search.bounds import Gallery, limits, lower_bounds, measure
from lookalike.search.chunks import chunks
from lookalike.search.projection import Projection

PAIR = 96
"""Bytes that a pair may take: its place, its indices and its distance, twice while it is sorted."""

_CELL = 16
"""Bytes that a (query, row) of a tile may take: its bounds, whether they are near, its place among those that are."""

_OPEN = 100
"""Where fewer dimensions leave open more than one pair of so many, the vectors themselves are multiplied."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Some queries, counted from their own first, against some rows of the gallery.

    Attributes:
        queries: all that a tile of these queries has.
        gallery: the vectors of the rows.
        rows: their numbers in the whole gallery.
        metric: of the distances.
        bounds: lower bounds of distances, each less a constant of its query: see `lookalike.search.bounds.lower_bounds`.
        asked: the queries in the dimensions of the bounds, where these are fewer.
    """

    queries: Gallery
    gallery: Gallery
    rows: Int64[np.ndarray, " m"]
    metric: Metric
    bounds: Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"]
    asked: Projection | None = None

    def limits(self, reach: Float32[np.ndarray, " #q"]) -> Float[np.ndarray, "#q 1"] | Int32[np.ndarray, "#q 1"]:
        """What bounds within reach do not exceed, one for all queries or one for each."""
        if self.asked is not None:
            return self.asked.limits(reach)[:, None]
        return limits(reach, self.queries, self.metric, self.bounds.dtype)[:, None]

    def near(self, reach: Float32[np.ndarray, " #q"]) -> Bool[np.ndarray, "q m"]:
        """Pairs that may be within reach: all that are, and few others."""
        return self.sifted(np.asarray(self.bounds <= self.limits(reach)), reach)

    def sifted(self, open_: Bool[np.ndarray, "q m"], reach: Float32[np.ndarray, " #q"]) -> Bool[np.ndarray, "q m"]:
        """Of pairs that these bounds leave open, those that all dimensions do, where that saves time."""
        if self.asked is None or np.count_nonzero(open_) * _OPEN <= open_.size:
            return open_
        whole = replace(self, bounds=lower_bounds(self.queries, self.gallery, self.metric), asked=None)
        return np.asarray(open_ & (whole.bounds <= whole.limits(reach)))

    def measured(self, places: Int64[np.ndarray, " n"]) -> Iterator[Pairs]:
        """The pairs at these places of the flat bounds, with their distances by definition, in parts of bounded size."""
        for part in chunks(len(places), bounds.BUDGET // PAIR):
            left, columns = np.divmod(places[part], len(self.rows))
            if self.metric == Metric.HAMMING:  # of bits the bound is the distance itself
                distances = self.bounds.reshape(-1)[places[part]].astype(np.float32)
            else:
                distances = measure(self.queries, self.gallery, left, columns, self.metric)
            yield Pairs(left, self.rows[columns], distances)


def tiles(
    queries: Gallery,
    gallery: Gallery,
    metric: Metric,
    *,
    rows: Int64[np.ndarray, " m"] | None = None,
    begin: int = 0,
    fewer: tuple[Projection, Projection] | None = None,
) -> Iterator[Tile]:
    """These queries against the gallery, or these rows of it. The bounds last until the next tile.

    Args:
        queries: few enough for some rows of the gallery each to fit into `bounds.BUDGET`.
        gallery: all of it.
        metric: of the distances.
        rows: of the gallery, ascending.
        begin: the first of the gallery's rows, or of these.
        fewer: queries and gallery in fewer dimensions, to compare them in these.
    """
    size = bounds.BUDGET // (_CELL * len(queries) + _copied(queries, gallery, rows, fewer))
    first: Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"] | None = None
    for block in chunks(len(gallery) if rows is None else len(rows), size, begin):
        chosen = block if rows is None else rows[block]
        some, numbers = gallery.take(chosen), np.arange(block.start, block.stop) if rows is None else rows[block]
        # The memory of the first tile serves all: new memory for each would cost a sixth of the time.
        out = None if first is None else first.reshape(-1)[: len(queries) * len(some)].reshape(len(queries), len(some))
        if fewer is None:
            found = lower_bounds(queries, some, metric, out=out)
        else:
            found = fewer[0].bounds(fewer[1].take(chosen), out=out)
        first = found if first is None else first
        yield Tile(queries, some, numbers, metric, found, fewer and fewer[0])


def _copied(
    queries: Gallery,
    gallery: Gallery,
    rows: Int64[np.ndarray, " m"] | None,
    fewer: tuple[Projection, Projection] | None,
) -> int:
    """Bytes of a gallery's row that are copied: where some are chosen, and where float32 would not do."""
    chosen = 0 if rows is None else gallery.vectors[:1].nbytes + (fewer[1].rows[:1].nbytes if fewer else 0)
    return chosen + (0 if queries.dtype == gallery.dtype == np.float32 else 8 * gallery.vectors.shape[1])
