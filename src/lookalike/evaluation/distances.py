"""Whole rows of distances, for measures that look at every pair: the very numbers of `lookalike.search`, in blocks."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.search import Gallery, prepare
from lookalike.search.bounds import measure
from lookalike.search.chunks import chunks
from lookalike.search.tiles import tiles

BUDGET = 32 * 2**20
"""Bytes of a block of distances, and of what is in use beside it."""

_PAIR = 64
"""Bytes that a pair takes while its distance is computed."""

QUERIES = 256
"""Queries in a block: enough for BLAS to run at its peak."""


def sides(left: Shaped[np.ndarray, "..."], right: Shaped[np.ndarray, "..."], metric: Metric) -> tuple[Gallery, Gallery]:
    """Two arrays made ready to be compared; one and the same only once.

    Raises:
        UsageError: vectors that `lookalike.search.prepare` refuses, or that do not have the same dimension.
    """
    one = prepare(left, metric)
    other = one if right is left else prepare(right, metric)
    ours, theirs = one.vectors.shape[1], other.vectors.shape[1]
    if ours != theirs:
        raise UsageError(f"Vectors of dimension {ours} and {theirs} cannot be compared; one encoder must make both.")
    return one, other


def rows(queries: Gallery, gallery: Gallery, metric: Metric) -> Iterator[tuple[slice, Float32[np.ndarray, "q n"]]]:
    """The distances from each query to the whole gallery, some queries at a time.

    They are `lookalike.metric.pairwise` rounded to float32, to the last bit: the same two vectors are at the same
    distance wherever they stand, so that a tie is a tie.
    """
    size = min(QUERIES, BUDGET // (4 * max(1, len(gallery))))
    for part in chunks(len(queries), size):
        some = queries.take(part)
        distances = np.empty((len(some), len(gallery)), np.float32)
        if metric == Metric.HAMMING:
            for tile in tiles(some, gallery, metric):
                distances[:, tile.rows] = tile.bounds  # of bits the bound is the distance itself
        else:
            width = BUDGET // (_PAIR * len(some) + 8 * some.vectors.shape[1])
            for columns in chunks(len(gallery), width):
                distances[:, columns] = _tile(some, gallery.take(columns), metric)
        yield part, distances


def _tile(queries: Gallery, gallery: Gallery, metric: Metric) -> Float32[np.ndarray, "q m"]:
    """BLAS in float64 tells nearly every distance to within one float32; what it leaves open is measured."""
    least, most = _bounds(queries, gallery, metric)
    with np.errstate(over="ignore"):
        distances, above = least.astype(np.float32), most.astype(np.float32)
    left, right = np.divmod(np.flatnonzero(distances != above), len(gallery))
    distances[left, right] = measure(queries, gallery, left, right, metric)
    return distances


def _bounds(
    queries: Gallery, gallery: Gallery, metric: Metric
) -> tuple[Float64[np.ndarray, "q m"], Float64[np.ndarray, "q m"]]:
    """Between which each distance by definition lies.

    With u = 2⁻⁵³ a sum of d products is wrong by at most about du·Σ|xᵢyᵢ| (Higham, "Accuracy and Stability of Numerical
    Algorithms", 2nd ed., section 3.1), and Σ|xᵢyᵢ| ≤ ‖x‖‖y‖ ≤ (‖x‖² + ‖y‖²) / 2. The bound takes three such sums and
    the definition three, with a few roundings each; 8(d + 8)u is more than all of them together, in proportion to
    ‖x‖² + ‖y‖² for the square of the Euclidean distance and to 1 for the cosine.
    """
    slack = 8 * (queries.vectors.shape[1] + 8) * 2.0**-53
    dots = queries.vectors.astype(np.float64) @ gallery.vectors.astype(np.float64).T
    if metric == Metric.EUCLIDEAN:
        sums = queries.squared_norms[:, None] + gallery.squared_norms
        dots *= -2
        dots += sums
        sums *= slack
        return np.sqrt(np.maximum(dots - sums, 0)), np.sqrt(np.maximum(dots + sums, 0))
    norms = np.sqrt(queries.squared_norms)[:, None] * np.sqrt(gallery.squared_norms)
    cosines = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return np.clip(1 - cosines - slack, 0, 2), np.clip(1 - cosines + slack, 0, 2)
