"""A projected gallery: fewer dimensions, in which batches are compared before their vectors.

With P an orthonormal projection, μ any point and a = P(x - μ), b = P(y - μ), Pythagoras and the triangle inequality give

    ‖a - b‖² + (‖x⊥‖ - ‖y⊥‖)² ≤ ‖x - y‖²,   where ‖x⊥‖² = ‖x - μ‖² - ‖a‖²,

which is a squared Euclidean distance of vectors with one dimension more than P has. Embeddings lie near the space of their
first principal components. There the bound rules out nearly all pairs with a fraction of the arithmetic. If it would not,
as for noise, no projection is made.

A batch of 256 queries over 14,660 vectors of 2,048 numbers: 104 ms without, 42 ms with (``benchmarks/scans.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from lookalike.metric import Metric, squared_norms
from lookalike.query import DistanceRange
from lookalike.search.answers import round_range
from lookalike.search.bounds import BoundMatrix
from lookalike.search.chunks import chunks
from lookalike.search.coded import CodedVectors
from lookalike.search.gallery import FLOAT32, Arrays, Gallery, Rows, is_safe
from lookalike.search.prefilters.directions import unit_vectors
from lookalike.shapes import Bool, Float32, Float64, Int64, Shaped

DIMENSIONS = 32, 64, 96, 128, 192, 256, 384
"""Numbers of dimensions to choose from."""

MIN_PAIRS = 2**25
"""Minimum number of pairs for which a search tries a projection."""

MIN_QUERIES = 1024
"""Minimum number of queries for which a k-NN search projects a gallery without a projection. A range search needs a quarter
of them, since it chooses a projection for its distances."""

_SAMPLE = 2048
"""Vectors that determine the principal components and the share of pairs that a projection rules out."""

_SAMPLE_QUERIES = 64
"""Vectors used as queries to choose the number of dimensions."""

_NEAREST = 24
"""Neighbours of each of these queries: more than usual, since real queries lie farther from a gallery than its own rows."""

_MEASURING_COST = 24_000, 100
"""Cost of measuring a pair by definition, in dimensions of a matrix product: a constant, and per dimension."""

_MAX_COST = 0.8
"""Maximum cost of a projection, relative to comparing the vectors themselves, since it also takes memory."""


@dataclass(frozen=True, eq=False)
class Projected:
    """A gallery in ``p`` dimensions.

    Attributes:
        centre: μ.
        components: P; its columns are orthonormal.
        metric: euclidean or cosine. For cosine, unit vectors are projected.
        rows: for each vector P(x - μ), ‖x⊥‖, and ‖x - μ‖² less its largest rounding error.
    """

    kind: ClassVar[str] = "projected"

    centre: Float64[np.ndarray, " d"]
    components: Float64[np.ndarray, "d p"]
    metric: Metric
    rows: Float32[np.ndarray, "n p2"]

    @property
    def precision(self) -> str:
        """See `Prefilter.precision`."""
        return "float32"

    @property
    def nbytes(self) -> int:
        """See `Prefilter.nbytes`."""
        return self.rows.nbytes

    def serves(self, metric: Metric, queries: int, *, subset: bool) -> bool:  # noqa: ARG002 -- serves both
        """See `Prefilter.serves`: batches of its metric. A single query waits for memory, not for arithmetic."""
        return metric == self.metric and queries > 1

    def bind(self, queries: Gallery, own: Rows | None = None) -> "_Batch | None":
        """See `Prefilter.bind`; none if squares of the queries may overflow float32."""
        if queries.dtype != np.float32:
            return None
        return _Batch(self, self.project(queries.array) if own is None else self.rows[own])

    def update(
        self, vectors: Float32[np.ndarray, "n d"], rows: Int64[np.ndarray, " k"], known: Bool[np.ndarray, " n"]
    ) -> Self | None:
        """See `Prefilter.update`; it projects new vectors, unless their squares may overflow float32."""
        if not is_safe(squared_norms(vectors[~known]), vectors.shape[1]):
            return None
        projected = np.empty((len(known), self.rows.shape[1]), np.float32)
        projected[known], projected[~known] = self.rows[rows], self.project(vectors[~known])
        return replace(self, rows=projected)

    def save(self) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]]:
        """See `Prefilter.save`."""
        return {"metric": self.metric}, {"rows": self.rows, "centre": self.centre, "components": self.components}

    @classmethod
    def load(cls, metadata: Mapping[str, Any], arrays: Arrays, shape: tuple[int, int]) -> Self:
        """See `Prefilter.load`."""
        rows, centre, components = arrays["rows"], arrays["centre"], arrays["components"]
        n, d = shape
        types = rows.dtype == np.float32 and centre.dtype == components.dtype == np.float64
        if not types or centre.shape != (d,) or components.ndim != 2 or len(components) != d:  # noqa: PLR2004
            raise ValueError("the projection is for other vectors")
        if rows.shape != (n, components.shape[1] + 2):
            raise ValueError("the projection is for other vectors")
        return cls(centre, components, Metric(metadata["metric"]), rows)

    def project(self, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n p2"]:
        """Compute `rows` of other vectors."""
        p = self.components.shape[1]
        rows = np.empty((len(vectors), p + 2), np.float32)
        slack = 4 * (p + 16) * 2.0**-24 + 2.0**-20 + 2.0**-23 * np.sqrt(vectors.shape[1])
        for part in chunks(len(vectors), 2**20 // (vectors.shape[1] + 1)):
            centred = unit_vectors(vectors[part], self.metric) - self.centre
            projected, norms = centred @ self.components, squared_norms(centred)
            rows[part, :p] = projected
            rows[part, p] = np.sqrt(np.maximum(norms - squared_norms(projected), 0))
            rows[part, p + 1] = norms * (1 - slack)
        return rows


class _Batch:
    """Projected queries; see `BoundPrefilter`."""

    max_open = 1 / 100

    def __init__(self, projected: Projected, queries: Float32[np.ndarray, "q p2"]) -> None:
        self._projected, self._constants = projected, queries[:, -1]
        self._factors = -2 * queries
        self._factors[:, -1] = 1
        self.row_bytes = projected.rows[:1].nbytes
        self._memory: Float32[np.ndarray, " cells"] | None = None

    def compare(self, rows: Rows) -> BoundMatrix:
        """See `BoundPrefilter.compare`. The bounds are of squared distances, less a constant of each query."""
        selected = self._projected.rows[rows]
        cells = len(self._factors) * len(selected)
        if self._memory is None or cells > self._memory.size:
            self._memory = np.empty(cells, np.float32)  # reused: allocating it for each tile takes a sixth of the time
        out = self._memory[:cells].reshape(len(self._factors), len(selected))
        return BoundMatrix(np.matmul(self._factors, selected.T, out=out), self.limits)

    def limits(self, reach: Float32[np.ndarray, " #q"]) -> Float32[np.ndarray, " q"]:
        """Compute the largest bound of a distance that rounds to float32 within ``reach``.

        Projected vectors are rounded to float32. One of their numbers is the root of a difference of two sums of d
        products in float64, each with an error of at most about d·2⁻⁵³‖x‖². So their error is e‖x‖ with e < 2⁻²³ +
        √d·2⁻²⁵·⁵. As no distance t exceeds ‖x‖ + ‖y‖, (t + e‖x‖ + e‖y‖)² ≤ t² + 2(2e + e²)(‖x‖² + ‖y‖²). The product of
        p + 2 numbers has the error that `lookalike.search.gallery.slack` derives; four times that error includes the norm
        among them. `Projected.project` subtracts both errors from the norms.
        """
        with np.errstate(over="ignore"):
            distance = np.nextafter(reach, np.float32(np.inf)).astype(np.float64)
            # Half the squared distance of unit vectors is the cosine distance, or less if one is a zero vector.
            cosine, dimension = self._projected.metric == Metric.COSINE, len(self._projected.centre)
            square = 2 * (distance + dimension * 2.0**-48) if cosine else distance**2
            limit = (square - self._constants + 2.0**-100).astype(np.float32)
        return np.asarray(np.nextafter(limit, np.float32(np.inf)))


def project(vectors: Float32[np.ndarray, "n d"], metric: Metric) -> Projected | None:
    """Project a gallery to the best number of dimensions for k-NN; none if a projection would not save time."""
    if metric == Metric.HAMMING or not len(vectors) or min(DIMENSIONS) >= _MAX_COST * vectors.shape[1]:
        return None
    reach = _estimate_reach(_subsample(vectors, _SAMPLE_QUERIES), vectors, metric)
    return project_for(vectors, vectors, reach, metric)


def project_for(
    queries: Float32[np.ndarray, "q d"],
    vectors: Float32[np.ndarray, "n d"],
    reach: Float32[np.ndarray, " r"],
    metric: Metric,
) -> Projected | None:
    """Project a gallery to the best number of dimensions for given queries; none if a projection would not save time.

    Args:
        queries: float32 suffices for their lower bounds and those of ``vectors``, see `lookalike.search.gallery.is_safe`.
        vectors: the gallery.
        reach: maximum distance of all queries, or of each of `_SAMPLE_QUERIES`.
        metric: euclidean or cosine.
    """
    dimension = vectors.shape[1]
    if min(DIMENSIONS) >= _MAX_COST * dimension:
        return None
    queries, sample = _subsample(queries, _SAMPLE_QUERIES), _subsample(vectors, _SAMPLE)
    centre, components = _principal_components(unit_vectors(sample, metric), max(DIMENSIONS))
    best, best_cost = None, _MAX_COST * dimension
    for p in DIMENSIONS:
        if p >= best_cost:
            break
        candidate = Projected(centre, components[:, :p], metric, np.empty((0, p + 2), np.float32))
        candidate = replace(candidate, rows=candidate.project(sample))
        batch = _Batch(candidate, candidate.project(queries))
        share = float(np.mean(batch.compare(slice(None)).bounds <= batch.limits(reach)[:, None]))
        if (cost := p + share * (_MEASURING_COST[0] + _MEASURING_COST[1] * dimension)) < best_cost:
            best, best_cost = candidate, cost
    return best and replace(best, rows=best.project(vectors))


def add_for_nearest(gallery: Gallery, queries: Gallery, metric: Metric) -> Gallery:
    """Add a projection to a gallery for k-NN, if the gallery has none and there are enough queries."""
    if len(queries) < MIN_QUERIES or not _may_pay(gallery, queries, metric):
        return gallery
    if any(isinstance(prefilter, Projected) for prefilter in gallery.prefilters):
        return gallery
    projected = project(gallery.array, metric)
    return gallery if projected is None else replace(gallery, prefilters=(*gallery.prefilters, projected))


def add_for_range(gallery: Gallery, queries: Gallery, metric: Metric, within: DistanceRange) -> Gallery:
    """Replace the projection of a gallery by one for a range search, if there are enough queries."""
    if len(queries) < MIN_QUERIES // 4 or not _may_pay(gallery, queries, metric):
        return gallery
    _, farthest = round_range(within)
    if farthest == np.inf:
        return gallery
    projected = project_for(queries.array, gallery.array, np.full(1, farthest), metric)
    others = tuple(prefilter for prefilter in gallery.prefilters if not isinstance(prefilter, Projected))
    return replace(gallery, prefilters=others if projected is None else (*others, projected))


def _may_pay(gallery: Gallery, queries: Gallery, metric: Metric) -> bool:
    """Return whether a projection may save time for this many pairs, and no square would overflow.

    Vectors in codes have none: it would be larger than the codes.
    """
    in_codes = isinstance(gallery.vectors, CodedVectors) or gallery.code_bounds is not None
    safe = queries.dtype == gallery.dtype == FLOAT32 and not in_codes
    return safe and metric != Metric.HAMMING and len(queries) * len(gallery) >= MIN_PAIRS


def _subsample(vectors: Float32[np.ndarray, "n d"], count: int) -> Float32[np.ndarray, "m d"]:
    return vectors[:: 1 + len(vectors) // count]


def _estimate_reach(
    queries: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"], metric: Metric
) -> Float32[np.ndarray, " q"]:
    """Estimate the distance of each query's nearest vectors, in the metric's unit."""
    best = np.full((len(queries), _NEAREST), np.inf)
    queries = unit_vectors(queries, metric).astype(np.float32)
    for part in chunks(len(vectors), 2**21 // (vectors.shape[1] + len(queries))):
        rows = unit_vectors(vectors[part], metric).astype(np.float32)
        squares = squared_norms(queries)[:, None] + squared_norms(rows) - 2 * queries @ rows.T
        best = np.partition(np.concatenate([best, squares], axis=1), _NEAREST - 1, axis=1)[:, :_NEAREST]
    farthest = np.maximum(best[:, min(_NEAREST, len(vectors)) - 1], 0)
    return np.asarray(farthest / 2 if metric == Metric.COSINE else np.sqrt(farthest), np.float32)


def _principal_components(
    sample: Float64[np.ndarray, "n d"], count: int
) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, "d p"]]:
    """Compute the mean, and approximate the first principal components by block power iteration, orthonormal."""
    centre = sample.mean(axis=0)
    centred = sample - centre
    centred = (centred / (np.abs(centred).max(initial=0) or 1)).astype(np.float32)
    basis = np.random.default_rng(0).standard_normal((sample.shape[1], min(count, sample.shape[1])), np.float32)
    for _ in range(3):
        basis, _ = np.linalg.qr(centred.T @ (centred @ basis) + np.float32(1e-6) * basis)
    _, _, rotation = np.linalg.svd(centred @ basis, full_matrices=False)
    return centre, np.linalg.qr((basis @ rotation.T).astype(np.float64))[0]
