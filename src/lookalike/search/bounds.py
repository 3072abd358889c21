"""Vectors made ready for searching, and lower bounds of their distances at the speed of BLAS."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Int64, Shaped, UInt8

from lookalike.errors import UsageError
from lookalike.metric import Metric, paired, squared_norms
from lookalike.search.chunks import chunks
from lookalike.search.projection import Projection, shortened
from lookalike.search.scan import Precision, Scan, reduced

BUDGET = 64 * 2**20
"""Bytes that a tile may take beside its answer."""

CACHED = 2**16
"""Numbers measured at a time: a float64 array of so many stays in the processor's cache."""

_SAFE = (2.0**-80, 2.0**100)
"""Squared norms between which no step of the float32 bound overflows, or loses more than its margin to underflow."""

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_PRECISIONS = get_args(Precision)

_SHORT = 2**20
"""Dimension below which the margin of the float32 bound is small enough for the bound to say something."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """Vectors made ready by `prepare`: checked, and measured once for any number of searches.

    Attributes:
        vectors: float32, or uint8 for Hamming. A memory-mapped array stays one.
        squared_norms: of each vector; zeros for Hamming, which needs none.
        dtype: the precision in which lower bounds of these vectors can be computed.
        scan: the same vectors in fewer bytes, which a single query reads first.
        short: the same vectors in fewer dimensions, in which batches are compared first.
    """

    vectors: Float32[np.ndarray, "n d"] | UInt8[np.ndarray, "n d"]
    squared_norms: Float64[np.ndarray, " n"]
    dtype: "np.dtype[Any]" = field(default=_FLOAT32)
    scan: Scan | None = None
    short: Projection | None = None

    def __len__(self) -> int:
        """The number of vectors."""
        return len(self.vectors)

    def take(self, rows: slice | Int64[np.ndarray, " m"]) -> "Gallery":
        """These of its vectors, without checking or measuring them again."""
        return Gallery(self.vectors[rows], self.squared_norms[rows], self.dtype)

    def terms(self, metric: Metric, dtype: "np.dtype[Any]") -> Float[np.ndarray, " n"]:
        """What the rows have in their lower bounds beside the product: see `lower_bounds`. Remembered in their own dtype."""
        if dtype != self.dtype:
            return _terms(self, metric, dtype)
        return self._lengths if metric == Metric.EUCLIDEAN else self._inverses

    @cached_property
    def _lengths(self) -> Float[np.ndarray, " n"]:
        return _terms(self, Metric.EUCLIDEAN, self.dtype)

    @cached_property
    def _inverses(self) -> Float[np.ndarray, " n"]:
        return _terms(self, Metric.COSINE, self.dtype)


def prepare(vectors: Shaped[np.ndarray, "..."], metric: Metric, precision: Precision = "float32") -> Gallery:
    """Check vectors and compute what every search over them needs. It reads them once, block by block.

    What is prepared for Euclidean distance serves cosine distance too, and the other way round.

    Args:
        vectors: ``(n, d)``; real numbers, which are converted to float32 where they are something else, or for Hamming
            bits packed into uint8.
        metric: what they will be compared with.
        precision: int8 or float16 makes a copy in as many bits, which a single query reads in place of the vectors, and one
            in fewer dimensions, in which batches are compared first. Answers are the same, and come up to four times
            sooner where few bits and dimensions tell vectors apart; where they do not, there is no such copy. Both are of
            use to this metric alone, and Hamming has none.

    Raises:
        UsageError: another shape or type, or values that are infinite, NaN, or become so in float32.
    """
    vectors = np.asarray(vectors)
    if precision not in _PRECISIONS:
        raise UsageError(f"A scan reads {', '.join(_PRECISIONS)}, not “{precision}”.")
    if vectors.ndim != 2:  # noqa: PLR2004
        raise UsageError(f"Vectors come as an array of shape (n, d), not {vectors.shape}; one vector v is v[None].")
    if metric == Metric.HAMMING:
        if vectors.dtype != np.uint8:
            raise UsageError(
                f"Hamming distance compares bits, packed into uint8 (numpy.packbits), and these are {vectors.dtype}."
                " Choose another metric, or vectors of bits."
            )
        return Gallery(vectors, np.zeros(len(vectors)))
    if vectors.dtype.kind not in "fiu":
        raise UsageError(f"The {metric.unit} compares real numbers, not {vectors.dtype}; convert them to float32.")
    if vectors.dtype != np.float32:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused below
            vectors = vectors.astype(np.float32)
    norms = np.empty(len(vectors))
    for block in chunks(len(vectors), CACHED // (vectors.shape[1] + 1)):
        norms[block] = squared_norms(vectors[block])
    if not math.isfinite(norms.sum()):  # no float32 has a square that overflows float64, nor have all of them together
        bad = np.flatnonzero(~np.isfinite(norms))
        raise UsageError(f"Row {bad[0]} ({len(bad)} in all) holds NaN or infinite values; leave such vectors out.")
    safe = np.all((norms == 0) | ((norms > _SAFE[0]) & (norms < _SAFE[1]))) and vectors.shape[1] < _SHORT
    dtype = _FLOAT32 if safe else _FLOAT64
    short = shortened(vectors, metric) if safe and precision != "float32" else None
    return Gallery(vectors, norms, dtype, reduced(vectors, metric, precision), short)


def kth(
    bounds: Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"], k: int
) -> Float[np.ndarray, " q"] | Int32[np.ndarray, " q"]:
    """For each query a number that at least k of its bounds do not exceed, and few more; the largest if it has fewer.

    Of groups the k-th smallest minimum is such a number, and the minima are found much faster than the k-th smallest.
    """
    queries, rows = bounds.shape
    groups = 8 * k + 248
    if rows >= 2 * groups:
        bounds = bounds[:, : rows // groups * groups].reshape(queries, -1, groups).min(axis=1)
    elif rows <= k:
        return np.asarray(bounds.max(axis=1))
    return np.asarray(np.partition(bounds, k - 1, axis=1)[:, k - 1])


def measure(
    left: Gallery, right: Gallery, ours: Int64[np.ndarray, " n"], theirs: Int64[np.ndarray, " n"], metric: Metric
) -> Float32[np.ndarray, " n"]:
    """The distances of pairs of rows, by definition and rounded to float32."""
    distances, d = np.empty(len(ours), np.float32), left.vectors.shape[1]
    size = min(len(ours), max(1, CACHED // (d + 1)))
    # One memory for all parts: the system would take back what each part frees, and clear it for the next one.
    one, other, workspace = (np.empty((size, d), t) for t in (left.vectors.dtype, right.vectors.dtype, np.float64))
    with np.errstate(over="ignore"):  # beyond float32 there is only infinity
        for part in chunks(len(ours), size):
            n = len(ours[part])
            a, b = _taken(left.vectors, ours[part], one[:n]), _taken(right.vectors, theirs[part], other[:n])
            distances[part] = paired(a, b, metric, workspace=workspace[:n])
    return distances


def _taken(
    vectors: Shaped[np.ndarray, "n d"], rows: Int64[np.ndarray, " m"], out: Shaped[np.ndarray, "m d"]
) -> Shaped[np.ndarray, "m d"]:
    """These rows, in memory that is kept where that is possible."""
    if not vectors.flags.c_contiguous:  # `take` would copy all of it
        return np.asarray(vectors[rows])
    np.take(vectors, rows, axis=0, out=out, mode="clip")  # straight into `out` only where it clips
    return out


def lower_bounds(
    queries: Gallery,
    gallery: Gallery,
    metric: Metric,
    terms: Float[np.ndarray, " m"] | None = None,
    *,
    out: Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"] | None = None,
) -> Float[np.ndarray, "q m"] | Int32[np.ndarray, "q m"]:
    """A lower bound of each distance, less a constant of its query that `limits` takes into account.

    With s from `_slack`, x a query and y a row, as BLAS computes them (the rows' part may be given, as `Gallery.terms`):
    Euclidean, of the square: ‖x‖²(1 - s) + ‖y‖²(1 - s) - 2xy; here without its first term.
    Cosine: 1 - s - xy / ‖x‖‖y‖; here without 1 - s.
    Hamming: the distance itself.
    """
    if metric == Metric.HAMMING:
        return _differing_bits(queries.vectors, gallery.vectors, out)
    dtype = np.promote_types(queries.dtype, gallery.dtype)
    if terms is None:
        terms = gallery.terms(metric, dtype)
    factors = -2 if metric == Metric.EUCLIDEAN else -_inverse(np.sqrt(queries.squared_norms))[:, None]
    asked = (queries.vectors * factors).astype(dtype, copy=False)
    vectors = gallery.vectors.astype(dtype, copy=False)
    bounds: Float[np.ndarray, "q m"]
    bounds = (vectors @ asked[0])[None] if len(asked) == 1 else np.matmul(asked, vectors.T, out=out)
    if metric == Metric.EUCLIDEAN:
        bounds += terms
    else:
        bounds *= terms
    return bounds


def _terms(gallery: Gallery, metric: Metric, dtype: "np.dtype[Any]") -> Float[np.ndarray, " n"]:
    norms = gallery.squared_norms
    terms: Float64[np.ndarray, " n"]
    terms = (
        norms * (1 - _slack(len(gallery.vectors.T), dtype)) if metric == Metric.EUCLIDEAN else _inverse(np.sqrt(norms))
    )
    return terms.astype(dtype)


def limits(
    reach: Float32[np.ndarray, " #q"], queries: Gallery, metric: Metric, dtype: "np.dtype[Any]"
) -> Float[np.ndarray, " q"] | Int32[np.ndarray, " q"]:
    """What a query's lower bounds may not exceed for a distance to be within reach after rounding to float32."""
    if metric == Metric.HAMMING:
        return np.asarray(np.minimum(reach, np.float32(2**30)), np.int32)
    with np.errstate(over="ignore", under="ignore"):
        # What rounds to the reach is smaller than the next float32.
        limit = np.nextafter(reach, np.float32(np.inf)).astype(np.float64)
        slack = _slack(queries.vectors.shape[1], dtype)
        without = queries.squared_norms * (1 - slack) if metric == Metric.EUCLIDEAN else 1 - slack
        limit = (limit**2 if metric == Metric.EUCLIDEAN else limit) - without
        return np.asarray(np.nextafter(limit.astype(dtype), dtype.type(np.inf)))


def _slack(dimension: int, dtype: "np.dtype[Any]") -> float:
    """How far bound and distance may be wrong together, in proportion to ‖x‖² + ‖y‖² (Euclidean) or to 1 (cosine).

    A sum of d products, in any order, is wrong by at most gamma(d)·Σ|xᵢyᵢ|, where gamma(d) = du / (1 - du) and u is the unit
    roundoff (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1). Σ|xᵢyᵢ| ≤ ‖x‖‖y‖, and
    2‖x‖‖y‖ ≤ ‖x‖² + ‖y‖². Each rounding besides (of the norms, the scaled query, the last addition) adds one to d:
    fewer than 8 of them in the bound. The distance by definition takes three such sums in float64, two of which under
    a root: 2d and fewer than 16. Underflow, at most 2⁻¹²⁶ for each product, is less than one more u of a `_SAFE` norm.
    """

    def gamma(roundings: int, unit: float) -> float:
        return roundings * unit / (1 - roundings * unit)

    return gamma(dimension + 8, float(np.finfo(dtype).eps) / 2) + gamma(2 * dimension + 16, 2.0**-53)


def _inverse(norms: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """1 / norm; 0 for a zero vector, whose cosine is 0 by definition."""
    return np.asarray(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0))


def _differing_bits(
    a: UInt8[np.ndarray, "q bytes"], b: UInt8[np.ndarray, "m bytes"], out: Int32[np.ndarray, "q m"] | None
) -> Int32[np.ndarray, "q m"]:
    import faiss  # noqa: PLC0415 - reads for a seventh of a second, which searches without bits would wait for

    bits = np.zeros((len(a), len(b)), np.int32) if out is None else out
    if bits.size and a.shape[1]:
        a, b = _words(a), _words(b)
        faiss.hammings(  # type: ignore[attr-defined]
            faiss.swig_ptr(a), faiss.swig_ptr(b), len(a), len(b), a.shape[1], faiss.swig_ptr(bits)
        )
    return bits


def _words(codes: UInt8[np.ndarray, "n bytes"]) -> UInt8[np.ndarray, "n words"]:
    """In whole words of eight bytes; zeros fill the last."""
    return np.ascontiguousarray(np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8))) if codes.shape[1] % 8 else codes)
