"""Search by codes, and again by the original vectors that the codes were made of.

A code c stands for a vector ĉ near the projected original Px. For a query q, the triangle inequality gives
‖Pq - Px‖ ≥ ‖Pq - ĉ‖ - ‖Px - ĉ‖. Its last term is known for each row, and ‖Pq - Px‖ is at most a known multiple of
‖q - x‖, the stretch of P. `CodeBounds` rules out rows by this bound, so a search that measures the others by their
originals answers exactly as one without codes. `rescore` measures only the rows with the nearest codes instead.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lookalike.metric import Metric, squared_norms
from lookalike.search.answers import Hits, Pairs
from lookalike.search.bounds import BUDGET, BoundMatrix, VectorBounds, measure
from lookalike.search.chunks import chunks
from lookalike.search.coded import CodedVectors
from lookalike.search.engine import PAIR
from lookalike.search.exact import knn
from lookalike.search.gallery import FLOAT32, Gallery, Rows, slack
from lookalike.search.preparation import prepare
from lookalike.shapes import Float, Float32, Float64, Int64, Shaped

Project = Callable[[np.ndarray], np.ndarray]
"""A function that projects originals to the vectors that codes stand for."""

_CHUNK = 2**22
"""Maximum bytes of a chunk of projected originals."""

_ROUNDING, _ROW_ROUNDING = 2.0**-20, 2.0**-26
"""Relative bound of the rounding errors of a projection and a bound together; the second is times √d."""


@dataclass(frozen=True, eq=False)
class CodeBounds:
    """Lower bounds of the distances of originals, from their codes.

    Attributes:
        codes: the vectors that the codes stand for.
        residuals: ‖Px - ĉ‖ of each row, not rounded down.
        project: P.
        stretch: the largest ratio ‖Px - Py‖ / ‖x - y‖; for cosine, of x and y at length 1.
        metric: of the originals: euclidean or cosine.
        longest: the length of the longest original.
        opened_bytes: bytes of the originals that a query reads, as measured.
    """

    codes: Gallery
    residuals: Float32[np.ndarray, " n"]
    project: Project
    stretch: float
    metric: Metric
    longest: float
    opened_bytes: int = 0

    @property
    def precision(self) -> str:
        """See `BoundSource.precision`."""
        return "codes"

    @property
    def nbytes(self) -> int:
        """See `BoundSource.nbytes`; of codes as vectors, since decoding takes at least as long as reading them."""
        return self.codes.vectors.nbytes + self.residuals.nbytes + self.opened_bytes

    def serves(self, metric: Metric, queries: int, *, subset: bool) -> bool:  # noqa: ARG002 -- serves all batches
        """See `BoundSource.serves`: all batches of its metric."""
        return metric == self.metric

    def bind(self, queries: Gallery, own: Rows | None = None) -> "_Queries":  # noqa: ARG002 -- a query has no code
        """See `BoundSource.bind`."""
        projected = prepare(self.project(queries.array), Metric.EUCLIDEAN)
        lengths = np.sqrt(queries.squared_norms)
        longest = self.longest
        if self.metric is Metric.COSINE:
            lengths, longest = np.ones_like(lengths), 1.0
        codes = math.sqrt(self.codes.squared_norms.max(initial=0)) + float(self.residuals.max(initial=0))
        sizes = self.stretch * (lengths + longest) + np.sqrt(projected.squared_norms) + codes
        error = _ROUNDING + _ROW_ROUNDING * math.sqrt(queries.vectors.shape[1])
        return _Queries(self, projected, sizes * error)


class _Queries:
    """Queries with their projections; see `BoundPrefilter`."""

    max_open = 1 / 16

    def __init__(self, source: CodeBounds, projected: Gallery, margins: Float64[np.ndarray, " q"]) -> None:
        self._source, self._projected, self._margins = source, projected, margins
        self._vectors = VectorBounds(projected, source.codes, Metric.EUCLIDEAN)
        self._dtype = FLOAT32 if projected.dtype == source.codes.dtype == FLOAT32 else np.dtype(np.float64)
        self.row_bytes = 4 + self._vectors.row_bytes

    def compare(self, rows: Rows) -> BoundMatrix:
        """See `BoundPrefilter.compare`. A bound is ‖Pq - ĉ‖ - ‖Px - ĉ‖."""
        codes = self._source.codes.vectors
        error = slack(codes.shape[1], self._dtype) + 4 * float(np.finfo(self._dtype).eps)
        constants = (self._projected.squared_norms * (1 - error)).astype(self._dtype)[:, None]
        residuals = self._source.residuals[rows]
        squares = self._vectors.compare(rows).bounds
        bounds = np.maximum(squares + constants, 0)
        np.sqrt(bounds, out=bounds)
        bounds -= residuals
        return BoundMatrix(bounds, self._limits)

    def _limits(self, reach: Float32[np.ndarray, " #q"]) -> Float[np.ndarray, " q"]:
        """Compute the largest bound of a row within ``reach``, rounded to float32."""
        with np.errstate(over="ignore", invalid="ignore"):
            # A distance that rounds to the reach is smaller than the next float32.
            farthest = np.nextafter(reach, np.float32(np.inf)).astype(np.float64)
            if self._source.metric is Metric.COSINE:  # ‖x - y‖² = 2 - 2 cos for vectors of length 1
                farthest = np.sqrt(2 * (farthest + slack(self._projected.vectors.shape[1], FLOAT32)))
            limits = (farthest * self._source.stretch + self._margins).astype(self._dtype)
            return np.asarray(np.nextafter(limits, self._dtype.type(np.inf)))


def find_residuals(
    originals: Shaped[np.ndarray, "n d"], codes: Shaped[np.ndarray, "n c"] | CodedVectors, project: Project
) -> Float32[np.ndarray, " n"]:
    """Compute ‖Px - ĉ‖ of each row in float64, and round it up."""
    residuals = np.empty(len(originals), np.float32)
    for part in chunks(len(originals), max(1, _CHUNK // (8 * originals.shape[1]))):
        projected = project(np.ascontiguousarray(originals[part])).astype(np.float64)
        lengths = np.sqrt(squared_norms(projected - codes[part])) * (1 + _ROUNDING)
        residuals[part] = np.nextafter(lengths.astype(np.float32), np.float32(np.inf))
    return residuals


def rescore(queries: Gallery, originals: Gallery, nearest: Hits, k: int, metric: Metric) -> Hits:
    """Measure hits by the originals, and select the k nearest of each query.

    Args:
        queries: originals, not projected.
        originals: of all rows.
        nearest: hits by codes.
        k: at least 1.
        metric: of the originals.

    Returns:
        Hits that are not exact.
    """
    pairs = nearest.pairs
    measured = Pairs(pairs.left, pairs.right, measure(queries, originals, pairs.left, pairs.right, metric))
    return Hits.from_pairs([measured.sorted().first(k)], len(queries), exact=False)


def rank_neighbours(
    queries: Gallery, codes: Gallery, own: Int64[np.ndarray, " q"], neighbours: Hits, metric: Metric, deepest: int
) -> Int64[np.ndarray, " total"]:
    """Return the rank by codes of each exact neighbour of queries that are rows themselves, from 1 on.

    Args:
        queries: the queries, projected.
        codes: of all rows.
        own: the row of each query, which has no rank.
        neighbours: the exact neighbours of each query; its own row may be one of them.
        metric: of the codes.
        deepest: the largest rank to look for; a farther neighbour has the rank ``deepest + 1``.
    """
    ranks = []
    size = max(1, BUDGET // (PAIR * (deepest + 1)))
    for part in chunks(len(queries), size):
        hits = knn(queries.take(part), codes, deepest + 1, metric)
        for place, (rows, _) in zip(range(part.start, part.stop), hits, strict=True):
            order = np.full(len(codes), deepest + 1)
            others = rows[rows != own[place]][:deepest]
            order[others] = np.arange(1, len(others) + 1)
            exact = neighbours[place][0]
            ranks.append(order[exact[exact != own[place]]])
    return np.concatenate([np.empty(0, np.int64), *ranks])


def share_opened(queries: Gallery, source: CodeBounds, reach: Float32[np.ndarray, " q"]) -> float:
    """Measure the share of the rows that bounds do not rule out for queries with these reaches."""
    if not len(queries) or not len(source.residuals):
        return 0.0
    bound, opened = source.bind(queries), 0
    for part in chunks(len(source.residuals), max(1, BUDGET // (16 * (len(queries) + 1)))):
        opened += len(bound.compare(part).remaining(reach))
    return opened / len(queries) / len(source.residuals)
