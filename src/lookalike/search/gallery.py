"""Prepared vectors, and the protocol of prefilters, which speed up searches over them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from lookalike.metric import Metric
from lookalike.search.coded import CodedVectors
from lookalike.shapes import Bool, Float, Float32, Float64, Int32, Int64, Shaped, UInt8

FLOAT32 = np.dtype(np.float32)

_SAFE_NORMS = (2.0**-80, 2.0**100)
"""Squared norms between which no step of the float32 bound overflows, or loses more than its margin to underflow."""

_LONG = 2**20
"""Dimension at which the margin of the float32 bound is too large to rule out any pair."""

Rows = slice | Int64[np.ndarray, " m"]
"""Rows of a gallery: a slice, or an ascending array."""

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]


class Candidates(Protocol):
    """The pairs (query, row) of one tile that may be near.

    A place is the index of a pair in the tile: ``query * m + column``, where ``m`` is the number of rows of the tile. A
    reach is the largest distance of interest, for each query or for all.
    """

    @property
    def complete(self) -> bool:
        """Whether `lowest` returned all places within its ``reach``."""
        ...

    def lowest(self, k: int, reach: Float32[np.ndarray, " #q"]) -> Int64[np.ndarray, " n"] | None:
        """Find the places with the lowest bounds: at least k of each query, or all within its reach.

        It returns none if comparing the vectors themselves is faster. Call it once, before `remaining`.
        """
        ...

    def remaining(self, reach: Float32[np.ndarray, " #q"]) -> Int64[np.ndarray, " n"]:
        """Find all places whose distance may be within ``reach``, except those that `lowest` returned."""
        ...

    def bounds_at(self, places: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"] | Int32[np.ndarray, " n"]:
        """Look up the lower bounds of places that `remaining` returned, for comparison with `limits`."""
        ...

    def limits(self, reach: Float32[np.ndarray, " #q"]) -> Float[np.ndarray, " #q"] | Int32[np.ndarray, " #q"]:
        """Compute the largest bound that a pair within ``reach`` can have."""
        ...


class BoundPrefilter(Protocol):
    """A prefilter with the queries of a batch."""

    @property
    def max_open(self) -> float:
        """Maximum share of a tile's pairs that are not ruled out; above it, comparing the vectors themselves is faster."""
        ...

    @property
    def row_bytes(self) -> int:
        """Bytes that `compare` copies for each row of an array of rows."""
        ...

    def compare(self, rows: Rows) -> Candidates:
        """Compare the queries with some rows of the gallery. The candidates are valid until the next call."""
        ...


class BoundSource(Protocol):
    """A compact form of a gallery that rules out most rows before their vectors are read.

    It is provably complete: it never rules out a row within the reach of a query, on any data. So it changes the time of an
    answer, and never the answer.
    """

    @property
    def precision(self) -> str:
        """The type of the compared numbers, such as ``"int8"``."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes read in one pass over the gallery."""
        ...

    def serves(self, metric: Metric, queries: int, *, subset: bool) -> bool:
        """Return whether the prefilter speeds up batches of this size, over all rows or over a subset."""
        ...

    def bind(self, queries: "Gallery", own: Rows | None = None) -> BoundPrefilter | None:
        """Prepare queries; none if the prefilter cannot bound their distances.

        Args:
            queries: of the same dimension.
            own: the rows of the gallery that are the queries, if they come from it.
        """
        ...


class Prefilter(BoundSource, Protocol):
    """A form of a gallery that is kept beside it, in a cache file, and follows its changes.

    The implementations are in `lookalike.search.prefilters`.
    """

    kind: ClassVar[str]
    """The prefilter's name in cache files."""

    def update(
        self, vectors: Shaped[np.ndarray, "n d"], rows: Int64[np.ndarray, " k"], known: Bool[np.ndarray, " n"]
    ) -> Self | None:
        """Return the prefilter of a changed gallery; none if it must be rebuilt.

        Args:
            vectors: of the changed gallery.
            rows: rows of this gallery that remain; their vectors are ``vectors[known]``, in this order.
            known: a mask of the vectors that are not new.
        """
        ...

    def save(self) -> tuple[dict[str, Any], dict[str, Shaped[np.ndarray, "..."]]]:
        """Return metadata for JSON, and arrays by name, from which `load` restores the prefilter."""
        ...

    @classmethod
    def load(cls, metadata: Mapping[str, Any], arrays: Arrays, shape: tuple[int, int]) -> Self:
        """Restore a prefilter of vectors of a shape ``(n, d)``; arrays may be memory-mapped.

        Raises:
            LookupError, TypeError, ValueError: another version saved it, or it is for other vectors.
        """
        ...


@dataclass(frozen=True, eq=False)
class Gallery:
    """Vectors prepared by `lookalike.search.prepare` for any number of searches: checked, with their norms.

    Attributes:
        vectors: float32, or uint8 for Hamming; or in codes. A memory-mapped array stays memory-mapped.
        squared_norms: of each vector; zeros for Hamming, which does not use them.
        dtype: the precision in which lower bounds of these vectors can be computed.
        prefilters: in order of preference; a batch uses the first one that serves it.
        code_bounds: codes of the vectors, in place of prefilters; see `lookalike.search.rescoring`.
    """

    vectors: Float32[np.ndarray, "n d"] | UInt8[np.ndarray, "n d"] | CodedVectors
    squared_norms: Float64[np.ndarray, " n"]
    dtype: "np.dtype[Any]" = field(default=FLOAT32)
    prefilters: tuple[Prefilter, ...] = ()
    code_bounds: BoundSource | None = None

    def __len__(self) -> int:
        """Count the vectors."""
        return len(self.vectors)

    @property
    def array(self) -> Float32[np.ndarray, "n d"] | UInt8[np.ndarray, "n d"]:
        """All vectors as an array, decoded."""
        return self.vectors[:] if isinstance(self.vectors, CodedVectors) else self.vectors

    def take(self, rows: Rows) -> "Gallery":
        """Select rows, without prefilters and without checking them again."""
        return Gallery(self.vectors[rows], self.squared_norms[rows], self.dtype)

    def prefilter(self, metric: Metric, queries: int, *, subset: bool = False) -> BoundSource | None:
        """Find the prefilter for a batch of this size, over all rows or over a subset; none if none serves it."""
        sources: tuple[BoundSource, ...] = self.prefilters if self.code_bounds is None else (self.code_bounds,)
        return next((source for source in sources if source.serves(metric, queries, subset=subset)), None)

    def terms(self, metric: Metric, dtype: "np.dtype[Any]") -> Float[np.ndarray, " n"]:
        """Compute the rows' terms of `lookalike.search.bounds.lower_bounds`; those in the gallery's own dtype are cached."""
        if dtype != self.dtype:
            return self._compute_terms(metric, dtype)
        return self._euclidean_terms if metric == Metric.EUCLIDEAN else self._cosine_terms

    @cached_property
    def _euclidean_terms(self) -> Float[np.ndarray, " n"]:
        return self._compute_terms(Metric.EUCLIDEAN, self.dtype)

    @cached_property
    def _cosine_terms(self) -> Float[np.ndarray, " n"]:
        return self._compute_terms(Metric.COSINE, self.dtype)

    def _compute_terms(self, metric: Metric, dtype: "np.dtype[Any]") -> Float[np.ndarray, " n"]:
        if metric == Metric.EUCLIDEAN:
            return (self.squared_norms * (1 - slack(self.vectors.shape[1], dtype))).astype(dtype)
        return inverse(np.sqrt(self.squared_norms)).astype(dtype)


def is_safe(squared_norms: Float64[np.ndarray, " n"], dimension: int) -> bool:
    """Return whether float32 suffices for lower bounds of vectors with these norms."""
    low, high = _SAFE_NORMS
    return dimension < _LONG and bool(np.all((squared_norms == 0) | ((squared_norms > low) & (squared_norms < high))))


@cache
def slack(dimension: int, dtype: "np.dtype[Any]") -> float:
    """Bound the rounding errors of a lower bound and its distance, relative to ‖x‖² + ‖y‖² (Euclidean) or 1 (cosine).

    A sum of d products, in any order, has an error of at most gamma(d)·Σ|xᵢyᵢ|, where gamma(d) = du / (1 - du) and u is
    the unit roundoff (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1). Σ|xᵢyᵢ| ≤ ‖x‖‖y‖,
    and 2‖x‖‖y‖ ≤ ‖x‖² + ‖y‖². Each further rounding (of the norms, the scaled query, the last addition) adds one to d;
    the bound has fewer than 8. The distance by definition takes three such sums in float64, two of them under a root,
    which makes 2d and fewer than 16 roundings. Underflow, at most 2⁻¹²⁶ for each product, is less than one more u of a
    norm that `is_safe` allows.
    """

    def gamma(roundings: int, unit: float) -> float:
        return roundings * unit / (1 - roundings * unit)

    return gamma(dimension + 8, float(np.finfo(dtype).eps) / 2) + gamma(2 * dimension + 16, 2.0**-53)


def inverse(norms: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Compute 1 / norm; 0 for a zero vector, whose cosine is 0 by definition."""
    return np.asarray(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0))
