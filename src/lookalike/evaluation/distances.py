"""Distances of all pairs, in bounded memory, for measures that need every pair; equal to those of `lookalike.search`."""

from collections.abc import Iterator

import numpy as np

from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.search import Gallery, prepare
from lookalike.search.bounds import lower_bounds, measure
from lookalike.search.chunks import chunks
from lookalike.shapes import Float32, Float64, Shaped

CHUNK_BYTES = 32 * 2**20
"""Bytes of a chunk of distances, and of the temporary arrays beside it."""

_PAIR_BYTES = 64
"""Bytes that a pair takes while its distance is computed."""

QUERIES = 256
"""Queries in a chunk: enough for BLAS to run at its peak."""


def prepare_both(
    left: Shaped[np.ndarray, "..."], right: Shaped[np.ndarray, "..."], metric: Metric
) -> tuple[Gallery, Gallery]:
    """Prepare two arrays for comparison; the same array is prepared once.

    Raises:
        UsageError: `lookalike.search.prepare` refuses the vectors, or their dimensions differ.
    """
    queries = prepare(left, metric)
    gallery = queries if right is left else prepare(right, metric)
    dimensions = queries.vectors.shape[1], gallery.vectors.shape[1]
    if dimensions[0] != dimensions[1]:
        raise UsageError(
            f"Vectors of dimension {dimensions[0]} and {dimensions[1]} cannot be compared; embed both with one encoder."
        )
    return queries, gallery


def distance_chunks(
    queries: Gallery, gallery: Gallery, metric: Metric
) -> Iterator[tuple[slice, Float32[np.ndarray, "q n"]]]:
    """Yield the distances from a range of queries to the whole gallery, for all queries in order.

    Each distance is `lookalike.metric.pairwise` rounded to float32, to the last bit: it does not depend on the position
    of the two vectors, so equal distances compare as equal.
    """
    size = min(QUERIES, CHUNK_BYTES // (4 * max(1, len(gallery))))
    for part in chunks(len(queries), size):
        taken = queries.take(part)
        distances = np.empty((len(taken), len(gallery)), np.float32)
        width = CHUNK_BYTES // (_PAIR_BYTES * len(taken) + 8 * taken.vectors.shape[1])
        for columns in chunks(len(gallery), width):
            distances[:, columns] = _measure_tile(taken, gallery.take(columns), metric)
        yield part, distances


def _measure_tile(queries: Gallery, gallery: Gallery, metric: Metric) -> Float32[np.ndarray, "q m"]:
    """Bound the distances by BLAS in float64, and measure the few whose bounds round to different float32 numbers."""
    if metric == Metric.HAMMING:  # for bits, the bound is the distance itself
        return lower_bounds(queries, gallery, metric).astype(np.float32)
    lower, upper = _bounds(queries, gallery, metric)
    with np.errstate(over="ignore"):
        distances, rounded_upper = lower.astype(np.float32), upper.astype(np.float32)
    left, right = np.divmod(np.flatnonzero(distances != rounded_upper), len(gallery))
    distances[left, right] = measure(queries, gallery, left, right, metric)
    return distances


def _bounds(
    queries: Gallery, gallery: Gallery, metric: Metric
) -> tuple[Float64[np.ndarray, "q m"], Float64[np.ndarray, "q m"]]:
    """Return a lower and an upper bound of each distance as the metric defines it.

    With u = 2⁻⁵³, the error of a sum of d products is at most about du·Σ|xᵢyᵢ| (Higham, "Accuracy and Stability of Numerical
    Algorithms", 2nd ed., section 3.1), and Σ|xᵢyᵢ| ≤ ‖x‖‖y‖ ≤ (‖x‖² + ‖y‖²) / 2. The bound uses three such sums and
    the definition three, with a few roundings each. 8(d + 8)u exceeds the total error, relative to ‖x‖² + ‖y‖² for the
    square of the Euclidean distance and relative to 1 for the cosine.
    """
    slack = 8 * (queries.vectors.shape[1] + 8) * 2.0**-53
    dots = queries.array.astype(np.float64) @ gallery.array.astype(np.float64).T
    if metric == Metric.EUCLIDEAN:
        sums = queries.squared_norms[:, None] + gallery.squared_norms
        dots *= -2
        dots += sums
        sums *= slack
        return np.sqrt(np.maximum(dots - sums, 0)), np.sqrt(np.maximum(dots + sums, 0))
    norms = np.sqrt(queries.squared_norms)[:, None] * np.sqrt(gallery.squared_norms)
    cosines = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return np.clip(1 - cosines - slack, 0, 2), np.clip(1 - cosines + slack, 0, 2)
