"""A pivot table: distances of all rows to a few of them, which rule out rows by the triangle inequality.

LAESA (Micó, Oncina and Vidal, "A new version of the nearest-neighbour approximating and eliminating search algorithm",
Pattern Recognition Letters 1994). The table holds the distances of all rows to some of them, the pivots. A query is
measured against the pivots; then |d(q, p) - d(p, y)| ≤ d(q, y) bounds its distance to each row y.

The inequality needs a metric. Euclidean and Hamming distance are metrics. Cosine distance is not, but √(2 · cosine
distance) is: it is the Euclidean distance of unit vectors, and the table holds it. (A zero vector has cosine distance 1,
and so √2, from all vectors. The inequality holds, since no two other vectors are farther apart than 2.)

A table rarely saves time; `estimate` predicts whether it does. `lookalike.search.prepare` never makes one. To use one:
``replace(gallery, prefilters=(build(gallery, metric),))``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from lookalike.errors import UsageError
from lookalike.metric import Metric, paired
from lookalike.search.bounds import CACHED, BoundMatrix
from lookalike.search.chunks import chunks
from lookalike.search.gallery import Arrays, Gallery, Rows
from lookalike.shapes import Bool, Float32, Int64, Shaped

_CANDIDATES = 128
"""Candidate rows for the pivots."""

_PAIRS = 1024
"""Pairs of rows whose lower bounds the choice of pivots maximises."""

_SAMPLE = 1000
"""Rows that an estimate needs."""

_QUERIES = 50
"""Rows of a sample that an estimate uses as queries."""

TABLE_COST = 2.0
"""Time to compare one number of the table, relative to one number of a vector in a scan by BLAS; measured by
``benchmarks/pivots.py``."""

MEASURING_COST = 10.0
"""Time to measure one number of a vector by definition, relative to one number of a vector in a scan by BLAS."""

_COLUMNS = 2**15
"""Columns of the table compared at a time: a float32 row of this length stays in the processor's cache."""


@dataclass(frozen=True, eq=False)
class PivotTable:
    """Distances of all rows of a gallery to its pivots; see `build`.

    Attributes:
        pivots: their vectors.
        distances: of each pivot to each row, for cosine √(2 · distance). 4 bytes each.
        metric: of the distances.
    """

    kind: ClassVar[str] = "pivots"

    pivots: Shaped[np.ndarray, "p d"]
    distances: Float32[np.ndarray, "p n"]
    metric: Metric

    @property
    def precision(self) -> str:
        """See `Prefilter.precision`."""
        return "float32"

    @property
    def nbytes(self) -> int:
        """See `Prefilter.nbytes`."""
        return self.distances.nbytes

    def serves(self, metric: Metric, queries: int, *, subset: bool) -> bool:  # noqa: ARG002 -- serves any batch
        """See `Prefilter.serves`: all batches of its metric."""
        return metric == self.metric

    def bind(self, queries: Gallery, own: Rows | None = None) -> "_Batch":  # noqa: ARG002 -- needs the vectors
        """See `Prefilter.bind`."""
        return _Batch(self, queries)

    def update(
        self, vectors: Shaped[np.ndarray, "n d"], rows: Int64[np.ndarray, " k"], known: Bool[np.ndarray, " n"]
    ) -> Self:
        """See `Prefilter.update`; new vectors are measured against the same pivots."""
        distances = np.empty((len(self.pivots), len(known)), np.float32)
        distances[:, known] = self.distances[:, rows]
        for row, pivot in zip(distances, self.pivots, strict=True):
            row[~known] = _table_distances(pivot, vectors[~known], self.metric)
        return replace(self, distances=distances)

    def save(self) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]]:
        """See `Prefilter.save`."""
        return {"metric": self.metric}, {"pivots": self.pivots, "distances": self.distances}

    @classmethod
    def load(cls, metadata: Mapping[str, Any], arrays: Arrays, shape: tuple[int, int]) -> Self:
        """See `Prefilter.load`."""
        pivots, distances, metric = arrays["pivots"], arrays["distances"], Metric(metadata["metric"])
        if pivots.dtype != metric.dtype or distances.dtype != np.float32 or pivots.ndim != 2:  # noqa: PLR2004
            raise ValueError("this is not a table of this metric")
        if distances.shape != (len(pivots), shape[0]) or pivots.shape[1] != shape[1]:
            raise ValueError("the table is for other vectors")
        return cls(pivots, distances, metric)


class _Batch:
    """Queries with their distances to the pivots; see `BoundPrefilter`."""

    max_open = 1 / 16

    def __init__(self, table: PivotTable, queries: Gallery) -> None:
        self._table = table
        self._own = np.empty((len(queries), len(table.pivots)), np.float32)
        for row, query in zip(self._own, queries.array, strict=True):
            row[:] = _table_distances(query, table.pivots, table.metric)
        dimension = queries.vectors.shape[1]
        self._error = 2.0**-51 * (dimension + 8) if table.metric is Metric.COSINE else 0.0
        farthest = self._own.max(axis=1, initial=0).astype(np.float64)
        self._margins = 2.0**-22 * farthest + 2 * math.sqrt(2 * self._error) + 2.0**-140
        self.row_bytes = 4 * len(table.pivots)

    def compare(self, rows: Rows) -> BoundMatrix:
        """See `BoundPrefilter.compare`. The bounds are of distances as in the table."""
        table = self._table.distances[:, rows]
        bounds = np.zeros((len(self._own), table.shape[1]), np.float32)
        memory = np.empty(_COLUMNS, np.float32)
        for part in chunks(table.shape[1], _COLUMNS):
            for best, own in zip(bounds[:, part], self._own, strict=True):
                difference = memory[: len(best)]
                for distance, column in zip(own, table[:, part], strict=True):
                    np.abs(np.subtract(column, distance, out=difference), out=difference)
                    np.maximum(best, difference, out=best)
        return BoundMatrix(bounds, self.limits)

    def limits(self, reach: Float32[np.ndarray, " #q"]) -> Float32[np.ndarray, " q"]:
        """Compute the largest bound of a distance that rounds to float32 within ``reach``.

        Let a = d(q, p) and b = d(p, y) be the true distances, D = |a - b| ≤ d(q, y), and u = 2⁻²⁴. Both are computed in
        float64, with a relative error far below u / 1000 (see `lookalike.search.gallery.slack`), and rounded to float32,
        as their difference is. So what is computed for D is at most (D + u(a + b))(1 + u), and a tiny number for
        underflow; with b ≤ a + D that is less than D(1 + 4u) + 4ua. Clipping a and b to the largest float32 makes their
        difference no larger.

        Cosine distance is computed with an error e relative to 1, before its root: √(2e) at most for a and for b.
        """
        with np.errstate(over="ignore"):
            # A distance that rounds to the reach is smaller than the next float32.
            farthest = np.nextafter(reach, np.float32(np.inf)).astype(np.float64)
            if self._table.metric is Metric.COSINE:
                farthest = np.sqrt(2 * (farthest + self._error))
            limit = (farthest * (1 + 2.0**-22) + self._margins).astype(np.float32)
            return np.asarray(np.nextafter(limit, np.float32(np.inf)))


def build(gallery: Gallery, metric: Metric, pivots: int = 16, *, seed: int = 0) -> PivotTable:
    """Choose pivots and measure all rows against them.

    Incremental selection chooses the pivots one after the other (Bustos, Navarro and Chávez, "Pivot selection techniques
    for proximity searching in metric spaces", Pattern Recognition Letters 2003). Each is the one of `_CANDIDATES` random
    rows that, together with the earlier ones, gives the largest mean lower bound for `_PAIRS` random pairs. LAESA's own
    selection, maximum separation, chooses outliers: the corners of a cube, which bound a little better, but atypical
    images among embeddings, which bound almost nothing. ``benchmarks/pivots.py`` compares the two.

    Args:
        gallery: prepared for this metric.
        metric: any metric.
        pivots: maximum number of pivots. There are fewer if the gallery has fewer rows, or if more would bound no pair
            better.
        seed: the same vectors and seed give the same table.

    Raises:
        UsageError: ``pivots`` is below 1, or the gallery is prepared for other metrics.
    """
    if pivots < 1:
        raise UsageError(f"A pivot table needs at least 1 pivot, not {pivots}.")
    _check(gallery, metric)
    chosen = gallery.vectors[_choose(gallery.array, metric, pivots, np.random.default_rng(seed))]
    distances = np.empty((len(chosen), len(gallery)), np.float32)
    for row, pivot in zip(distances, chosen, strict=True):
        row[:] = _table_distances(pivot, gallery.array, metric)
    return PivotTable(chosen, distances, metric)


def count_measured(
    gallery: Gallery, queries: Gallery, table: PivotTable, reach: Float32[np.ndarray, " q"]
) -> Int64[np.ndarray, " q"]:
    """Count the distances that each query needs: to the pivots, and to the rows that the table does not rule out.

    Args:
        gallery: of the table.
        queries: prepared.
        table: the table.
        reach: maximum distance of each query, such as the distance of its k-th nearest row.
    """
    counts = np.zeros(len(queries), np.int64)
    for i in range(len(queries)):
        candidates = table.bind(queries.take(slice(i, i + 1))).compare(slice(0, len(gallery)))
        counts[i] = len(table.pivots) + len(candidates.remaining(reach[i : i + 1]))
    return counts


@dataclass(frozen=True)
class Estimate:
    """The predicted effect of a pivot table, for vectors like those of a sample.

    Attributes:
        intrinsic_dimension: ρ = μ² / 2σ² of the distances between random pairs (Chávez, Navarro, Baeza-Yates and
            Marroquín, "Searching in metric spaces", ACM Computing Surveys 2001). If it is large, all distances are
            similar, and a pivot rules out few rows.
        share: the share of rows that one query for its 10 nearest still measures, in a gallery of this size.
        pays: whether one query is faster than by `search.knn` in float32.
    """

    intrinsic_dimension: float
    share: float
    pays: bool


def estimate(sample: Gallery, metric: Metric, pivots: int = 16, *, seed: int = 0) -> Estimate:
    """Estimate from a sample whether a pivot table saves time.

    A scan reads d numbers of each row in order. A table reads p numbers of each row in order, and d numbers at random for
    each row that it does not rule out. These take `TABLE_COST` and `MEASURING_COST` times as long a number. So a table
    saves time if p · TABLE_COST + share · d · MEASURING_COST < d: for few, long vectors of low intrinsic dimension, and for
    single queries. In a batch, a matrix product is several times faster than a scan, and a table is not faster.

    Args:
        sample: at least 1,000 random rows; more give a better estimate.
        metric: of the distances.
        pivots: as in `build`.
        seed: the same sample and seed give the same estimate.

    Raises:
        UsageError: the sample is smaller, or as in `build`.
    """
    _check(sample, metric)
    if len(sample) < _SAMPLE:
        raise UsageError(f"An estimate takes a sample of at least {_SAMPLE:,} vectors, not {len(sample):,}.")
    rng = np.random.default_rng(seed)
    ends = rng.choice(len(sample), (4 * _PAIRS, 2))
    exact = paired(sample.vectors[ends[:, 0]], sample.vectors[ends[:, 1]], metric)
    distances = (np.sqrt(2 * exact) if metric is Metric.COSINE else exact)[ends[:, 0] != ends[:, 1]]
    spread = 2 * float(distances.var())
    dimension = float(distances.mean()) ** 2 / spread if spread else math.inf if distances.any() else 0.0
    order = rng.permutation(len(sample))
    gallery, queries = sample.take(np.sort(order[_QUERIES:])), sample.take(order[:_QUERIES])
    table = build(gallery, metric, pivots, seed=seed)
    reach = np.array([np.sort(_measure(query, gallery.array, metric))[9] for query in queries.array])
    needed = count_measured(gallery, queries, table, reach).mean() - len(table.pivots)
    share, numbers = float(needed) / len(gallery), gallery.vectors.shape[1]
    cost = len(table.pivots) * TABLE_COST + share * numbers * MEASURING_COST
    return Estimate(dimension, share, bool(cost < numbers))


def _check(gallery: Gallery, metric: Metric) -> None:
    if gallery.vectors.dtype != metric.dtype:
        raise UsageError(
            f"A gallery of {gallery.vectors.dtype} was not prepared for the {metric} metric; prepare it for that."
        )


def _table_distances(
    vector: Shaped[np.ndarray, " d"], others: Shaped[np.ndarray, "n d"], metric: Metric
) -> Float32[np.ndarray, " n"]:
    """Compute distances for which the triangle inequality holds, clipped to float32."""
    distances = np.empty(len(others), np.float32)
    for part in chunks(len(others), CACHED // (others.shape[1] + 1)):
        exact = paired(vector, others[part], metric)
        exact = np.sqrt(2 * exact) if metric is Metric.COSINE else exact
        distances[part] = np.minimum(exact, np.finfo(np.float32).max)
    return distances


def _measure(
    vector: Shaped[np.ndarray, " d"], others: Shaped[np.ndarray, "n d"], metric: Metric
) -> Float32[np.ndarray, " n"]:
    """Compute distances by definition, rounded to float32."""
    distances = np.empty(len(others), np.float32)
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        for part in chunks(len(others), CACHED // (others.shape[1] + 1)):
            distances[part] = paired(vector, others[part], metric)
    return distances


def _choose(
    vectors: Shaped[np.ndarray, "n d"], metric: Metric, pivots: int, rng: "np.random.Generator"
) -> Int64[np.ndarray, " p"]:
    """Choose pivots by incremental selection; see `build`."""
    rows = len(vectors)
    candidates = rng.choice(rows, min(rows, _CANDIDATES), replace=False)
    ends = rng.integers(0, max(rows, 1), 2 * _PAIRS if rows else 0)
    sample = np.asarray(vectors[ends])
    bounds = np.array(
        [np.abs(np.diff(_table_distances(vectors[c], sample, metric).reshape(2, -1), axis=0))[0] for c in candidates]
    )
    best, chosen = np.zeros(len(ends) // 2, np.float32), list[int]()
    while len(chosen) < min(pivots, rows):
        gains = np.maximum(bounds, best).mean(axis=1, dtype=np.float64)
        place = int(np.argmax(gains))
        if chosen and gains[place] <= best.mean(dtype=np.float64):
            break
        chosen.append(int(candidates[place]))
        best = np.maximum(best, bounds[place])
    return np.array(chosen, np.int64)
