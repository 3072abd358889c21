"""A pivot table: exact search that leaves distances out by the triangle inequality.

LAESA (Micó, Oncina and Vidal, "A new version of the nearest-neighbour approximating and eliminating search algorithm",
Pattern Recognition Letters 1994). The distances of all rows to a few of them, the pivots, are kept. A query is measured
against the pivots; then |d(q, p) - d(p, y)| ≤ d(q, y) says which rows y need not be.

The inequality needs a metric. Euclidean and Hamming distance are; cosine distance is not, but √(2 · cosine distance) is
the Euclidean distance of the two directions, and grows with it. That is what the table holds for it. (A zero vector, at
cosine distance 1 from everything, is at √2 from everything, and since no other is farther than 2 the inequality holds.)

The answers are those of `lookalike.search`, to the last bit. `pays` says whether they come faster; see there.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from lookalike.errors import UsageError
from lookalike.metric import Metric, paired
from lookalike.search import Gallery, Hits, Pairs, prepare

_CANDIDATES = 128
"""Rows that a pivot is chosen from."""

_PAIRS = 1024
"""Pairs of rows whose distances the pivots should bound well."""

_SAMPLE = 1000
"""Rows that tell something of a collection."""

_QUERIES = 50
"""Rows of a sample that are asked for."""

TABLE_COST = 2.0
"""How much longer a number of the table takes than one of a vector in a scan by BLAS: ``benchmarks/pivots.py``."""

MEASURING_COST = 10.0
"""The same of a number of a vector that is measured by definition."""

_BATCH = 64
"""Rows measured at a time: the fewer, the sooner the k-th distance shrinks, and the more calls."""

_COLUMNS = 2**15
"""Columns of the table at a time: a float32 row of so many stays in the processor's cache."""

_CACHED = 2**16
"""Numbers measured at a time, for the same reason."""


@dataclass(frozen=True, eq=False)
class PivotTable:
    """Vectors and their distances to a few of them; see `build`.

    Attributes:
        gallery: all vectors.
        metric: what they are compared with.
        pivots: rows of the gallery.
        distances: of each pivot to each row, for cosine √(2 · distance). It takes 4 bytes for each.
    """

    gallery: Gallery
    metric: Metric
    pivots: Int64[np.ndarray, " p"]
    distances: Float32[np.ndarray, "p n"]


@dataclass(frozen=True, eq=False)
class Pruned:
    """Answers, and what they took.

    Attributes:
        hits: those of `search.knn` and `search.within`.
        measured: how many distances each query was measured, those to the pivots among them. A scan measures every row.
    """

    hits: Hits
    measured: Int64[np.ndarray, " q"]


def build(
    vectors: Shaped[np.ndarray, "..."] | Gallery, metric: Metric, pivots: int = 16, *, seed: int = 0
) -> PivotTable:
    """Choose pivots and measure all rows against them.

    They are chosen one after the other (incremental selection: Bustos, Navarro and Chávez, "Pivot selection techniques for
    proximity searching in metric spaces", Pattern Recognition Letters 2003). Each is the one of `_CANDIDATES` drawn rows
    that, with those already chosen, gives the largest mean lower bound to `_PAIRS` drawn pairs: what pruning lives on.
    Maximum separation, LAESA's own, collects outliers: in a cube they are its corners, which bound a little better still, but
    among embeddings stray pictures, which bound next to nothing. ``benchmarks/pivots.py`` compares.

    Args:
        vectors: ``(n, d)``, as `search.prepare` takes them.
        metric: any.
        pivots: at most so many; fewer where there are fewer rows, or where more would say nothing new.
        seed: the same vectors and seed give the same table.

    Raises:
        UsageError: no pivots, and what `search.prepare` raises.
    """
    if pivots < 1:
        raise UsageError(f"A pivot table needs at least 1 pivot, not {pivots}.")
    gallery = _prepared(vectors, metric)
    chosen = _choose(gallery.vectors, metric, pivots, np.random.default_rng(seed))
    distances = np.empty((len(chosen), len(gallery)), np.float32)
    for row, pivot in zip(distances, chosen, strict=True):
        row[:] = _table_distances(gallery.vectors[pivot], gallery.vectors, metric)
    return PivotTable(gallery, metric, chosen, distances)


def knn(queries: Shaped[np.ndarray, "..."] | Gallery, table: PivotTable, k: int) -> Pruned:
    """The k nearest rows of each query, as `search.knn`.

    Raises:
        UsageError: k < 1, or queries that do not fit.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}.")
    return _answered(queries, table, lambda query: _nearest(query, table, min(k, len(table.gallery))))


def within(queries: Shaped[np.ndarray, "..."] | Gallery, table: PivotTable, radius: float) -> Pruned:
    """All rows within a distance of each query, as `search.within`.

    Raises:
        UsageError: a radius that is negative or NaN, or queries that do not fit.
    """
    if not radius >= 0:
        raise UsageError(f"A radius must be a distance of at least 0, not {radius:g}.")
    with np.errstate(over="ignore"):
        reach = np.float32(radius)
    return _answered(queries, table, lambda query: _inside(query, table, reach))


@dataclass(frozen=True)
class Estimate:
    """What a pivot table would do for vectors like those of a sample.

    Attributes:
        intrinsic_dimension: ρ = μ² / 2σ² of the distances between random pairs (Chávez, Navarro, Baeza-Yates and Marroquín,
            "Searching in metric spaces", ACM Computing Surveys 2001). The larger, the more alike all distances are, and the
            less a pivot tells.
        share: of all distances, those that one query for its 10 nearest would still take, in a collection of this size.
        pays: one query would be faster than by `search.knn` in float32.
    """

    intrinsic_dimension: float
    share: float
    pays: bool


def pays(sample: Shaped[np.ndarray, "..."] | Gallery, metric: Metric, pivots: int = 16, *, seed: int = 0) -> Estimate:
    """Whether a pivot table is worth having; it is asked of a sample, and tried on it.

    A scan reads d numbers of each row, in order, at the speed of memory. The table has p numbers of each row to be worked
    through, and what it cannot rule out is fetched from anywhere and measured by definition. Per number these take
    `TABLE_COST` and `MEASURING_COST` times as long, so it pays where p · TABLE_COST + share · d · MEASURING_COST < d:
    for few, long vectors of low intrinsic dimension, and a query at a time. In a batch, a matrix product takes several
    times less for each distance than a scan does, and the table nothing less.

    Args:
        sample: ``(m, d)``, at least 1,000 rows drawn evenly; with more, the estimate is closer.
        metric: what they would be compared with.
        pivots: as in `build`.
        seed: the same sample and seed give the same estimate.

    Raises:
        UsageError: a smaller sample, and what `build` raises.
    """
    gallery = _prepared(sample, metric)
    rows = len(gallery)
    if rows < _SAMPLE:
        raise UsageError(f"An estimate takes a sample of at least {_SAMPLE:,} vectors, not {rows:,}.")
    rng = np.random.default_rng(seed)
    drawn = rng.choice(rows, (4 * _PAIRS, 2))
    exact = paired(gallery.vectors[drawn[:, 0]], gallery.vectors[drawn[:, 1]], metric)
    distances = (np.sqrt(2 * exact) if metric is Metric.COSINE else exact)[drawn[:, 0] != drawn[:, 1]]
    spread = 2 * float(distances.var())
    dimension = float(distances.mean()) ** 2 / spread if spread else math.inf if distances.any() else 0.0
    order = rng.permutation(rows)
    table = build(gallery.take(np.sort(order[_QUERIES:])), metric, pivots, seed=seed)
    measured = knn(gallery.take(order[:_QUERIES]), table, 10).measured.mean()
    # What every query takes in a collection of any size is no share of it.
    share = max(0.0, float(measured) - len(table.pivots) - _BATCH) / len(table.gallery)
    numbers = gallery.vectors.shape[1]
    return Estimate(dimension, share, bool(len(table.pivots) * TABLE_COST + share * numbers * MEASURING_COST < numbers))


def _prepared(vectors: Shaped[np.ndarray, "..."] | Gallery, metric: Metric) -> Gallery:
    gallery = vectors if isinstance(vectors, Gallery) else prepare(vectors, metric)
    if gallery.vectors.dtype != metric.dtype:
        raise UsageError(
            f"A gallery of {gallery.vectors.dtype} was not prepared for the {metric} metric; prepare it so."
        )
    return gallery


_Found = tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, " m"], int]
"""Rows, their distances, and how many distances that took."""


def _answered(
    queries: Shaped[np.ndarray, "..."] | Gallery, table: PivotTable, ask: Callable[[np.ndarray], _Found]
) -> Pruned:
    asked = _prepared(queries, table.metric)
    ours, theirs = asked.vectors.shape[1], table.gallery.vectors.shape[1]
    if ours != theirs:
        raise UsageError(f"Vectors of dimension {ours} and {theirs} cannot be compared; one encoder must make both.")
    parts, measured = [], np.zeros(len(asked), np.int64)
    for i, query in enumerate(asked.vectors):
        rows, distances, measured[i] = ask(query)
        parts.append(Pairs(np.full(len(rows), i), rows, distances))
    return Pruned(Hits.from_pairs(parts, len(asked)), measured)


def _inside(query: np.ndarray, table: PivotTable, reach: np.float32) -> _Found:
    bounds, limit = _lower_bounds(query, table)
    near = np.flatnonzero(bounds <= limit(reach))
    distances = _measure(query, table.gallery.vectors[near], table.metric)
    inside = distances <= reach
    return near[inside], distances[inside], len(table.pivots) + len(near)


def _nearest(query: np.ndarray, table: PivotTable, k: int) -> _Found:
    bounds, limit = _lower_bounds(query, table)
    first = min(len(bounds), max(k, _BATCH))
    some = np.argpartition(bounds, first - 1)[:first] if first < len(bounds) else np.arange(first)
    rows, distances = _first(some, _measure(query, table.gallery.vectors[some], table.metric), k)
    measured = len(table.pivots) + len(some)
    if not measured:
        return rows, distances, 0
    unseen = bounds <= limit(distances[-1])
    unseen[some] = False
    left = np.flatnonzero(unseen)
    left = left[np.argsort(bounds[left], kind="stable")]
    for part in range(0, len(left), _BATCH):
        some = left[part : part + _BATCH]
        some = some[bounds[some] <= limit(distances[-1])]
        if not len(some):
            break  # the bounds of all others are higher
        measured += len(some)
        found = _measure(query, table.gallery.vectors[some], table.metric)
        rows, distances = _first(np.concatenate([rows, some]), np.concatenate([distances, found]), k)
    return rows, distances, measured


def _first(
    rows: Int64[np.ndarray, " m"], distances: Float32[np.ndarray, " m"], k: int
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """The k nearest, by (distance, row)."""
    order = np.lexsort((rows, distances))[:k]
    return rows[order], distances[order]


def _lower_bounds(
    query: np.ndarray, table: PivotTable
) -> tuple[Float32[np.ndarray, " n"], Callable[[np.float32], np.float32]]:
    """A lower bound of the distance to each row, as the table has distances; and what it may be for a row within reach.

    Let a = d(q, p) and b = d(p, y) be the true distances, D = |a - b| ≤ d(q, y), and u = 2⁻²⁴. Both are computed in float64,
    with a relative error far below u / 1000 (see `search.bounds`), and rounded to float32, as their difference is. So what is
    computed for D is at most (D + u(a + b))(1 + u), and a tiny number for underflow; with b ≤ a + D that is less than
    D(1 + 4u) + 4ua. Clipping a and b to the largest float32 makes their difference no larger.

    Cosine distance is computed with an error e relative to 1, of which the root is taken: √(2e) at most for a and for b.
    """
    own = _table_distances(query, table.gallery.vectors[table.pivots], table.metric)
    bounds = np.zeros(table.distances.shape[1], np.float32)
    room = np.empty(_COLUMNS, np.float32)
    for begin in range(0, len(bounds), _COLUMNS):
        part = slice(begin, begin + _COLUMNS)
        here = bounds[part]
        some = room[: len(here)]
        for a, row in zip(own, table.distances[:, part], strict=True):
            np.abs(np.subtract(row, a, out=some), out=some)
            np.maximum(here, some, out=here)
    error = 2.0**-51 * (len(query) + 8) if table.metric is Metric.COSINE else 0.0
    margin = 2.0**-22 * float(own.max(initial=0)) + 2 * math.sqrt(2 * error) + 2.0**-140

    def limit(reach: np.float32) -> np.float32:
        with np.errstate(over="ignore"):
            most = float(np.nextafter(reach, np.float32(np.inf)))  # what rounds to the reach is smaller
            if table.metric is Metric.COSINE:
                most = math.sqrt(2 * (most + error))
            return np.float32(np.nextafter(np.float32(most * (1 + 2.0**-22) + margin), np.float32(np.inf)))

    return bounds, limit


def _table_distances(
    vector: np.ndarray, others: Shaped[np.ndarray, "n d"], metric: Metric
) -> Float32[np.ndarray, " n"]:
    """Distances for which the triangle inequality holds, clipped to float32."""
    distances = np.empty(len(others), np.float32)
    for part in _blocks(others):
        exact = paired(vector, others[part], metric)
        exact = np.sqrt(2 * exact) if metric is Metric.COSINE else exact
        distances[part] = np.minimum(exact, np.finfo(np.float32).max)
    return distances


def _measure(vector: np.ndarray, others: Shaped[np.ndarray, "n d"], metric: Metric) -> Float32[np.ndarray, " n"]:
    """Distances by definition, rounded to float32."""
    distances = np.empty(len(others), np.float32)
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        for part in _blocks(others):
            distances[part] = paired(vector, others[part], metric)
    return distances


def _blocks(vectors: Shaped[np.ndarray, "n d"]) -> Iterator[slice]:
    size = max(1, _CACHED // (vectors.shape[1] + 1))
    return (slice(begin, begin + size) for begin in range(0, len(vectors), size))


def _choose(
    vectors: Shaped[np.ndarray, "n d"], metric: Metric, pivots: int, rng: np.random.Generator
) -> Int64[np.ndarray, " p"]:
    """Pivots by incremental selection; see `build`."""
    rows = len(vectors)
    candidates = rng.choice(rows, min(rows, _CANDIDATES), replace=False)
    ends = rng.integers(0, max(rows, 1), 2 * _PAIRS if rows else 0)
    drawn = np.asarray(vectors[ends])
    bounds = np.array(
        [np.abs(np.diff(_table_distances(vectors[c], drawn, metric).reshape(2, -1), axis=0))[0] for c in candidates]
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
