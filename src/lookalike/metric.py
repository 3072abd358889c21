"""Metrics: their distances, units and similarities.

Smaller is closer, everywhere. A distance is a true distance: Euclidean, not its square; cosine distance ``1 - cos``;
Hamming in bits. These functions define the distances. `lookalike.search` computes exactly the same distances, faster.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, assert_never

import numpy as np

from lookalike.errors import UsageError
from lookalike.shapes import Float64, Shaped

Distance = TypeVar("Distance", float, np.ndarray)


class Metric(StrEnum):
    """A distance between two embeddings."""

    EUCLIDEAN = "euclidean"
    """‖a - b‖, in 0…∞."""
    COSINE = "cosine"
    """1 - cos(a, b), in 0…2. A zero vector has no direction: its distance is 1 to everything, itself included."""
    HAMMING = "hamming"
    """Number of differing bits of two packed codes (``numpy.packbits``), in 0…bits."""

    @classmethod
    def parse(cls, name: str) -> "Metric":
        """Find a metric by its name.

        Raises:
            UsageError: no metric has this name.
        """
        try:
            return cls(name.strip().lower())
        except (ValueError, AttributeError):
            raise UsageError(f"The metric {name!r} is unknown. Choose one of {', '.join(cls)}.") from None

    @property
    def unit(self) -> str:
        """The unit, for display after a distance."""
        match self:
            case Metric.EUCLIDEAN:
                return "Euclidean distance"
            case Metric.COSINE:
                return "cosine distance"
            case Metric.HAMMING:
                return "bits"
            case _:
                assert_never(self)

    @property
    def dtype(self) -> "np.dtype[np.float32] | np.dtype[np.uint8]":
        """The dtype of the vectors that the metric compares: float32 embeddings, or bits packed into uint8."""
        return np.dtype(np.uint8) if self is Metric.HAMMING else np.dtype(np.float32)


@dataclass(frozen=True)
class VectorSpace:
    """The metric and the dimension that vectors share in order to be compared.

    Attributes:
        metric: the default metric of a query.
        dimension: floats of a vector, or bits of a code for Hamming.
    """

    metric: Metric
    dimension: int

    @property
    def dtype(self) -> "np.dtype[np.float32] | np.dtype[np.uint8]":
        """The dtype of the arrays, see `Metric.dtype`."""
        return self.metric.dtype

    @property
    def columns(self) -> int:
        """Columns of an array of vectors: floats, or bytes of packed bits."""
        return -(-self.dimension // 8) if self.metric is Metric.HAMMING else self.dimension

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that can compare these vectors."""
        return tuple(metric for metric in Metric if metric.dtype == self.dtype)


def similarity(distances: Distance, metric: Metric, dimension: int) -> Distance:
    """Convert distances to similarities in 0…1, where 1 is distance 0.

    Euclidean ``1 / (1 + d)``, cosine ``1 - d / 2``, Hamming ``1 - d / bits``.

    Args:
        distances: a number, or an array of any shape.
        metric: the metric of the distances.
        dimension: number of floats, or of bits for Hamming, in an embedding.

    Returns:
        Similarities of the same shape and type.
    """
    match metric:
        case Metric.EUCLIDEAN:
            return 1 / (1 + distances)
        case Metric.COSINE:
            return 1 - distances / 2
        case Metric.HAMMING:
            return 1 - distances / dimension
        case _:
            assert_never(metric)


def similarity_to_distance(similarity: float, metric: Metric, dimension: int) -> float:
    """Convert a similarity to a distance, as the inverse of `similarity`.

    Args:
        similarity: in 0…1.
        metric: the metric of the distance.
        dimension: number of floats, or of bits for Hamming, in an embedding.

    Raises:
        UsageError: the similarity is not in 0…1.
    """
    if not 0 <= similarity <= 1:
        raise UsageError(f"A similarity lies between 0 and 1, not {similarity}. Did you mean a distance?")
    match metric:
        case Metric.EUCLIDEAN:
            return 1 / similarity - 1 if similarity else float("inf")
        case Metric.COSINE:
            return 2 * (1 - similarity)
        case Metric.HAMMING:
            return dimension * (1 - similarity)
        case _:
            assert_never(metric)


def pairwise(a: Shaped[np.ndarray, "n d"], b: Shaped[np.ndarray, "m d"], metric: Metric) -> Float64[np.ndarray, "n m"]:
    """Compute all distances between rows of ``a`` and rows of ``b`` in float64, for small input and tests.

    Args:
        a: embeddings, or codes packed into uint8.
        b: likewise.
        metric: the metric.
    """
    return np.stack([paired(row, b, metric) for row in a]) if len(a) else np.empty((0, len(b)))


def paired(
    a: Shaped[np.ndarray, "*#pairs d"],
    b: Shaped[np.ndarray, "*#pairs d"],
    metric: Metric,
    *,
    workspace: Float64[np.ndarray, "*pairs d"] | None = None,
) -> Float64[np.ndarray, "*pairs"]:
    """Compute the distances between ``a[i]`` and ``b[i]``, in float64.

    A distance depends on its two rows alone, to the last bit: neither their order nor other rows change it.

    Args:
        a: embeddings, or codes packed into uint8.
        b: likewise.
        metric: the metric.
        workspace: contiguous memory for intermediate results; many small calls save most of their time by sharing it.
    """
    match metric:
        case Metric.EUCLIDEAN:
            difference = np.subtract(a, b, dtype=np.float64, order="C", out=workspace)
            return np.asarray(np.sqrt(_sums_of_products(difference, difference, difference)))
        case Metric.COSINE:
            # √(s·s) equals s, so the distance of a vector to itself is 0.
            norms = np.sqrt(_sums_of_products(a, a, workspace) * _sums_of_products(b, b, workspace))
            dots = _sums_of_products(a, b, workspace)
            return np.asarray(np.clip(1 - np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0), 0, 2))
        case Metric.HAMMING:
            return np.asarray(np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.float64))
        case _:
            assert_never(metric)


def squared_norms(vectors: Shaped[np.ndarray, "*n d"]) -> Float64[np.ndarray, "*n"]:
    """Compute ‖v‖² of each row in float64, where no square of a float32 overflows or underflows."""
    return _sums_of_products(vectors, vectors)


def _sums_of_products(
    a: Shaped[np.ndarray, "*#pairs d"],
    b: Shaped[np.ndarray, "*#pairs d"],
    products: Float64[np.ndarray, "*pairs d"] | None = None,
) -> Float64[np.ndarray, "*pairs"]:
    # NumPy sums contiguous rows one by one, always in the same order. BLAS and einsum do not promise that.
    return np.asarray(np.multiply(a, b, dtype=np.float64, order="C", out=products).sum(axis=-1))


def format_distance(distance: float, metric: Metric) -> str:
    """Format a distance for display: whole bits, else two decimals, or two digits below 0.01."""
    if metric is Metric.HAMMING:
        return f"{distance:.0f}"
    return f"{distance:.2f}" if distance == 0 or distance >= 0.01 else f"{distance:.1e}"  # noqa: PLR2004 -- two decimals


def format_probability(probability: float | None) -> str:
    """Format a probability as a whole percentage, or as an empty string if it is unknown.

    The result lies in 1%…99%: a few thousand pairs of a calibration cannot prove more.
    """
    return "" if probability is None else f"{min(max(probability, 0.01), 0.99):.0%}"


def same_or_copy(kind: str | None) -> str:
    """Say in words what a genuine pair of a calibration is; see `lookalike.encoders.card.CalibrationKind`."""
    return "a copy" if kind == "copies" else "same"
