"""Lower bounds of distances in fewer dimensions, for joins by radius.

With P an orthonormal projection, μ any point and a = P(x - μ), b = P(y - μ), Pythagoras and the triangle inequality give

    ‖a - b‖² + (‖x⊥‖ - ‖y⊥‖)² ≤ ‖x - y‖²,   where ‖x⊥‖² = ‖x - μ‖² - ‖a‖²,

which is again a squared Euclidean distance, of vectors with one dimension more than P has. Embeddings lie near few
dimensions, those of their principal components, and there the bound rules out nearly all pairs for a fraction of the
arithmetic. Where it would not, as in pure noise, nothing is projected.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from lookalike.metric import Metric, squared_norms
from lookalike.search.blocks import blocks
from lookalike.search.bounds import Gallery
from lookalike.search.scan import directed

DIMENSIONS = 32, 64, 96
"""What may be projected to."""

WORTH = 2**24
"""Pairs from which on it is worth to look whether a projection pays."""

_SAMPLE = 256, 2048
"""Left and right rows that show how much a projection rules out; the right ones also tell the principal components."""

_MEASURED = 5_000, 20
"""What measuring a pair by definition costs, as dimensions of a matrix product, and for each of its own dimensions."""

_ROUNDING = 2.0**-22
"""More than what a projected vector is wrong, by its cut to float32 and the root of a difference, against its length."""


@dataclass(frozen=True, eq=False)
class Side:
    """Projected vectors: float32, with their squared lengths in float64."""

    vectors: Float32[np.ndarray, "n p"]
    squared_norms: Float64[np.ndarray, " n"]

    def take(self, rows: slice) -> "Side":
        """These of its vectors."""
        return Side(self.vectors[rows], self.squared_norms[rows])


@dataclass(frozen=True, eq=False)
class Projection:
    """Both sides of a join in fewer dimensions: ``p`` numbers of float32 for each row, and three of float64."""

    left: Side
    right: Side
    products: Float32[np.ndarray, "m p"]
    """The right side, with what its rows add to each bound as one number more."""
    reach: float

    def near(self, queries: slice, columns: slice) -> Bool[np.ndarray, "q c"]:
        """Pairs that may be within reach: all that are, and few others."""
        asked = self.left.take(queries)
        factors = np.concatenate([-2 * asked.vectors, np.ones((len(asked.vectors), 1), np.float32)], axis=1)
        least = _part(asked, self.reach)
        limits = (self.reach**2 - least + 2.0**-100).astype(np.float32)
        limits = np.nextafter(limits, np.float32(np.inf))
        return np.asarray(factors @ self.products[columns].T <= limits[:, None])


def projected(left: Gallery, right: Gallery, radius: np.float32, metric: Metric) -> Projection | None:
    """The two sides in few dimensions; nothing where that does not pay."""
    dimension = left.vectors.shape[1]
    if metric == Metric.HAMMING or not radius < np.inf or len(left) * len(right) < WORTH:
        return None
    if left.dtype != np.float32 or right.dtype != np.float32:
        return None
    reach = float(np.nextafter(radius, np.float32(np.inf)))
    # Half the square of the distance between directions is the cosine distance, or less, if there is a zero vector.
    reach = np.sqrt(2 * (reach + dimension * 2.0**-48)) if metric == Metric.COSINE else reach
    ours, theirs = (side.vectors[:: 1 + len(side) // most] for side, most in zip((left, right), _SAMPLE, strict=True))
    centre, components = _principal(directed(theirs, metric), max(DIMENSIONS))
    best, cost = None, float(dimension)
    for p in DIMENSIONS:
        if 3 * p >= dimension:
            break
        one, other = (_side(part, centre, components[:, :p], metric) for part in (ours, theirs))
        share = float(np.mean(_projection(one, other, reach).near(slice(None), slice(None))))
        if (takes := p + share * (_MEASURED[0] + _MEASURED[1] * dimension)) < cost:
            best, cost = p, takes
    if best is None:
        return None
    one = _side(left.vectors, centre, components[:, :best], metric)
    other = one if right is left else _side(right.vectors, centre, components[:, :best], metric)
    return _projection(one, other, reach)


def _projection(left: Side, right: Side, reach: float) -> Projection:
    terms = _part(right, reach).astype(np.float32)
    return Projection(left, right, np.concatenate([right.vectors, terms[:, None]], axis=1), reach)


def _part(side: Side, reach: float) -> Float64[np.ndarray, " n"]:
    """What a vector adds to the bound of each of its pairs, beside the product.

    With e for `_ROUNDING`, (r + e‖x‖ + e‖y‖)² ≤ r² + 2re‖x‖ + 2re‖y‖ + 2e²‖x‖² + 2e²‖y‖². The product of p + 1 numbers
    is wrong as `lookalike.search.bounds` derives it; four times as much leaves room for the term that is one of them.
    """
    lengths = np.sqrt(side.squared_norms)
    slack = 4 * (side.vectors.shape[1] + 16) * 2.0**-24
    return np.asarray(
        side.squared_norms * (1 - slack) - 2 * reach * _ROUNDING * lengths - 2 * (_ROUNDING * lengths) ** 2
    )


def _side(
    vectors: Float32[np.ndarray, "n d"],
    centre: Float64[np.ndarray, " d"],
    components: Float64[np.ndarray, "d p"],
    metric: Metric,
) -> Side:
    n, p = len(vectors), components.shape[1]
    short, norms = np.empty((n, p + 1), np.float32), np.empty(n)
    for part in blocks(n, 2**20 // (vectors.shape[1] + 1)):
        moved = directed(vectors[part], metric) - centre
        along, norms[part] = moved @ components, squared_norms(moved)
        short[part, :p] = along
        short[part, p] = np.sqrt(np.maximum(norms[part] - squared_norms(along), 0))
    return Side(short, norms)


def _principal(
    sample: Float64[np.ndarray, "n d"], most: int
) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, "d p"]]:
    """The mean and the first principal components, nearly, by block power iteration; orthonormal whatever they are."""
    centre = sample.mean(axis=0)
    moved = sample - centre
    moved /= np.abs(moved).max(initial=0) or 1
    chosen = np.random.default_rng(0).standard_normal((sample.shape[1], min(most, sample.shape[1])))
    for _ in range(4):
        chosen, _ = np.linalg.qr(moved.T @ (moved @ chosen) + 1e-12 * chosen)
    _, _, turned = np.linalg.svd(moved @ chosen, full_matrices=False)
    return centre, np.linalg.qr(chosen @ turned.T)[0]
