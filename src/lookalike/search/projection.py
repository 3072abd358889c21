"""Galleries in fewer dimensions, in which batches are compared first, and what their distances prove about the true ones.

With P an orthonormal projection, μ any point and a = P(x - μ), b = P(y - μ), Pythagoras and the triangle inequality give

    ‖a - b‖² + (‖x⊥‖ - ‖y⊥‖)² ≤ ‖x - y‖²,   where ‖x⊥‖² = ‖x - μ‖² - ‖a‖²,

which is again a squared Euclidean distance, of vectors with one dimension more than P has. Embeddings lie near few
dimensions, those of their principal components, and there the bound rules out nearly all pairs for a fraction of the
arithmetic. Where it would not, as in pure noise, nothing is projected.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64, Int64

from lookalike.metric import Metric, squared_norms
from lookalike.search.chunks import chunks
from lookalike.search.scan import directed

DIMENSIONS = 32, 64, 96, 128, 192, 256, 384
"""What may be projected to."""

WORTH = 2**25
"""Pairs from which on it is worth to look whether a projection pays."""

_SAMPLE = 2048
"""Vectors that show how much a projection rules out, and tell the principal components."""

_ASKED = 64
"""Vectors that are taken for queries to choose the number of dimensions by."""

_NEAREST = 24
"""How many nearest ones those ask for: some more, as queries lie farther from a gallery than what it has from the rest."""

_MEASURED = 24_000, 100
"""What measuring a pair by definition costs, as dimensions of a matrix product, and for each of its own dimensions."""

_PAYS = 0.8
"""A projection has to cost at most so much of what the vectors themselves do: it takes memory, too."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Vectors in ``p`` dimensions, ready to be multiplied with others in the same dimensions.

    Attributes:
        centre: μ.
        components: P; its columns are orthonormal.
        metric: euclidean, or cosine: then the vectors were brought to length 1.
        rows: of each vector P(x - μ), ‖x⊥‖, and ‖x - μ‖² less what rounding may have done.
    """

    centre: Float64[np.ndarray, " d"]
    components: Float64[np.ndarray, "d p"]
    metric: Metric
    rows: Float32[np.ndarray, "n p2"]

    def take(self, rows: slice | Int64[np.ndarray, " m"]) -> "Projection":
        """These of its vectors."""
        return replace(self, rows=self.rows[rows])

    def of(self, vectors: Float32[np.ndarray, "n d"]) -> "Projection":
        """Other vectors in the same dimensions."""
        p = self.components.shape[1]
        rows = np.empty((len(vectors), p + 2), np.float32)
        slack = 4 * (p + 16) * 2.0**-24 + 2.0**-20 + 2.0**-23 * np.sqrt(vectors.shape[1])
        for part in chunks(len(vectors), 2**20 // (vectors.shape[1] + 1)):
            moved = directed(vectors[part], self.metric) - self.centre
            along, norms = moved @ self.components, squared_norms(moved)
            rows[part, :p] = along
            rows[part, p] = np.sqrt(np.maximum(norms - squared_norms(along), 0))
            rows[part, p + 1] = norms * (1 - slack)
        return replace(self, rows=rows)

    def bounds(
        self, gallery: "Projection", out: Float32[np.ndarray, "q m"] | None = None
    ) -> Float32[np.ndarray, "q m"]:
        """Lower bounds of the squared distances to each row of a gallery, less a constant of its query: see `limits`."""
        factors = -2 * self.rows
        factors[:, -1] = 1
        return np.asarray(np.matmul(factors, gallery.rows.T, out=out))

    def limits(self, reach: Float32[np.ndarray, " #q"]) -> Float32[np.ndarray, " q"]:
        """What the bounds of these queries may not exceed for a distance to be within reach after rounding to float32.

        Projected vectors are cut to float32, and hold the root of a difference of two sums of d products in float64, each
        wrong by at most about d·2⁻⁵³‖x‖². So they are wrong by e‖x‖ with e < 2⁻²³ + √d·2⁻²⁵·⁵. As no distance t exceeds
        ‖x‖ + ‖y‖, (t + e‖x‖ + e‖y‖)² ≤ t² + 2(2e + e²)(‖x‖² + ‖y‖²). The product of p + 2 numbers is wrong as
        `lookalike.search.bounds` derives it; four times as much leaves room for the norm that is one of them. Both are
        taken off the norms.
        """
        with np.errstate(over="ignore"):
            distance = np.nextafter(reach, np.float32(np.inf)).astype(np.float64)
            # Half the square of the distance between directions is the cosine distance, or less, if there is a zero vector.
            square = 2 * (distance + len(self.centre) * 2.0**-48) if self.metric == Metric.COSINE else distance**2
            limit = (square - self.rows[:, -1] + 2.0**-100).astype(np.float32)
        return np.asarray(np.nextafter(limit, np.float32(np.inf)))


def shortened(vectors: Float32[np.ndarray, "n d"], metric: Metric) -> Projection | None:
    """A gallery in as few dimensions as pay where batches ask for the nearest; nothing where none do."""
    if metric == Metric.HAMMING or not len(vectors) or min(DIMENSIONS) >= _PAYS * vectors.shape[1]:
        return None
    return projected(vectors, vectors, _reaches(_some(vectors, _ASKED), vectors, metric), metric)


def projected(
    asked: Float32[np.ndarray, "q d"],
    vectors: Float32[np.ndarray, "n d"],
    reach: Float32[np.ndarray, " r"],
    metric: Metric,
) -> Projection | None:
    """The vectors in as few dimensions as pay where such queries ask for what is within reach; nothing where none do.

    The reach is one for all, or one for each of `_ASKED` queries. Whoever calls has found that no square of these overflows
    float32: see `lookalike.search.bounds.Gallery`.
    """
    dimension = vectors.shape[1]
    if min(DIMENSIONS) >= _PAYS * dimension:
        return None
    asked, sample = _some(asked, _ASKED), _some(vectors, _SAMPLE)
    centre, components = _principal(directed(sample, metric), max(DIMENSIONS))
    best, cost = None, _PAYS * dimension
    whole = Projection(centre, components, metric, np.empty((0, components.shape[1] + 2), np.float32))
    for p in DIMENSIONS:
        if p >= cost:
            break
        fewer = replace(whole, components=components[:, :p])
        one, other = fewer.of(asked), fewer.of(sample)
        share = float(np.mean(one.bounds(other) <= one.limits(reach)[:, None]))
        if (takes := p + share * (_MEASURED[0] + _MEASURED[1] * dimension)) < cost:
            best, cost = fewer, takes
    return best and best.of(vectors)


def _some(vectors: Float32[np.ndarray, "n d"], most: int) -> Float32[np.ndarray, "m d"]:
    return vectors[:: 1 + len(vectors) // most]


def _reaches(
    asked: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"], metric: Metric
) -> Float32[np.ndarray, " q"]:
    """About how far the nearest vectors are, in the metric's unit."""
    best = np.full((len(asked), _NEAREST), np.inf)
    queries = directed(asked, metric).astype(np.float32)
    for part in chunks(len(vectors), 2**21 // (vectors.shape[1] + len(asked))):
        some = directed(vectors[part], metric).astype(np.float32)
        squares = squared_norms(queries)[:, None] + squared_norms(some) - 2 * queries @ some.T
        best = np.partition(np.concatenate([best, squares], axis=1), _NEAREST - 1, axis=1)[:, :_NEAREST]
    farthest = np.maximum(best[:, min(_NEAREST, len(vectors)) - 1], 0)
    return np.asarray(farthest / 2 if metric == Metric.COSINE else np.sqrt(farthest), np.float32)


def _principal(
    sample: Float64[np.ndarray, "n d"], most: int
) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, "d p"]]:
    """The mean and the first principal components, nearly, by block power iteration; orthonormal whatever they are."""
    centre = sample.mean(axis=0)
    moved = sample - centre
    moved = (moved / (np.abs(moved).max(initial=0) or 1)).astype(np.float32)
    chosen = np.random.default_rng(0).standard_normal((sample.shape[1], min(most, sample.shape[1])), np.float32)
    for _ in range(3):
        chosen, _ = np.linalg.qr(moved.T @ (moved @ chosen) + np.float32(1e-6) * chosen)
    _, _, turned = np.linalg.svd(moved @ chosen, full_matrices=False)
    return centre, np.linalg.qr((chosen @ turned.T).astype(np.float64))[0]
